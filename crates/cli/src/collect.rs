//! `fieldtune collect`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, SystemTime};

use clap::{ArgGroup, Args};
use fieldtune::collect::{self, Collection, Saved, Told, Trigger, Until, Wanted};
use fieldtune::error::{Error, ErrorKind, Result};
use fieldtune::sandbox::{self, Needs};
use fieldtune::senses::Kind;
use fieldtune::sound::USUAL_RATE_HZ;
use fieldtune::sources::{Live, Sample, utc};
use fieldtune::store;
use serde_json::json;

use crate::args::sources::{SourceArgs, keep};
use crate::args::{bytes, duration};
use crate::print;
use crate::watch::stopped_by_signals;

/// Flags of `collect`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").required(true)))]
pub struct CollectArgs {
    /// The folder of samples, with one sub-folder a class; made if it is not there
    pub samples: PathBuf,
    /// The class of what is collected
    #[arg(long, value_name = "LABEL")]
    pub label: String,
    /// The group of what is collected: the same plant, the same day, the same speaker
    /// [default: with --every the time when this begins, since such samples are alike; with
    /// Enter none]
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// The source.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Time from one sample to the next, such as 5s [default: one each time that Enter is
    /// pressed]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub every: Option<Duration>,
    /// Stop when the class has so many samples; those that are there count
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Stop after this time, such as 10m
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub time: Option<Duration>,
    /// Stop before the folder holds more than this, such as 500M
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub quota: Option<u64>,
    /// Samples a second of a microphone
    #[arg(long, value_name = "HZ", default_value_t = USUAL_RATE_HZ)]
    #[arg(value_parser = clap::value_parser!(u32).range(1_000..=384_000))]
    pub rate: u32,
    /// Stay root where root starts this; else it goes on as the owner of the folder
    #[arg(long)]
    pub keep_root: bool,
    /// Print one JSON object a sample
    #[arg(long)]
    pub json: bool,
}

/// Takes samples from a source into a folder, until it is enough, the source ends, or it is
/// told to stop.
///
/// # Errors
/// `BadInput` when the source cannot be read; `OverBudget` when the quota is used up; `Failed`
/// when the folder cannot be written.
pub fn run(args: &CollectArgs) -> Result<()> {
    let stop = stopped_by_signals()?;
    let device = args.source.device(args.rate)?;
    // Pictures are taken one by one; of sound and values windows are cut so far apart.
    let hop = args.every.filter(|_| device.kind != Kind::Picture);
    let splitter = args.source.cutting(hop).to_collect(&device, args.rate)?;
    store::make_folder(&args.samples)?;
    let kept = keep(&device)?;
    if !args.keep_root {
        sandbox::become_owner_of(&args.samples)?;
    }
    sandbox::confine(Needs {
        read: &[],
        write: &[&args.samples],
        ..Needs::default()
    })?;
    let run = args.every.map(|_| utc(SystemTime::now()).replace(':', ""));
    let group = args.group.as_ref().or(run.as_ref());
    let wanted = Wanted {
        samples: &args.samples,
        label: &args.label,
        group: group.map(String::as_str),
        quota_bytes: args.quota,
    };
    let mut collection = Collection::open(&wanted, device.kind)?;
    let until = Until {
        count: args.count,
        time: args.time,
    };
    let trigger = match args.every {
        Some(time) => Trigger::Every(time),
        None => Trigger::Key(keys()),
    };
    let live = Live::listen(kept, device, splitter);
    collect::collect(
        &live,
        &mut collection,
        (trigger, until),
        &stop,
        &mut |told| match told {
            Told::Saved(saved, sample) => print::heard(&said(args, &wanted, saved, sample)),
            Told::Note(note) => {
                print::note(&Error::new(ErrorKind::Failed, note));
                Ok(true)
            }
        },
    )
}

/// Receives something for each line of standard input.
fn keys() -> Receiver<()> {
    let (sender, receiver) = sync_channel(1);
    let input = std::io::stdin();
    if input.is_terminal() {
        print::note(&"Enter takes a sample, Ctrl-D ends");
    }
    std::thread::spawn(move || {
        let mut line = String::new();
        // A line that is no text ends it as an end does.
        while let Ok(1..) = input.read_line(&mut line) {
            line.clear();
            if sender.send(()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn said(args: &CollectArgs, wanted: &Wanted<'_>, saved: &Saved, sample: &Sample) -> String {
    if args.json {
        return print::json_line(&json!({
            "file": saved.path.to_string_lossy(),
            "label": wanted.label,
            "group": wanted.group,
            "time": utc(sample.time),
            "bytes": saved.bytes,
            "count": saved.count,
            "folder_bytes": saved.folder_bytes,
            "dropped": sample.dropped,
        }));
    }
    print::line(&format!(
        "{}: {} bytes, {} samples of {}",
        saved.path.display(),
        saved.bytes,
        saved.count,
        wanted.label
    ))
}
