//! Which flags would bring a job below a limit of memory, so that the refusal can say so.

use super::Place;
use crate::budget::format_size;
use crate::recipe::Shape;
use crate::session::Settings;
use crate::views::ViewSet;

/// A flag, and what it does.
type Change = (&'static str, fn(&mut Settings));

/// What may be changed. The first costs time only, the others may cost accuracy.
const CHANGES: [Change; 4] = [
    ("--threads 1", |settings| settings.threads = 1),
    ("--batch 8", |settings| settings.wishes.batch = Some(8)),
    ("--views original", |settings| {
        settings.wishes.views = Some(ViewSet::ORIGINAL);
    }),
    ("--head linear", |settings| {
        settings.wishes.tail = false;
        settings.wishes.shape = Some(Shape::Linear);
    }),
];

/// What to do about a job that needs more than the limit.
pub(super) fn remedy(place: &Place<'_>, settings: &Settings, limit_bytes: u64) -> String {
    let mut choices: Vec<usize> = (1..1 << CHANGES.len()).collect();
    // Few changes first, and of as many those of little harm.
    choices.sort_by_key(|choice| (choice.count_ones(), *choice));
    let mut least = None;
    for choice in choices {
        let chosen = |(index, _): &(usize, &Change)| choice >> index & 1 == 1;
        let mut lighter = settings.clone();
        let mut flags = Vec::new();
        for (_, (flag, change)) in CHANGES.iter().enumerate().filter(chosen) {
            change(&mut lighter);
            flags.push(*flag);
        }
        // What cannot be planned is no advice.
        let Ok(needs) = place.needs(&lighter) else {
            continue;
        };
        let bytes = needs.memory.total_bytes();
        if bytes <= limit_bytes {
            let size = format_size(bytes);
            return format!("raise --memory, or give {}: {size}", flags.join(" "));
        }
        if least.as_ref().is_none_or(|(fewest, _)| bytes < *fewest) {
            least = Some((bytes, flags));
        }
    }
    let least = least.map_or(String::new(), |(bytes, flags)| {
        format!(" ({} needs {})", flags.join(" "), format_size(bytes))
    });
    format!("raise --memory, or use a smaller --cut or --backbone{least}")
}
