//! The samples that somebody should look at, as pictures where that helps.

use std::path::Path;

use crate::suspects::{Kind, Suspect};

use super::page::{count, listing, name, section};
use super::pictures::thumbnail_or_box;

/// Suspects shown with a picture.
const MOST_PICTURES: usize = 12;

/// The section; nothing when nothing is suspected. `read` gives a file's bytes.
pub(super) fn suspects(suspects: &[Suspect], read: &dyn Fn(&Path) -> Option<Vec<u8>>) -> String {
    if suspects.is_empty() {
        return String::new();
    }
    let (mut shown, mut listed): (Vec<&Suspect>, Vec<&Suspect>) = suspects
        .iter()
        .partition(|suspect| has_picture(suspect.kind));
    listed.extend(shown.iter().skip(MOST_PICTURES));
    shown.truncate(MOST_PICTURES);
    let mut body = format!(
        "<p>{} to look at before the figures above are trusted. None was left out of \
         training for it.</p>\n",
        count(suspects.len(), "finding")
    );
    if !shown.is_empty() {
        let figures: String = shown.iter().map(|suspect| figure(suspect, read)).collect();
        body += &format!("<div class=\"pictures\">\n{figures}</div>\n");
    }
    if !listed.is_empty() {
        let row = |suspect: &&Suspect| {
            let file = suspect.path.display();
            [
                format!("{file}: {}", suspect.detail),
                suspect.kind.advice().into(),
            ]
        };
        body += &listing(["Sample", "What to do"], listed.iter().map(row));
    }
    section("Suspects", &body)
}

/// Whether looking at the file helps.
fn has_picture(kind: Kind) -> bool {
    !matches!(kind, Kind::Unreadable | Kind::TooFew | Kind::Imbalance)
}

fn figure(suspect: &Suspect, read: &dyn Fn(&Path) -> Option<Vec<u8>>) -> String {
    let picture = |path: &Path| thumbnail_or_box(read(path), path);
    let other = suspect.other.as_deref().map(picture).unwrap_or_default();
    format!(
        "<figure>{}{other}<figcaption><b>{}</b><br>{}<br>{}</figcaption></figure>\n",
        picture(&suspect.path),
        name(suspect.kind.advice()),
        name(&suspect.detail),
        name(&suspect.path.display().to_string()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspect(kind: Kind, path: &str, other: Option<&str>) -> Suspect {
        Suspect {
            kind,
            path: path.into(),
            other: other.map(Into::into),
            detail: "<i>why</i>".into(),
            score: 0.0,
        }
    }

    #[test]
    fn a_dozen_is_shown_and_the_rest_listed() {
        let mut found: Vec<Suspect> = (0..20)
            .map(|number| suspect(Kind::Mislabelled, &format!("{number}.png"), None))
            .collect();
        found.push(suspect(Kind::TooFew, "samples", None));
        let html = suspects(&found, &|_| None);
        assert_eq!(html.matches("<figure>").count(), MOST_PICTURES);
        assert_eq!(html.matches("<tr>").count(), 1 + 8 + 1);
        assert!(html.contains("21 findings") && !html.contains("<i>"));
        assert_eq!(suspects(&[], &|_| None), "");
    }

    #[test]
    fn both_pictures_of_a_pair_are_shown() {
        let html = suspects(&[suspect(Kind::Duplicate, "a", Some("b"))], &|_| None);
        assert_eq!(html.matches("no picture").count(), 2);
    }
}
