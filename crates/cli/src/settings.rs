//! From flags to the runtime's settings.

use std::path::Path;

use fieldtune::cache::Cache;
use fieldtune::candidates::{List, Wishes};
use fieldtune::checkpoint::{Checkpoints, USUAL_INTERVAL};
use fieldtune::error::{Error, ErrorKind, Result};
use fieldtune::extras::Extras;
use fieldtune::head::Head;
use fieldtune::manifest::{Flags, Input, Layout};
use fieldtune::model::Model;
use fieldtune::recipe::Shape;
use fieldtune::samples::{Bounds, SampleSet};
use fieldtune::search::DEFAULT_TIME;
use fieldtune::session::{Session, Settings};
use fieldtune::views::ViewSet;
use fieldtune::{DecayMode as Mode, Middle, Optimizer, Rise};

use crate::args::{
    AdversarialAt, AdversarialLayers, BackboneArgs, Choice, DecayChoice, DecayMode, DecayTowards,
    HeadChoice, LayoutChoice, OptimizerChoice, TrainingArgs, Tta, ViewsChoice,
};

/// A session for training the head that is to be at `output`, if it is to be anywhere.
///
/// # Errors
/// When the backbone or the cache cannot be opened, or flags contradict each other.
pub fn training(args: &TrainingArgs, output: Option<&Path>) -> Result<Session> {
    let cache_is_off = args.backbone.cache.as_deref() == Some(Path::new("off"));
    if args.resume && cache_is_off {
        let what = "--resume takes features from the cache; leave --cache off out";
        return Err(Error::new(ErrorKind::Usage, what));
    }
    let mut settings = settings(&args.backbone);
    settings.wishes = wishes(args)?;
    settings.cut = args.cut.clone();
    settings.seed = args.seed.unwrap_or(0);
    settings.memory_bytes = args.memory;
    settings.time = args.time.unwrap_or(DEFAULT_TIME);
    settings.reproducible = args.reproducible;
    settings.false_alarms = args.false_alarms;
    settings.window_seconds = args.window.map(|window| window.as_secs_f32());
    settings.step_seconds = args.step.map(|step| step.as_secs_f32());
    let interval = args.checkpoint_every.unwrap_or(USUAL_INTERVAL);
    settings.checkpoints = output.map(|head| Checkpoints::beside(head, interval, args.resume));
    session(&args.backbone, settings)
}

/// A session for using a head.
///
/// # Errors
/// As [`training`].
pub fn using(args: &BackboneArgs) -> Result<Session> {
    session(args, settings(args))
}

/// The samples in a folder or a list.
///
/// # Errors
/// As [`SampleSet::open`].
pub fn samples(path: &Path, args: &BackboneArgs) -> Result<SampleSet> {
    SampleSet::open_within(path, bounds(args))
}

/// Whether links may lead out of a folder of samples.
pub fn bounds(args: &BackboneArgs) -> Bounds {
    if args.follow_outside {
        Bounds::None
    } else {
        Bounds::Folder
    }
}

fn settings(args: &BackboneArgs) -> Settings {
    Settings {
        threads: args.threads.map_or_else(processors, usize::from),
        strict: args.strict,
        time: DEFAULT_TIME,
        ..Settings::default()
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn session(args: &BackboneArgs, settings: Settings) -> Result<Session> {
    let cache = match args.cache.as_deref() {
        Some(path) if path == Path::new("off") => Cache::off(),
        Some(path) => Cache::open(path)?,
        // Without a home folder there is no place to keep features; that is no
        // reason not to work.
        None => Cache::default_dir()
            .and_then(|dir| Cache::open(&dir).ok())
            .unwrap_or_else(Cache::off),
    };
    Ok(Session::new(model(args)?, cache, settings))
}

/// The backbone that the flags name.
///
/// # Errors
/// When it cannot be read or is not described.
pub fn model(args: &BackboneArgs) -> Result<Model> {
    match &args.backbone {
        None => Model::embedded(),
        Some(path) => {
            let input = args
                .input
                .as_deref()
                .map(|text| input(text, args.layout))
                .transpose()?;
            let flags = Flags {
                fixed_inputs: args.fixed_input.iter().cloned().collect(),
                mean: args.mean.clone(),
                scale: args.scale.clone(),
                ..Flags::default()
            };
            Model::open(path, input, flags)
        }
    }
}

/// Reads `TENSOR:CxHxW`; `TENSOR:HxW` and `TENSOR:W` have one channel, and one row.
///
/// # Errors
/// `Usage` when it is of another form.
pub fn input(text: &str, layout: Option<LayoutChoice>) -> Result<Input> {
    let layout = match layout {
        Some(LayoutChoice::Nhwc) => Layout::Nhwc,
        Some(LayoutChoice::Nchw) | None => Layout::Nchw,
    };
    let wrong = || {
        let what = format_args!("--input {text}: expected TENSOR:CxHxW, such as image:3x224x224");
        Error::new(ErrorKind::Usage, what)
    };
    let (tensor, sizes) = text.rsplit_once(':').ok_or_else(wrong)?;
    let sizes: Vec<usize> = sizes
        .split('x')
        .map(|size| size.parse().map_err(|_| wrong()))
        .collect::<Result<_>>()?;
    let (channels, height, width) = match sizes[..] {
        _ if tensor.is_empty() => return Err(wrong()),
        [channels, height, width] => (channels, height, width),
        [height, width] => (1, height, width),
        [width] => (1, 1, width),
        _ => return Err(wrong()),
    };
    Ok(Input {
        tensor: tensor.to_string(),
        layout,
        channels,
        height,
        width,
    })
}

fn contradiction<T>(what: &str) -> Result<T> {
    Err(Error::new(ErrorKind::Usage, what))
}

fn wishes(args: &TrainingArgs) -> Result<Wishes> {
    let decay = match (args.decay, args.decay_mode) {
        (None | Some(DecayChoice::Layerwise), Some(mode)) => Some(match mode {
            DecayMode::Structural => Mode::Structural,
            DecayMode::Measured => Mode::Measured,
            DecayMode::Online => Mode::Online,
        }),
        (Some(_), Some(_)) => {
            return contradiction(
                "--decay-mode goes with --decay layerwise; leave one of them out",
            );
        }
        (Some(DecayChoice::Layerwise), None) => Some(Mode::Structural),
        (Some(DecayChoice::Uniform), None) => Some(Mode::Uniform),
        (Some(DecayChoice::None), None) => Some(Mode::None),
        (None, None) => None,
    };
    Ok(Wishes {
        shape: match &args.head {
            None | Some(HeadChoice::Auto | HeadChoice::Tail) => None,
            Some(HeadChoice::Prototype) => Some(Shape::Prototype),
            Some(HeadChoice::Linear) => Some(Shape::Linear),
            Some(HeadChoice::Mlp(hidden)) => Some(Shape::Mlp(hidden.clone())),
            Some(HeadChoice::Convolution(widths)) => Some(Shape::Convolutions {
                // What the samples have is seen when they are read.
                channels: 1,
                widths: widths.clone(),
            }),
        },
        tail: args.head == Some(HeadChoice::Tail),
        optimizer: optimizer(args)?,
        decay,
        lambda: match args.lambda {
            Some(Choice::Value(value)) => Some(value),
            _ => None,
        },
        adversarial: match args.adversarial {
            Some(Choice::Value(value)) => Some(Some(value)),
            Some(Choice::Off) => Some(None),
            Some(Choice::Auto) | None => None,
        },
        epochs: args.epochs,
        batch: args.batch.map(|batch| batch as usize),
        views: args.views.and_then(views),
        held: None,
        list: List::default(),
        extras: extras(args)?,
    })
}

/// Lets a head look at mirror images as well.
pub fn augment(head: &mut Head, tta: Option<Tta>) {
    if tta == Some(Tta::Flip) {
        head.views = head.views.union(ViewSet::MIRRORED);
    }
}

/// The views a flag names; `None` leaves the choice open.
pub fn views(choice: ViewsChoice) -> Option<ViewSet> {
    match choice {
        ViewsChoice::Auto => None,
        ViewsChoice::Original => Some(ViewSet::ORIGINAL),
        ViewsChoice::Mirrored => Some(ViewSet::MIRRORED),
        ViewsChoice::Zoomed => Some(ViewSet::ZOOMED),
        ViewsChoice::Lit => Some(ViewSet::LIT),
        ViewsChoice::All => Some(ViewSet::ALL),
    }
}

fn optimizer(args: &TrainingArgs) -> Result<Option<Optimizer>> {
    Ok(match (args.optimizer, args.nesterov) {
        (Some(OptimizerChoice::Adamw), true) => {
            return contradiction("--nesterov goes with --optimizer sgd; leave one of them out");
        }
        (_, true) => Some(Optimizer::NESTEROV),
        (Some(OptimizerChoice::Sgd), false) => Some(Optimizer::SGD),
        (Some(OptimizerChoice::Adamw), false) => Some(Optimizer::ADAMW),
        (None, false) => None,
    })
}

fn extras(args: &TrainingArgs) -> Result<Extras> {
    let adversarial = [
        args.adversarial_layers.is_some(),
        args.adversarial_at.is_some(),
        args.adversarial_steps.is_some(),
        args.adversarial_ramp.is_some(),
    ];
    if args.adversarial == Some(Choice::Off) && adversarial.contains(&true) {
        return contradiction(
            "--adversarial off takes no other --adversarial flags; leave them out",
        );
    }
    let towards_start = args.decay_towards == Some(DecayTowards::Start);
    if args.decay == Some(DecayChoice::None) && towards_start {
        return contradiction("--decay-towards start needs a decay; leave --decay none out");
    }
    let usual = Extras::default();
    let ramp = args.adversarial_ramp;
    Ok(Extras {
        towards_start,
        clip_norm: args.clip_norm,
        average_weights: args.average_weights,
        label_smoothing: args.label_smoothing.unwrap_or(usual.label_smoothing),
        early_stopping: args.early_stopping,
        adversarial_per_sample: args.adversarial_layers == Some(AdversarialLayers::Sample),
        adversarial_at: match args.adversarial_at {
            None | Some(AdversarialAt::All) => Middle::All,
            Some(AdversarialAt::Lowest) => Middle::Lowest,
            Some(AdversarialAt::AboveLowest) => Middle::AboveLowest,
        },
        adversarial_steps: args.adversarial_steps.unwrap_or(usual.adversarial_steps),
        adversarial_ramp: ramp.map_or(usual.adversarial_ramp, |ramp| ramp.share),
        adversarial_rise: match ramp {
            Some(ramp) if ramp.cosine => Rise::Cosine,
            _ => Rise::Linear,
        },
        recompute: args.recompute,
    })
}
