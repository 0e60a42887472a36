//! `fieldtune device`.

use std::path::Path;

use fieldtune::budget::format_size;
use fieldtune::device::{self, Client, Info, Outcome, windows};
use fieldtune::error::{Error, ErrorKind, Result};
use fieldtune::features::Source;
use fieldtune::head::{Head, Prediction};
use fieldtune::signature::Trust;
use fieldtune::store::{self, Lock, Store};
use fieldtune::versions::Versions;
use serde_json::{Value, json};

use crate::args::{
    DeviceCommand, DeviceLoadArgs, DevicePredictArgs, DeviceSaveArgs, DeviceTrainArgs, LineArgs,
};
use crate::progress::Bars;
use crate::{predict, print, settings};

/// Runs one of the commands.
///
/// # Errors
/// Whatever went wrong.
pub fn run(command: &DeviceCommand) -> Result<()> {
    match command {
        DeviceCommand::Info(args) => info(args),
        DeviceCommand::FlashLayout(args) => flash_layout(args),
        DeviceCommand::Train(args) => train(args),
        DeviceCommand::Predict(args) => label(args),
        DeviceCommand::Load(args) => load(args),
        DeviceCommand::Save(args) => save(args),
    }
}

fn open(args: &LineArgs) -> Result<(Client, Info)> {
    Client::open(&args.port, args.baud)
}

fn info(args: &LineArgs) -> Result<()> {
    let (_, info) = open(args)?;
    let limits = &info.limits;
    let rows = [
        ("samples", "samples", limits.samples),
        ("batch", "samples a step", limits.batch.into()),
        ("sample_bytes", "bytes a sample", limits.sample_bytes),
        ("job_bytes", "bytes of names and settings", limits.job_bytes),
        (
            "workspace_bytes",
            "bytes of all samples",
            limits.workspace_bytes,
        ),
        (
            "arena_bytes",
            "bytes of the training arena",
            4 * limits.arena_elements,
        ),
        ("head_bytes", "bytes of a head", limits.head_bytes),
        (
            "arena_used_bytes",
            "bytes of the arena were in use at most",
            info.arena_used_bytes,
        ),
        ("stack_bytes", "bytes of stack", info.stack_bytes),
        (
            "stack_used_bytes",
            "bytes of the stack were in use at most",
            info.stack_used_bytes,
        ),
    ];
    if args.json {
        let mut document = json!({"program": info.program, "board": info.board});
        for (name, _, value) in rows {
            document[name] = json!(value);
        }
        return print::document(&document);
    }
    let mut out = print::line(&format!("{} on {}", info.program, info.board));
    for (_, words, value) in rows {
        out += &format!("{value:>9} {words}\n");
    }
    print::text(&out)
}

fn flash_layout(args: &LineArgs) -> Result<()> {
    let (mut client, info) = open(args)?;
    let (slots, active) = client.slots()?;
    let limits = &info.limits;
    let slot = |index: usize| {
        slots[index].map(|state| {
            json!({
                "counter": state.counter,
                "head_bytes": state.head_bytes,
                "checksum": format!("{:08x}", state.checksum),
            })
        })
    };
    if args.json {
        let listed = (0..slots.len()).map(|index| {
            json!({
                "offset_bytes": index * limits.slot_bytes as usize,
                "active": active == Some(index),
                "head": slot(index),
            })
        });
        return print::document(&json!({
            "page_bytes": limits.page_bytes,
            "slot_bytes": limits.slot_bytes,
            "slots": listed.collect::<Vec<Value>>(),
        }));
    }
    let mut out = format!("pages of {} bytes\n", limits.page_bytes);
    for (index, state) in slots.iter().enumerate() {
        let offset = index * limits.slot_bytes as usize;
        let what = match state {
            None => "empty".into(),
            Some(state) => format!(
                "head number {}, {} bytes, checksum {:08x}{}",
                state.counter,
                state.head_bytes,
                state.checksum,
                if active == Some(index) {
                    ", in use"
                } else {
                    ""
                }
            ),
        };
        out += &format!(
            "slot {index} at {offset:#x}, {} bytes: {what}\n",
            limits.slot_bytes
        );
    }
    print::text(&out)
}

fn train(args: &DeviceTrainArgs) -> Result<()> {
    let session = settings::training(&args.training(), None)?;
    store::require_writable(&args.output)?;
    let lock = Lock::take(&args.output)?;
    let bars = Bars::new();
    let outcome = match args.window {
        Some(length) => {
            let windows = windows::read_folder(&args.samples, length)?;
            let (mut client, info) = open(&args.line)?;
            let (wishes, seed) = (&session.settings().wishes, session.settings().seed);
            device::train_on_windows(&mut client, &info.limits, &windows, wishes, seed, &bars)
        }
        None => {
            let set = settings::samples(&args.samples, &args.backbone)?;
            let (mut client, info) = open(&args.line)?;
            session.train_on_device(&mut client, &info.limits, &set, &bars)
        }
    };
    bars.finish();
    let outcome = outcome?;
    print::skipped(&outcome.skipped);
    keep(&outcome.bytes, &args.output, &lock)?;
    if args.line.json {
        return print::document(&document(&outcome, &args.output));
    }
    print::text(&summary(&outcome, &args.output))
}

/// Writes a head file that came from a device; the one it replaces is kept.
fn keep(bytes: &[u8], path: &Path, _lock: &Lock) -> Result<()> {
    Versions::of(&Store::default(), path).replace(bytes)
}

fn document(outcome: &Outcome, head: &Path) -> Value {
    let [features, sending, training] = outcome.seconds;
    json!({
        "head": head,
        "classes": outcome.head.labels,
        "samples": outcome.samples,
        "skipped": outcome.skipped.len(),
        "recipe_text": outcome.recipe,
        "loss": outcome.loss,
        "counter": outcome.slot.counter,
        "head_bytes": outcome.slot.head_bytes,
        "arena_bytes": outcome.arena_bytes,
        "stack_used_bytes": outcome.stack_used_bytes,
        "seconds": {"features": features, "sending": sending, "train": training},
    })
}

fn summary(outcome: &Outcome, head: &Path) -> String {
    let labels = outcome.head.labels.join(", ");
    let classes = outcome.head.labels.len();
    let mut out = print::line(&format!(
        "trained on the device on {} samples of {classes} classes: {labels}",
        outcome.samples
    ));
    out += "how good it is was not measured: label samples that it was not trained on\n";
    out += &print::line(&format!("recipe: {}", outcome.recipe));
    let [features, sending, training] = outcome.seconds;
    out += &format!(
        "features {features:.1} s, sending {sending:.1} s, training {training:.1} s; on the device: arena {}, stack {}\n",
        format_size(outcome.arena_bytes.into()),
        format_size(outcome.stack_used_bytes.into())
    );
    let bytes = format_size(outcome.slot.head_bytes.into());
    out + &print::line(&format!("head: {} ({bytes})", head.display()))
}

fn load(args: &DeviceLoadArgs) -> Result<()> {
    let trust = args.trust.as_deref().map(Trust::load).transpose()?;
    let opened = Versions::of(&Store::default(), &args.head).open(trust.as_ref())?;
    if let Some(note) = &opened.returned {
        print::note(note);
    }
    let (mut client, info) = open(&args.line)?;
    let slot = device::load(&mut client, &info.limits, &opened.bytes, &args.head)?;
    if args.line.json {
        let counter = slot.counter;
        return print::document(&json!({"counter": counter, "head_bytes": slot.head_bytes}));
    }
    let (counter, bytes) = (slot.counter, slot.head_bytes);
    let line = format!("loaded as head number {counter} of the device, {bytes} bytes");
    print::text(&print::line(&line))
}

fn save(args: &DeviceSaveArgs) -> Result<()> {
    store::require_writable(&args.output)?;
    let lock = Lock::take(&args.output)?;
    let (mut client, _) = open(&args.line)?;
    let (head, bytes) = device::head(&mut client)?;
    keep(&bytes, &args.output, &lock)?;
    if args.line.json {
        let (file, labels) = (&args.output, &head.labels);
        return print::document(&json!({"head": file, "labels": labels}));
    }
    print::text(&print::line(&format!("head: {}", args.output.display())))
}

/// Labels files: all that can be read, then an error if one could not.
fn label(args: &DevicePredictArgs) -> Result<()> {
    let (mut client, _) = open(&args.line)?;
    let (head, _) = device::head(&mut client)?;
    let mut unread = None;
    let mut say = |path: &Path, found: Result<Prediction>, head: &Head| match found {
        Ok(prediction) => {
            let line = predict::said(path, &prediction, head, None, args.line.json);
            print::heard(&line).map(drop)
        }
        Err(error) if error.kind() == ErrorKind::BadInput => {
            if let Some(earlier) = unread.replace(error) {
                print::note(&earlier);
            }
            Ok(())
        }
        Err(error) => Err(error),
    };
    if let Some(shape) = device::window_of(&head) {
        for path in &args.files {
            let (found, mut read) = windows::read(path, shape.length)?;
            windows::require_channels(path, &found, &shape)?;
            let prediction = device::predict(&mut client, &read.swap_remove(0));
            say(path, prediction, &head)?;
        }
    } else {
        let session = settings::using(&args.backbone)?;
        let name = client.name().to_path_buf();
        let predictor = session.predictor(&head, &name)?;
        let source = |path| Source {
            path,
            label: 0,
            bytes: None,
            part: None,
        };
        let sources: Vec<Source<'_>> = args.files.iter().map(|path| source(path)).collect();
        let bars = Bars::new();
        let rows = predictor.rows(&sources, &bars);
        bars.finish();
        for (path, row) in args.files.iter().zip(rows?) {
            let found = match row {
                Ok(row) => device::predict(&mut client, &row),
                Err(reason) => {
                    let what = format_args!("{}: {reason}", path.display());
                    Err(Error::new(ErrorKind::BadInput, what))
                }
            };
            say(path, found, &head)?;
        }
    }
    unread.map_or(Ok(()), Err)
}
