//! `fieldtune watch`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{ArgGroup, Args};
use fieldtune::error::{Error, ErrorKind, Result};
use fieldtune::head::Head;
use fieldtune::mqtt::Publisher;
use fieldtune::sandbox::{self, Needs};
use fieldtune::session::Predictor;
use fieldtune::sound::USUAL_RATE_HZ;
use fieldtune::sources::{Live, require_kind, utc};
use fieldtune::watch::live::{Answer, Told, Wishes};
use fieldtune::watch::{self, Folder};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::args::mqtt::MqttArgs;
use crate::args::sources::{SourceArgs, keep};
use crate::args::{BackboneArgs, duration, percentage};
use crate::{head, predict, print, settings};

/// Flags of `watch`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").required(true)))]
pub struct WatchArgs {
    /// The head file
    pub head: PathBuf,
    /// The folder where pictures, recordings or sensor files appear; sub-folders are not watched
    #[arg(group = "source")]
    pub folder: Option<PathBuf>,
    /// A source in place of the folder.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Time between two looks at the folder, where a file is labelled when two looks find it
    /// the same; or between two pictures of a camera
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration)]
    pub interval: Duration,
    /// Time from the start of one window of a microphone or sensor to that of the next
    /// [default: half a window of sound; of sensors as in training]
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "folder")]
    pub hop: Option<Duration>,
    /// Tell a label of a source only when so many answers in a row agree, and again only when
    /// it changes; with 1 every answer is told
    #[arg(long, value_name = "K", default_value = "1", conflicts_with = "folder")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub agree: u32,
    /// Where to note which files were labelled, so that a restart does not label them again
    /// [default: .fieldtune-watch in the folder]
    #[arg(long, value_name = "FILE", requires = "folder")]
    pub record: Option<PathBuf>,
    /// Also name a set of labels, as `predict --coverage` does
    #[arg(long, value_name = "SHARE", value_parser = percentage)]
    pub coverage: Option<f64>,
    /// Take only a head that is signed with this public key, and none older than one seen
    /// before
    #[arg(long, value_name = "KEY.pub")]
    pub trust: Option<PathBuf>,
    /// Stay root where root starts this; else it goes on as the owner of the folder, or of the
    /// head where a source is watched
    #[arg(long)]
    pub keep_root: bool,
    /// Where to publish.
    #[command(flatten)]
    pub mqtt: MqttArgs,
    /// The backbone.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Labels files as they appear, or what a source gives, until SIGTERM or SIGINT, or until
/// nobody reads.
///
/// # Errors
/// `BadInput` when head, folder, record or source cannot be read; `Mismatch` when the source
/// gives samples of another kind than the head's.
pub fn run(args: &WatchArgs) -> Result<()> {
    let stop = stopped_by_signals()?;
    let head = head::open(&args.head, args.trust.as_deref())?;
    let session = settings::using(&backbone(args))?;
    let predictor = session.predictor(&head, &args.head)?;
    match &args.folder {
        Some(folder) => watch_folder(args, folder, &head, &predictor, &stop),
        None => watch_source(args, &head, &predictor, &stop),
    }
}

/// A switch that SIGTERM and SIGINT turn on.
///
/// # Errors
/// `Failed` when the system does not allow it.
pub fn stopped_by_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|error| {
            let what = format_args!("signal {signal} cannot be waited for ({error}); run again");
            Error::new(ErrorKind::Failed, what)
        })?;
    }
    Ok(stop)
}

fn watch_folder(
    args: &WatchArgs,
    folder: &Path,
    head: &Head,
    predictor: &Predictor<'_>,
    stop: &AtomicBool,
) -> Result<()> {
    let record = args.record.as_deref().and_then(Path::parent);
    // A record that is named without a folder lies in the one where this runs.
    let record = record.map(|folder| match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    });
    let mut publisher = publisher(args, head, folder)?;
    confine(args, predictor, folder, &[folder], record.or(Some(folder)))?;
    let mut folder = Folder::open(folder, predictor.kind(), args.record.as_deref())?;
    let interval = args.interval.max(Duration::from_millis(1));
    watch::watch(predictor, &mut folder, interval, stop, &mut |path, told| {
        match told {
            Ok(prediction) => tell(args, publisher.as_mut(), |json| {
                predict::said(path, prediction, head, args.coverage, json)
            }),
            Err(reason) => {
                // The reason carries its own remedy.
                let what = format_args!("{}: {reason}", path.display());
                print::note(&Error::new(ErrorKind::BadInput, what));
                Ok(true)
            }
        }
    })
}

fn watch_source(
    args: &WatchArgs,
    head: &Head,
    predictor: &Predictor<'_>,
    stop: &AtomicBool,
) -> Result<()> {
    let sense = predictor.sense();
    // Before anything is looked for that would be of no use.
    if let Some(kind) = args.source.kind() {
        require_kind(kind, sense, &args.head)?;
    }
    let sound = sense.sound();
    let rate_hz = sound.map_or(USUAL_RATE_HZ, |sound| sound.spectrum.sample_rate_hz);
    let device = args.source.device(rate_hz)?;
    let cutting = args.source.cutting(args.hop);
    let splitter = cutting.for_head(&device, sense)?;
    let kept = keep(&device)?;
    let mut publisher = publisher(args, head, &args.head)?;
    confine(args, predictor, &args.head, &[], None)?;
    let live = Live::listen(kept, device, splitter);
    let wishes = Wishes {
        interval: args.interval,
        agree: args.agree,
    };
    watch::live::watch(predictor, &live, wishes, stop, &mut |told| match told {
        Told::Answer(answer) => tell(args, publisher.as_mut(), |json| {
            said(args, live.name(), head, answer, json)
        }),
        Told::Note(note) => {
            print::note(&Error::new(ErrorKind::Failed, note));
            Ok(true)
        }
    })
}

/// The process that publishes, if one is wanted. Root becomes the owner of `owned` there too.
fn publisher(args: &WatchArgs, head: &Head, owned: &Path) -> Result<Option<Publisher>> {
    let owned = Some(owned).filter(|_| !args.keep_root);
    args.mqtt.publisher((head, &args.head), owned)
}

/// Publishes and prints a line, which `said` gives as JSON or as text; whether anybody reads.
fn tell(
    args: &WatchArgs,
    publisher: Option<&mut Publisher>,
    said: impl Fn(bool) -> String,
) -> Result<bool> {
    if let Some(publisher) = publisher {
        publisher.say(&said(true))?;
    }
    print::heard(&said(args.json))
}

/// An answer as a line, with its times.
fn said(args: &WatchArgs, name: &Path, head: &Head, answer: Answer<'_>, json: bool) -> String {
    let latency_ms = answer.latency.as_secs_f64() * 1000.0;
    if json {
        let more = json!({
            "time": utc(answer.time),
            "latency_ms": (10.0 * latency_ms).round() / 10.0,
            "per_second": answer.per_second,
            "dropped": answer.dropped,
        });
        return predict::said_with(name, answer.prediction, head, args.coverage, &more);
    }
    let line = predict::said(name, answer.prediction, head, args.coverage, false);
    format!(
        "{} {} ({latency_ms:.0} ms)\n",
        utc(answer.time),
        line.trim_end()
    )
}

/// Keeps the process to what it still needs once head and backbone are read, so that a sample
/// that turns out to be an attack reaches nothing else. Root becomes the owner of `owned`.
fn confine(
    args: &WatchArgs,
    predictor: &Predictor<'_>,
    owned: &Path,
    read: &[&Path],
    write: Option<&Path>,
) -> Result<()> {
    predictor.load()?;
    if !args.keep_root {
        sandbox::become_owner_of(owned)?;
    }
    let cache = backbone(args).cache.filter(|it| it != Path::new("off"));
    let write: Vec<&Path> = [write, cache.as_deref()].into_iter().flatten().collect();
    // Whether this kernel can is for `doctor` to say, once, not for every start.
    sandbox::confine(Needs {
        read,
        write: &write,
        read_all: args.backbone.follow_outside,
        network: false,
    })?;
    Ok(())
}

/// Each file has one turn, so keeping its features would only fill the medium.
fn backbone(args: &WatchArgs) -> BackboneArgs {
    let mut backbone = args.backbone.clone();
    let off = || Path::new("off").to_path_buf();
    backbone.cache = Some(backbone.cache.unwrap_or_else(off));
    backbone
}
