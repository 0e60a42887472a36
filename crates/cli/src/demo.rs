//! `fieldtune demo`: the main job on samples that are part of the program.

use std::path::{Path, PathBuf};

use fieldtune::error::Result;
use fieldtune::features::Source;
use fieldtune::report::Report;
use fieldtune::samples::{Sample, SampleSet};
use fieldtune::session::Judged;
use fieldtune::store::{self, Lock};
use serde_json::json;

use crate::args::{BackboneArgs, DemoArgs, TrainingArgs};
use crate::progress::Bars;
use crate::{predict, print, settings, train};

include!(concat!(env!("OUT_DIR"), "/demo_samples.rs"));

/// Samples that the demo predicts one by one at the end.
const SHOWN: usize = 3;

/// Fine-tunes, evaluates on samples never trained on, predicts, writes a report.
///
/// # Errors
/// Whatever went wrong.
pub fn run(args: &DemoArgs) -> Result<()> {
    store::make_folder(&args.output)?;
    let head_path = args.output.join("ground.head");
    let report_path = args.output.join("report.html");
    let lock = Lock::take(&head_path)?;
    let backbone = BackboneArgs {
        cache: Some(args.output.join("cache")),
        ..BackboneArgs::default()
    };
    let session = settings::training(
        &TrainingArgs {
            backbone,
            ..TrainingArgs::default()
        },
        None,
    )?;
    let (train_set, test_set) = (bundled("train", TRAIN), bundled("test", TEST));
    let bars = Bars::new();
    let outcome = session.train(&train_set, &sources(&train_set, TRAIN), &bars);
    bars.finish();
    let outcome = outcome?;
    let file_bytes = session.save(&outcome, &head_path, &lock)?.head_bytes;
    let tested = sources(&test_set, TEST);
    let test = session.evaluate(&outcome.head, &head_path, &test_set, &tested, &bars);
    bars.finish();
    let test = test?;
    let step = test.judged.len() / SHOWN;
    let shown: Vec<Judged> = test
        .judged
        .iter()
        .step_by(step.max(1))
        .take(SHOWN)
        .cloned()
        .collect();
    let report = Report {
        title: "fieldtune demo: ground seen by a robot",
        outcome: &outcome,
        source: Path::new("bundled samples"),
        head_file: &head_path,
        command: "fieldtune demo",
        test: Some(&test),
        predictions: &shown,
        read: &bytes,
    };
    store::write_atomically(&report_path, report.html().as_bytes())?;
    if args.json {
        let mut document = train::document(&outcome, &head_path, Some(&report_path));
        document["test"] = print::evaluation_json(&test.evaluation);
        document["predictions"] = json!(
            shown
                .iter()
                .map(|judged| predict::object(&judged.path, &judged.prediction, &outcome.head))
                .collect::<Vec<_>>()
        );
        return print::document(&document);
    }
    let mut out = train::summary(&outcome, &head_path, file_bytes, Some(&report_path));
    out += &format!(
        "on samples it never saw: {}\n",
        print::accuracy(&test.evaluation)
    );
    for judged in &shown {
        out += &predict::line(&judged.path, &judged.prediction, &outcome.head);
    }
    print::text(&out)
}

/// Name and content of one bundled file; the name is CLASS/NUMBER.jpg.
type Bundled = (&'static str, &'static [u8]);

fn bundled(part: &str, files: &[Bundled]) -> SampleSet {
    let class = |name: &str| name.split('/').next().unwrap_or_default().to_string();
    let mut labels: Vec<String> = files.iter().map(|(name, _)| class(name)).collect();
    labels.sort();
    labels.dedup();
    let sample = |(name, _): &Bundled| Sample {
        path: PathBuf::from(part).join(name),
        label: labels
            .iter()
            .position(|label| *label == class(name))
            .unwrap_or(0),
        group: None,
        part: None,
    };
    let samples = files.iter().map(sample).collect();
    SampleSet {
        source: PathBuf::from("bundled samples"),
        labels,
        samples,
        skipped: Vec::new(),
    }
}

fn sources<'a>(set: &'a SampleSet, files: &[Bundled]) -> Vec<Source<'a>> {
    let pairs = set.samples.iter().zip(files);
    pairs
        .map(|(sample, (_, bytes))| Source {
            path: &sample.path,
            label: sample.label,
            bytes: Some(bytes),
            part: None,
        })
        .collect()
}

fn bytes(path: &Path) -> Option<Vec<u8>> {
    let parts = [("train", TRAIN), ("test", TEST)];
    parts.into_iter().find_map(|(part, files)| {
        let name = path.strip_prefix(part).ok()?;
        let (_, bytes) = files.iter().find(|(file, _)| Path::new(file) == name)?;
        Some(bytes.to_vec())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_and_test_samples_are_different_photographs_of_the_same_classes() {
        let (train, test) = (bundled("train", TRAIN), bundled("test", TEST));
        assert_eq!(train.labels, ["brick", "grass", "gravel"]);
        assert_eq!(train.labels, test.labels);
        assert!(
            train
                .counts()
                .iter()
                .chain(&test.counts())
                .all(|count| *count >= 5)
        );
        assert!(
            TRAIN
                .iter()
                .all(|(_, bytes)| TEST.iter().all(|(_, other)| bytes != other))
        );
        let first = &train.samples[0].path;
        assert_eq!(bytes(first).as_deref(), Some(TRAIN[0].1));
    }
}
