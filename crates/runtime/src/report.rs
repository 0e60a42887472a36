//! The report about a training job: one HTML file that needs no network and runs no
//! script, for a browser or a phone. What stands in it and in which order is here; how
//! it looks is in `report/`. Nothing is written to disk here.

mod curve;
mod page;
mod pictures;
mod plots;
mod suspects;
mod verdict;

use std::path::Path;

use crate::evaluation::Evaluation;
use crate::manifest::hexadecimal;
use crate::samples::Skipped;
use crate::search::{Found, Tried};
use crate::session::{Evaluated, Judged, Outcome};

use page::{count, listing, name, page, percent, section, size, table, text};

/// Mistakes shown with a picture.
const MOST_MISTAKES: usize = 12;
/// Right predictions shown with a picture.
const MOST_RIGHT: usize = 8;

/// Everything a report is made from.
pub struct Report<'a> {
    /// Heading.
    pub title: &'a str,
    /// What training brought.
    pub outcome: &'a Outcome,
    /// Folder or list of the samples.
    pub source: &'a Path,
    /// Where the head was written.
    pub head_file: &'a Path,
    /// The command that does the same again.
    pub command: &'a str,
    /// The head on samples it was not trained on, if there are such.
    pub test: Option<&'a Evaluated>,
    /// Samples with known truth, of which some right ones are shown as examples.
    pub predictions: &'a [Judged],
    /// Bytes of a sample's file, for its picture; `None` when there are none.
    pub read: &'a dyn Fn(&Path) -> Option<Vec<u8>>,
}

impl Report<'_> {
    /// The whole file. Text from outside is escaped and cut to a bounded length, so
    /// that the file stays below 5 MB whatever the samples are.
    pub fn html(&self) -> String {
        let body = [
            self.head(),
            self.expected(),
            self.test(),
            curve::enough(&self.outcome.curve),
            self.calibration(),
            self.mistakes(),
            suspects::suspects(&self.outcome.suspects, self.read),
            self.recognised(),
            self.skipped(),
            tried(&self.outcome.found, self.outcome.tail_left.as_deref()),
            self.cost(),
            self.again(),
        ];
        page(self.title, &body.concat())
    }

    /// The answer first: is the head of use?
    fn head(&self) -> String {
        let verdict = verdict::verdict(self.outcome.expected.as_ref());
        let head = &self.outcome.head;
        let mut lines = Vec::new();
        if let Some(expected) = &self.outcome.expected {
            lines.push(("Cross-validated", expected));
        }
        if let Some(test) = self.test {
            lines.push(("Test samples", &test.evaluation));
        }
        let plot = if lines.is_empty() {
            String::new()
        } else {
            plots::intervals(&lines)
        };
        format!(
            "<p class=\"verdict {}\">{}</p>\n<p>Trained on {} of {} from {}; written to {}.</p>\n\
             {}{plot}",
            verdict.class,
            verdict.sentence,
            count(self.outcome.samples, "sample"),
            classes(head.labels.len()),
            path(self.source),
            path(self.head_file),
            self.surprise(),
        )
    }

    /// A warning when test samples do worse than cross-validation lets expect.
    fn surprise(&self) -> String {
        let (Some(expected), Some(test)) = (&self.outcome.expected, self.test) else {
            return String::new();
        };
        if test.evaluation.n == 0 || test.evaluation.high >= expected.low {
            return String::new();
        }
        "<p><b>The test samples do worse than cross-validation lets expect.</b> They may \
         differ from the training samples, or training samples may be near copies of \
         each other.</p>\n"
            .into()
    }

    fn expected(&self) -> String {
        let Some(expected) = &self.outcome.expected else {
            return String::new();
        };
        let repeats = self
            .outcome
            .found
            .held_out()
            .map_or(1, |held_out| held_out.repeats);
        let mut lead = String::from("Every sample judged by a head that had not seen it.");
        if repeats > 1 {
            lead += &format!(
                " Each was judged {repeats} times, so the tables count it {repeats} times."
            );
        }
        let never = self.outcome.samples.saturating_sub(expected.n);
        if never > 0 {
            let what = count(never, "sample");
            lead += &format!(" Never held out, being all of their class or group: {what}.");
        }
        if self.outcome.found.tried.len() > 1 {
            lead +=
                " The recipe was chosen by the same samples, which flatters the figures a little.";
        }
        let body = format!("<p class=\"faint\">{lead}</p>\n{}", figures(expected));
        section("Cross-validation", &body)
    }

    fn test(&self) -> String {
        let Some(test) = self.test else {
            return String::new();
        };
        let lead = "<p class=\"faint\">Samples that were never trained on.</p>\n";
        let body = lead.to_owned() + &figures(&test.evaluation) + &left_out(&test.skipped);
        section("Test samples", &body)
    }

    /// From held-out samples; from test samples when none could be held out.
    fn calibration(&self) -> String {
        let outcome = self.outcome;
        let (judged, figures, which) = match (&outcome.expected, self.test) {
            (Some(expected), _) if !outcome.held_out.is_empty() => {
                (&outcome.held_out, expected, "held-out sample")
            }
            (_, Some(test)) if !test.judged.is_empty() => {
                (&test.judged, &test.evaluation, "test sample")
            }
            _ => return String::new(),
        };
        let body = format!(
            "<p>Of the samples it was 80 % sure of, 80 % should be right: dots on the \
             dashed line. Mean distance from it: {} (calibration error).</p>\n{}\
             <p class=\"faint\">{}; larger dots stand for more. Temperature {:.2}.</p>\n",
            percent(figures.ece),
            plots::calibration(judged),
            count(judged.len(), which),
            outcome.head.temperature,
        );
        section("How far its probabilities can be trusted", &body)
    }

    fn mistakes(&self) -> String {
        let tested = self.test.map_or(&[][..], |test| &test.judged);
        let judged = self
            .outcome
            .held_out
            .iter()
            .chain(tested)
            .chain(self.predictions);
        if judged.clone().next().is_none() {
            return String::new();
        }
        let worst = pictures::worst(judged, MOST_MISTAKES);
        let body = if worst.is_empty() {
            "<p>None on samples that were held out.</p>\n".into()
        } else {
            let lead = "<p class=\"faint\">Not seen in training and called wrong, the surest \
                        first. Look for wrong labels here.</p>\n";
            lead.to_owned() + &self.grid(&worst)
        };
        section("Worst mistakes", &body)
    }

    fn recognised(&self) -> String {
        let right = pictures::right(self.predictions);
        if right.is_empty() {
            return String::new();
        }
        let shown = pictures::spread(&right, MOST_RIGHT);
        let lead = format!(
            "<p class=\"faint\">{} of the {} right among {}.</p>\n",
            shown.len(),
            right.len(),
            count(self.predictions.len(), "prediction")
        );
        section("Recognised", &(lead + &self.grid(&shown)))
    }

    fn grid(&self, shown: &[&Judged]) -> String {
        pictures::grid(shown, &self.outcome.head.labels, self.read)
    }

    fn skipped(&self) -> String {
        if self.outcome.skipped.is_empty() {
            return String::new();
        }
        section("Files left out", &left_out(&self.outcome.skipped))
    }

    fn cost(&self) -> String {
        let (outcome, seconds) = (self.outcome, self.outcome.seconds);
        let second = |value: f64| format!("{value:.2} s");
        let peak = outcome
            .peak_rss_bytes
            .map_or_else(|| "not known here".into(), size);
        let features = format!(
            "Features ({} computed, {} from the cache)",
            outcome.computed, outcome.from_cache
        );
        let rows = [
            ("Training arena", size(outcome.arena_bytes)),
            ("Peak memory of the process", peak),
            (features.as_str(), second(seconds.features)),
            ("Search", second(seconds.search)),
            ("Final training", second(seconds.train)),
            ("Learning curve", second(seconds.curve)),
        ];
        let rows = rows.map(|(what, value)| (false, vec![text(what), value]));
        let mut body = table("", &["Part", "Taken"], &rows);
        if let Some(failure) = &outcome.cache_failure {
            body += &format!(
                "<p>The cache could not be kept: {}</p>\n",
                name(&failure.to_string())
            );
        }
        section("Memory and time", &body)
    }

    fn again(&self) -> String {
        let head = &self.outcome.head;
        let backbone = &head.backbone;
        let rows = [
            ["Program".into(), head.trained.program.clone()],
            ["Seed".into(), head.trained.seed.to_string()],
            ["Recipe".into(), head.trained.recipe.clone()],
            ["Backbone".into(), backbone.name.clone()],
            ["SHA-256".into(), hexadecimal(&backbone.sha256)],
            [
                "Cut".into(),
                format!("{}, {} features", backbone.cut, backbone.features),
            ],
            ["Preprocessing".into(), backbone.preprocessing.clone()],
            [
                "Called unknown though of a trained class, at most about".into(),
                percent(f64::from(head.unknown.false_alarms)),
            ],
        ];
        let command = format!("<pre>{}</pre>\n", text(self.command));
        let table = listing(["What", "Value"], rows.into_iter());
        section("The same again", &(command + &table))
    }
}

/// Probability of the class a sample was called, 0 to 1.
fn probability(judged: &Judged) -> f64 {
    let prediction = &judged.prediction;
    let said = prediction.probabilities.get(prediction.label).copied();
    let said = said.filter(|said| !said.is_nan()).unwrap_or(0.0);
    f64::from(said).clamp(0.0, 1.0)
}

fn path(path: &Path) -> String {
    format!("<b>{}</b>", name(&path.display().to_string()))
}

fn classes(number: usize) -> String {
    format!("{number} {}", if number == 1 { "class" } else { "classes" })
}

fn figures(figures: &Evaluation) -> String {
    format!(
        "<p>Accuracy <b>{}</b> (95 % interval {} to {}) on {}; log loss {:.3}.</p>\n\
         <h3>What was called what</h3>\n{}<h3>Each class</h3>\n{}",
        percent(figures.accuracy),
        percent(figures.low),
        percent(figures.high),
        count(figures.n, "sample"),
        figures.log_loss,
        plots::confusion(figures),
        plots::per_class(figures),
    )
}

fn left_out(skipped: &[Skipped]) -> String {
    if skipped.is_empty() {
        return String::new();
    }
    let lead = format!(
        "<p>{} could not be used.</p>\n",
        count(skipped.len(), "file")
    );
    let row = |file: &Skipped| [file.path.display().to_string(), file.reason.clone()];
    lead + &listing(["File", "Why"], skipped.iter().map(row))
}

/// What the search tried, in its order, and why it chose what it chose.
fn tried(found: &Found, tail_left: Option<&str>) -> String {
    // Without a choice no place in the list is right, and `why` says so.
    let why = why(found.chosen.unwrap_or(usize::MAX), &found.tried);
    let row = |(index, tried): (usize, &Tried)| {
        let chosen = found.chosen == Some(index);
        let mark = if chosen { " <b>(chosen)</b>" } else { "" };
        let cells = vec![
            name(&tried.recipe.to_string()) + mark,
            format!(
                "{:.3} ± {:.3}",
                tried.held_out.log_loss, tried.held_out.log_loss_error
            ),
            percent(tried.held_out.accuracy),
        ];
        (chosen, cells)
    };
    let rows: Vec<_> = found.tried.iter().enumerate().map(row).collect();
    let mut body = format!(
        "<p>Trained with: {}. {why}</p>\n",
        name(&found.recipe.to_string())
    );
    if !rows.is_empty() {
        body += &table("", &["Recipe", "Log loss", "Accuracy"], &rows);
        body += "<p class=\"faint\">Log loss: low when the right class gets a high \
                 probability; ± one standard error.</p>\n";
    }
    if found.skipped > 0 {
        let left = count(found.skipped, "recipe");
        body += &format!("<p>The time was over before {left} could be tried.</p>\n");
    }
    if let Some(reason) = tail_left {
        let reason = text(reason);
        body += &format!("<p>The backbone's own layers were not tried: {reason}.</p>\n");
    }
    section("What was tried", &body)
}

/// The rule is the search's: the first recipe, unless another is surely better.
fn why(chosen: usize, tried: &[Tried]) -> String {
    let (Some(first), Some(best)) = (tried.first(), tried.get(chosen)) else {
        return "Nothing could be compared, since no sample could be held out.".into();
    };
    if tried.len() == 1 {
        return "It was the only one tried.".into();
    }
    if chosen == 0 {
        return "It is the default, and no other gave the right classes of held-out samples so \
                much more probability that it was hardly chance: a log loss lower by one and a \
                half standard errors of the difference."
            .into();
    }
    format!(
        "Its log loss on held-out samples was {:.3}, the default's {:.3}: lower by more than one \
         and a half standard errors of the difference.",
        best.held_out.log_loss, first.held_out.log_loss,
    )
}

#[cfg(test)]
mod tests;
