//! Does a head that grows forget? `cargo bench --bench growing [-- DRAWS]`.
//!
//! Steel surface defects (`../shared/data/neu-surface-defects`): a head of 4 classes,
//! drawn anew each time, 10 samples each, grows by the other 2 classes, 10 samples each;
//! another one is trained on all 6 at once. Measured on all samples of the 4 old classes
//! that nothing was trained on: accuracy before; after, among the old classes alone; after,
//! among all 6; and that of the head trained at once. The jobs are those of
//! `fieldtune train` without flags and with `--from`. Results go to
//! `benches/results/growing.json`.

use std::path::Path;

use fieldtune::cache::Cache;
use fieldtune::features::Source;
use fieldtune::head::Head;
use fieldtune::model::Model;
use fieldtune::samples::{Sample, SampleSet};
use fieldtune::search::DEFAULT_TIME;
use fieldtune::session::{Judged, Session, Settings, Silent};
use fieldtune::store::Lock;
use fieldtune_benches::statistics::Estimate;
use fieldtune_benches::{Failure, keep, machine, results, shared, work_folder};
use fieldtune_core::random::Random;
use serde_json::json;

/// Classes before growing.
const OLD: usize = 4;
/// Training samples a class.
const EACH: usize = 10;

fn main() -> Result<(), Failure> {
    let draws = std::env::args().find_map(|a| a.parse().ok()).unwrap_or(20);
    let all = SampleSet::open(&shared("data/neu-surface-defects")?)?;
    let folder = tempfile::tempdir()?;
    let mut rows: Vec<[f64; 5]> = Vec::new();
    for draw in 0..draws {
        let row = draw_one(&all, folder.path(), draw)?;
        eprintln!("{draw}: {row:.4?}");
        rows.push(row);
    }
    let names = [
        "before, old samples",
        "grown, old samples, among old classes",
        "grown, old samples, among all classes",
        "at once, old samples, among all classes",
        "change among old classes",
    ];
    let mut report = json!({"machine": machine(), "draws": draws});
    for (index, name) in names.iter().enumerate() {
        let values: Vec<f64> = rows.iter().map(|row| 100.0 * row[index]).collect();
        let estimate = Estimate::of(&values);
        println!("{name:42} {:6.2} ± {:.2}", estimate.mean, estimate.half);
        report[*name] = json!({"mean": estimate.mean, "half": estimate.half, "all": values});
    }
    let path = results().join("growing.json");
    keep(&path, &report)?;
    println!("written: {}", path.display());
    Ok(())
}

fn draw_one(all: &SampleSet, folder: &Path, draw: u64) -> Result<[f64; 5], Failure> {
    let mut random = Random::new(0x6e0 + draw);
    let mut classes: Vec<usize> = (0..all.labels.len()).collect();
    random.shuffle(&mut classes);
    let mut samples: Vec<Vec<&Sample>> = vec![Vec::new(); classes.len()];
    all.samples
        .iter()
        .for_each(|sample| samples[sample.label].push(sample));
    samples
        .iter_mut()
        .for_each(|samples| random.shuffle(samples));
    let (old, new) = classes.split_at(OLD);
    let part = |classes: &[usize], from: usize, to: usize| set(all, classes, &samples, from, to);
    let session = session(draw)?;
    let [first, grown, at_once] =
        ["first", "grown", "at-once"].map(|name| folder.join(format!("{name}-{draw}.head")));
    let train = |set: &SampleSet| session.train(set, &Source::of_set(set), &Silent);
    session.save(&train(&part(old, 0, EACH))?, &first, &Lock::take(&first)?)?;
    let more = part(new, 0, EACH);
    let outcome = session.grow(&first, &more, &Source::of_set(&more), &Silent)?;
    session.save(&outcome, &grown, &Lock::take(&grown)?)?;
    session.save(
        &train(&part(&classes, 0, EACH))?,
        &at_once,
        &Lock::take(&at_once)?,
    )?;
    let test = part(old, EACH, usize::MAX);
    let measure = |path: &Path| -> Result<[f64; 2], Failure> {
        let head = Head::load(path)?;
        let sources = Source::of_set(&test);
        let found = session.evaluate(&head, path, &test, &sources, &Silent)?;
        Ok([
            found.evaluation.accuracy,
            among(&head, &test.labels, &found.judged),
        ])
    };
    let (before, grown, at_once) = (measure(&first)?, measure(&grown)?, measure(&at_once)?);
    Ok([
        before[0],
        grown[1],
        grown[0],
        at_once[0],
        grown[1] - before[0],
    ])
}

/// As `fieldtune train` does without flags, features kept between draws.
fn session(seed: u64) -> Result<Session, Failure> {
    let settings = Settings {
        seed,
        threads: 2,
        time: DEFAULT_TIME,
        ..Settings::default()
    };
    let cache = Cache::open(&work_folder("field").join("cache"))?;
    Ok(Session::new(Model::embedded()?, cache, settings))
}

/// Some samples of some classes, labels sorted as in a folder.
fn set(
    all: &SampleSet,
    classes: &[usize],
    samples: &[Vec<&Sample>],
    from: usize,
    to: usize,
) -> SampleSet {
    let mut classes = classes.to_vec();
    classes.sort_unstable();
    let chosen = classes.iter().enumerate().flat_map(|(label, class)| {
        let samples = samples[*class].iter().take(to).skip(from);
        samples.map(move |sample| Sample {
            label,
            ..(*sample).clone()
        })
    });
    SampleSet {
        source: all.source.clone(),
        samples: chosen.collect(),
        labels: classes
            .iter()
            .map(|class| all.labels[*class].clone())
            .collect(),
        skipped: Vec::new(),
    }
}

/// Share recognised when only `labels` may be said.
fn among(head: &Head, labels: &[String], judged: &[Judged]) -> f64 {
    let allowed = |class: &usize| labels.contains(&head.labels[*class]);
    let right = judged.iter().filter(|one| {
        let probability = |class: usize| one.prediction.probabilities[class];
        let classes = (0..head.labels.len()).filter(allowed);
        let said = classes.max_by(|a, b| probability(*a).total_cmp(&probability(*b)));
        said == Some(one.truth)
    });
    right.count() as f64 / judged.len().max(1) as f64
}
