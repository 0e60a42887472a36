//! `fieldtune watch`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use fieldtune::error::{Error, ErrorKind, Result};
use fieldtune::sandbox::{self, Needs};
use fieldtune::session::Predictor;
use fieldtune::watch::{self, Folder};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::args::{BackboneArgs, duration, percentage};
use crate::{head, predict, print, settings};

/// Flags of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The head file
    pub head: PathBuf,
    /// The folder where pictures, recordings or sensor files appear; sub-folders are not watched
    pub folder: PathBuf,
    /// Time between two looks at the folder; a file is labelled when two looks find it
    /// the same
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration)]
    pub interval: Duration,
    /// Where to note which files were labelled, so that a restart does not label them again
    /// [default: .fieldtune-watch in the folder]
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Also name a set of labels, as `predict --coverage` does
    #[arg(long, value_name = "SHARE", value_parser = percentage)]
    pub coverage: Option<f64>,
    /// Take only a head that is signed with this public key, and none older than one seen
    /// before
    #[arg(long, value_name = "KEY.pub")]
    pub trust: Option<PathBuf>,
    /// Stay root where root starts this; else it goes on as the owner of the folder
    #[arg(long)]
    pub keep_root: bool,
    /// The backbone.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Labels files as they appear, until SIGTERM or SIGINT, or until nobody reads.
///
/// # Errors
/// `BadInput` when head, folder or record cannot be read.
pub fn run(args: &WatchArgs) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|error| {
            let what = format_args!("signal {signal} cannot be waited for ({error}); run again");
            Error::new(ErrorKind::Failed, what)
        })?;
    }
    let head = head::open(&args.head, args.trust.as_deref())?;
    let session = settings::using(&backbone(args))?;
    let predictor = session.predictor(&head, &args.head)?;
    confine(args, &predictor)?;
    let mut folder = Folder::open(&args.folder, predictor.kind(), args.record.as_deref())?;
    let interval = args.interval.max(Duration::from_millis(1));
    watch::watch(
        &predictor,
        &mut folder,
        interval,
        &stop,
        &mut |path, told| {
            match told {
                Ok(prediction) => {
                    let line = predict::said(path, prediction, &head, args.coverage, args.json);
                    print::heard(&line)
                }
                Err(reason) => {
                    // The reason carries its own remedy.
                    print::note(&Error::new(
                        ErrorKind::BadInput,
                        format_args!("{}: {reason}", path.display()),
                    ));
                    Ok(true)
                }
            }
        },
    )
}

/// Keeps the process to what it still needs once head and backbone are read, so that a file
/// that turns out to be an attack reaches nothing else.
fn confine(args: &WatchArgs, predictor: &Predictor<'_>) -> Result<()> {
    predictor.load()?;
    if !args.keep_root {
        sandbox::become_owner_of(&args.folder)?;
    }
    let record = args.record.as_deref().and_then(Path::parent);
    // A record that is named without a folder lies in the one where this runs.
    let record = record.map(|folder| match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    });
    let cache = backbone(args).cache.filter(|it| it != Path::new("off"));
    let write: Vec<&Path> = [record.or(Some(&args.folder)), cache.as_deref()]
        .into_iter()
        .flatten()
        .collect();
    // Whether this kernel can is for `doctor` to say, once, not for every start.
    sandbox::confine(Needs {
        read: &[&args.folder],
        write: &write,
        read_all: args.backbone.follow_outside,
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
