//! The published figures with our own engine, networks trained whole from raw pixels:
//! error against the number of training samples, for layer-wise decay and for
//! adversarial features. `cargo bench --bench small-data [-- --only NAME] [--threads N]`;
//! `--list` says what is done and what is left, `--short` is for continuous integration.
//!
//! Data: `../shared/data/mnist` and `../shared/data/cifar10`; without them it says so and
//! ends well. Every finished run is appended to `benches/results/small-data-runs.jsonl`, so
//! the bench goes on where it was stopped; delete the file to begin anew, as after a change
//! of the engine. Tables and curves go to `benches/results/small-data-*`.
//!
//! Settings (lambda, epsilon, strength of augmentation) are chosen on held-out training
//! samples, as many tried for each method; the test images choose nothing. See `studies`
//! for what is compared, `study` for how it is chosen, `training` for one run.

mod augment;
mod data;
mod journal;
mod nets;
mod report;
mod setting;
mod studies;
mod study;
mod training;
mod work;

use std::path::PathBuf;

use clap::Parser;
use data::{DataSet, Source};
use fieldtune_benches::{Failure, results, work_folder};
use journal::Journal;
use report::Report;
use study::Study;

/// Error against the number of training samples, from raw pixels.
#[derive(Parser)]
struct Arguments {
    /// About a minute on one core: shows that everything works, writes no results.
    #[arg(long)]
    short: bool,
    /// Only studies whose names begin like this.
    #[arg(long, default_value = "")]
    only: String,
    /// Runs at the same time; results do not depend on it.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Draws of each setting, fewer than the study has; more can follow later.
    #[arg(long)]
    seeds: Option<u64>,
    /// Only so many training samples at most; more can follow later.
    #[arg(long)]
    most: Option<usize>,
    /// Say what is done and what is left, and do nothing.
    #[arg(long)]
    list: bool,
    /// Make no runs, write what the finished ones say.
    #[arg(long)]
    report: bool,
    /// Where finished runs are kept.
    #[arg(long)]
    journal: Option<PathBuf>,
    /// Given by cargo; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let folder = work_folder("small-data");
    std::fs::create_dir_all(&folder)?;
    let kept = arguments
        .journal
        .unwrap_or(results().join("small-data-runs.jsonl"));
    let mut journal = Journal::open((!arguments.short).then_some(kept.as_path()))?;
    let studies = if arguments.short {
        println!("short form: a few runs to show that everything works; nothing is written");
        studies::short()
    } else {
        studies::all()
    };
    let mut studies = studies;
    studies.retain(|study| study.name.starts_with(&arguments.only));
    for study in &mut studies {
        let most = arguments.most.unwrap_or(usize::MAX);
        study.sizes.retain(|size| size.samples <= most);
        study.seeds = arguments.seeds.unwrap_or(study.seeds).min(study.seeds);
    }
    let threads = arguments.threads.max(1);
    if arguments.list {
        studies
            .iter()
            .for_each(|study| list(study, &journal, threads));
        return Ok(());
    }
    let mut opened: Option<(Source, DataSet)> = None;
    for study in &studies {
        if !arguments.report {
            if let Err(missing) = study.source.available() {
                println!("{} skipped: {missing}", study.name);
                continue;
            }
            let data = match opened.take() {
                Some((source, data)) if source == study.source => data,
                _ => DataSet::open(study.source, &folder)?,
            };
            list(study, &journal, threads);
            work::complete(study, &data, &mut journal, threads)?;
            opened = Some((study.source, data));
        }
        let report = Report::new(study, &journal);
        println!("\n{}", report.markdown());
        if !arguments.short {
            write(study, &report)?;
        }
    }
    Ok(())
}

fn list(study: &Study, journal: &Journal, threads: usize) {
    let mut left = study.missing(journal);
    left.extend(study.later(journal));
    println!(
        "{}: about {} runs left, {:.0} minutes on {threads} threads",
        study.name,
        left.len(),
        work::estimate(&left, journal, threads) / 60.0
    );
}

fn write(study: &Study, report: &Report<'_>) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(&report.json())? + "\n";
    let mut files = vec![
        (".md".to_string(), report.markdown()),
        (".json".to_string(), json),
        (".svg".to_string(), report.curves()),
    ];
    for (samples, picture) in report.sweep_curves() {
        files.push((format!("-sweep-{samples}.svg"), picture));
    }
    for (end, text) in files {
        let path = results().join(format!("small-data-{}{end}", study.name));
        std::fs::write(&path, text)?;
        println!("written: {}", path.display());
    }
    Ok(())
}
