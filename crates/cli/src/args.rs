//! The flags and commands, as `clap` reads them, and what they mean to the runtime.
//! Nothing is run here.

mod choices;
mod devices;
mod heads;
pub mod mqtt;
pub mod sources;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub use choices::*;
pub use devices::{
    DeviceCommand, DeviceLoadArgs, DevicePredictArgs, DeviceSaveArgs, DeviceTrainArgs, LineArgs,
};
pub use heads::{HeadCommand, KeygenArgs, RollbackArgs, SignArgs, VerifyArgs};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "fieldtune", version, max_term_width = 100)]
#[command(args_override_self = true)]
#[command(about = "Fine-tune a pretrained network on the board that uses it")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fine-tune the built-in backbone on bundled samples, evaluate, predict, write a report
    #[command(after_help = "Example:\n  fieldtune demo")]
    Demo(DemoArgs),
    /// List the tensors where a model can be cut
    #[command(
        after_help = "Example:\n  fieldtune inspect mobilenet.onnx\n  fieldtune inspect embedded --all\n  fieldtune inspect two-branches.onnx --cut left,right"
    )]
    Inspect(InspectArgs),
    /// Say what is wrong with samples: unreadable, copies, wrong labels, bad pictures
    #[command(after_help = "Example:\n  fieldtune check samples/")]
    Check(CheckArgs),
    /// Say how much memory and time training would take; trains nothing
    #[command(after_help = "Example:\n  fieldtune plan samples/ --memory 128M")]
    Plan(PlanArgs),
    /// Train a head on a folder of samples, one sub-folder a class
    #[command(
        after_help = "Example:\n  fieldtune train samples/ -o birds.head --report birds.html"
    )]
    Train(TrainArgs),
    /// Measure a head on labelled samples that it was not trained on
    #[command(after_help = "Example:\n  fieldtune eval birds.head other-samples/")]
    Eval(EvalArgs),
    /// Label files
    #[command(
        after_help = "Example:\n  fieldtune predict birds.head photo.jpg\n  cat photo.jpg | fieldtune predict birds.head -"
    )]
    Predict(PredictArgs),
    /// Label each new file of a folder as it appears, or what a camera, microphone or sensor
    /// gives, until stopped
    #[command(
        after_help = "Example:\n  fieldtune watch birds.head incoming/ --json >> birds.jsonl\n  fieldtune watch birds.head --microphone default --agree 3"
    )]
    Watch(crate::watch::WatchArgs),
    /// Take samples from a camera, microphone or sensor into a folder to train on
    #[command(
        after_help = "Example:\n  fieldtune collect samples/ --label ripe --camera /dev/video0 --every 5s --count 20\n  fieldtune collect samples/ --label cough --group pen-3 --microphone default --window 2s"
    )]
    Collect(crate::collect::CollectArgs),
    /// Name the unlabelled files that are most worth a label
    #[command(
        after_help = "Example:\n  fieldtune suggest birds.head unlabelled/ -n 20\n  fieldtune suggest birds.head unlabelled/ | xargs -d '\\n' cp -t to-label/"
    )]
    Suggest(crate::suggest::SuggestArgs),
    /// Write a head and its backbone as one ONNX file that gives probabilities
    #[command(after_help = EXPORT_HELP)]
    Export(ExportArgs),
    /// Look into head files, go back to earlier ones, sign and verify them
    #[command(subcommand)]
    Head(HeadCommand),
    /// Train and predict on a microcontroller at a serial port
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Measure this machine
    #[command(after_help = "Example:\n  fieldtune bench --threads 4")]
    Bench(crate::bench::BenchArgs),
    /// Say what this machine has and what would go wrong on it
    #[command(after_help = "Example:\n  fieldtune doctor")]
    Doctor(crate::doctor::DoctorArgs),
    /// Print what a shell reads to complete commands and flags
    #[command(
        after_help = "Example:\n  fieldtune completions bash > ~/.local/share/bash-completion/completions/fieldtune"
    )]
    Completions(crate::manual::CompletionsArgs),
    /// Print a page of the manual
    #[command(after_help = "Example:\n  fieldtune man train | man -l -")]
    Man(crate::manual::ManArgs),
}

const EXPORT_HELP: &str = "\
The output `probabilities` is what `predict` gives, to 1e-4. `predict` averages what the backbone
makes of several views of a picture. The mirror image is made inside the file; other views are
made of the picture itself, so each is an input of its own. --views original makes
a file with one input whose probabilities differ from those of `predict`; for an exact file with
one input, train with --views original or --views mirrored. The file's metadata says how each
input is made of a picture, the labels in their order, and what the head was trained on and from.

Example:
  fieldtune export birds.head -o birds.onnx
  fieldtune export birds.head -o birds-head.onnx --head-only";

/// Flags of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The head file
    pub head: PathBuf,
    /// The ONNX file to write
    #[arg(short, long, value_name = "FILE.onnx")]
    pub output: PathBuf,
    /// Without the backbone: features in, probabilities out
    #[arg(long, conflicts_with = "views")]
    pub head_only: bool,
    /// Only these of the views that the head uses: a faster file, other probabilities
    /// [default: all that the head uses]
    #[arg(long, value_enum, value_name = "VIEWS")]
    pub views: Option<ViewsChoice>,
    /// A second output, `unknown_score`: above `fieldtune.unknown_above` in the metadata a
    /// sample is of no class
    #[arg(long)]
    pub unknown: bool,
    /// The backbone.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where to write the head and the report
    #[arg(short, long, default_value = "fieldtune-demo", value_name = "FOLDER")]
    pub output: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Flags of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The ONNX file, or `embedded`
    pub model: PathBuf,
    /// The input of a model without a manifest, such as image:3x224x224
    #[arg(long, value_name = "TENSOR:CxHxW")]
    pub input: Option<String>,
    /// Channel order of that input: channels first or last
    #[arg(long, value_name = "LAYOUT", requires = "input")]
    pub layout: Option<LayoutChoice>,
    /// Value of another input of the model, such as scale=1; may be repeated
    #[arg(long, value_name = "TENSOR=VALUE", value_parser = fixed_input)]
    pub fixed_input: Vec<(String, f32)>,
    /// Where the model ends, if it has several outputs [default: the first]
    #[arg(long, value_name = "TENSOR")]
    pub output: Option<String>,
    /// List the tensors too that lie on one of several paths
    #[arg(long)]
    pub all: bool,
    /// Show this cut only; several tensors with commas between them make one vector,
    /// `:mean` behind one takes the mean over its positions, `:classes` the classes that its
    /// scores say
    #[arg(long, value_name = "TENSOR", conflicts_with = "all")]
    pub cut: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Folder with one sub-folder a class, or a .csv or .jsonl manifest
    pub samples: PathBuf,
    /// The backbone.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Flags of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Folder with one sub-folder a class, or a .csv or .jsonl manifest
    pub samples: PathBuf,
    /// How training would be done.
    #[command(flatten)]
    pub training: TrainingArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Flags of `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Folder with one sub-folder a class, or a .csv or .jsonl manifest
    pub samples: PathBuf,
    /// The head file to write
    #[arg(short, long, value_name = "HEAD")]
    pub output: PathBuf,
    /// Go on from this head: train on its samples, whose features are taken from the cache,
    /// and on the ones given; -o may be the same file
    #[arg(long, value_name = "HEAD")]
    pub from: Option<PathBuf>,
    /// Write an HTML report to this file
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// How to train.
    #[command(flatten)]
    pub training: TrainingArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Which backbone, and how it is fed.
#[derive(Clone, Debug, Default, Args)]
pub struct BackboneArgs {
    /// An ONNX file instead of the built-in backbone
    #[arg(long, value_name = "FILE")]
    pub backbone: Option<PathBuf>,
    /// The input of a backbone without a manifest, such as image:3x224x224
    #[arg(long, value_name = "TENSOR:CxHxW", requires = "backbone")]
    pub input: Option<String>,
    /// Channel order of that input: channels first or last
    #[arg(long, value_name = "LAYOUT", requires = "input")]
    pub layout: Option<LayoutChoice>,
    /// Value of another input of a backbone without a manifest, such as scale=1; may be
    /// repeated
    #[arg(long, value_name = "TENSOR=VALUE", requires = "input", value_parser = fixed_input)]
    pub fixed_input: Vec<(String, f32)>,
    /// Grey level, 0 to 255, that becomes 0: one number or one a channel
    #[arg(long, value_name = "LEVELS", value_delimiter = ',', requires = "input")]
    pub mean: Option<Vec<f32>>,
    /// Grey levels are multiplied by this after --mean: one number or one a channel
    #[arg(
        long,
        value_name = "FACTORS",
        value_delimiter = ',',
        requires = "input"
    )]
    pub scale: Option<Vec<f32>>,
    /// Backbone runs and searches at once [default: all processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Where computed features are kept, or `off`
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// A sample that cannot be read is an error, not a note
    #[arg(long)]
    pub strict: bool,
    /// Let links in a sample folder and `..` in a list lead out of it
    #[arg(long)]
    pub follow_outside: bool,
}

/// How to train. Every flag can stand in `--config FILE.toml` under the same name.
#[derive(Clone, Debug, Default, Args)]
pub struct TrainingArgs {
    /// The backbone.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// The tensor where the backbone is cut, or several with commas between them; `:mean`
    /// behind one takes the mean over its positions, `:classes` the classes that its scores
    /// say. Of recordings, `statistics` alone or in front of tensors stands for statistics
    /// of the spectrogram; of sensor files it is `statistics`, `kernels`, both, or `values`
    #[arg(long, value_name = "TENSOR")]
    pub cut: Option<String>,
    /// auto, prototype, linear, mlp:H[,H...], convolution[:C[,C...]]: convolutions of so many
    /// channels over the values of sensor files, or tail: the backbone's own layers after the
    /// cut, trained on from where they are; auto tries those only where --time leaves room
    /// [default: auto]
    #[arg(long, value_name = "SHAPE", value_parser = head_shape)]
    pub head: Option<HeadChoice>,
    /// How weights are decayed [default: layerwise]
    #[arg(long, value_name = "HOW")]
    pub decay: Option<DecayChoice>,
    /// Where layer-wise coefficients come from [default: chosen]
    #[arg(long, value_name = "MODE")]
    pub decay_mode: Option<DecayMode>,
    /// Decay coefficient of the last layer, or auto
    #[arg(long, value_name = "X", value_parser = auto_or_number)]
    pub lambda: Option<Choice>,
    /// Relative size of adversarial features, auto, or off
    #[arg(long, value_name = "EPS", value_parser = adversarial)]
    pub adversarial: Option<Choice>,
    /// The update rule
    #[arg(long, value_name = "RULE")]
    pub optimizer: Option<OptimizerChoice>,
    /// SGD looks one step ahead (Nesterov momentum)
    #[arg(long)]
    pub nesterov: bool,
    /// Shorten gradients that are longer than this, such as 1
    #[arg(long, value_name = "X", value_parser = positive)]
    pub clip_norm: Option<f32>,
    /// Keep a running average of the weights instead of the last ones; a memory of 0.95 is
    /// about the last 20 steps
    #[arg(
        long,
        value_name = "MEMORY",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "0.95",
        value_parser = share
    )]
    pub average_weights: Option<f32>,
    /// Spread this share of each label over all classes, such as 0.1
    #[arg(long, value_name = "X", value_parser = share)]
    pub label_smoothing: Option<f32>,
    /// Hold a fifth of the samples out, stop after N epochs in which they are recognised no
    /// better, and keep the best weights; from 20 samples a class on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub early_stopping: Option<u32>,
    /// What decay pulls weights towards: zero, or where they started [default: zero]
    #[arg(long, value_name = "WHERE")]
    pub decay_towards: Option<DecayTowards>,
    /// Draw the layer of adversarial features once a step, or for each sample
    /// [default: step]
    #[arg(long, value_name = "HOW")]
    pub adversarial_layers: Option<AdversarialLayers>,
    /// Which layers get adversarial features: all, the lowest alone, or all above it
    /// [default: all]
    #[arg(long, value_name = "WHICH")]
    pub adversarial_at: Option<AdversarialAt>,
    /// Steps that search for each adversarial feature; more find stronger ones [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub adversarial_steps: Option<u32>,
    /// Let adversarial features grow over this share of training, such as 0.5, or
    /// cosine:0.5 for a gentle start and end
    #[arg(long, value_name = "SHARE", value_parser = ramp)]
    pub adversarial_ramp: Option<Ramp>,
    /// Compute activations again instead of keeping them: less memory, more time, the same
    /// head; `fieldtune plan` says how much
    #[arg(long)]
    pub recompute: bool,
    /// Passes over all samples
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub epochs: Option<u32>,
    /// Samples a step
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: Option<u32>,
    /// Seed of all random numbers [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Share of samples of trained classes that may be called unknown, such as 5%
    /// [default: 5%]
    #[arg(long, value_name = "SHARE", value_parser = percentage)]
    pub false_alarms: Option<f64>,
    /// Refuse to start if the process would need more, such as 64M
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub memory: Option<u64>,
    /// Stop searching after this time, such as 60s or 5m [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub time: Option<Duration>,
    /// The same bits on every kind of processor; slower
    #[arg(long)]
    pub reproducible: bool,
    /// Continue an interrupted run: features are in the cache, and what was searched and
    /// trained is in HEAD.checkpoint. The head becomes the same, byte for byte
    #[arg(long)]
    pub resume: bool,
    /// Write HEAD.checkpoint no more often than this while training [default: 20s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub checkpoint_every: Option<Duration>,
    /// Views of each sample that pass the backbone, in training and in prediction
    /// [default: auto]
    #[arg(long, value_enum, value_name = "VIEWS")]
    pub views: Option<ViewsChoice>,
    /// Cut longer recordings and sensor files into windows of this length, such as 2s; a row of
    /// a sensor file without times counts as 1 s [default: 4s of recordings; of sensors the
    /// longest file, but 256 rows where files are longer than 2048]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub window: Option<Duration>,
    /// Begin a window of a sensor file at least this often, such as 500ms, so that windows
    /// overlap [default: the window]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub step: Option<Duration>,
    /// Read flags from a TOML file; flags on the command line win
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
}

/// Flags of `eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The head file
    pub head: PathBuf,
    /// Folder with one sub-folder a class, or a .csv or .jsonl manifest
    pub samples: PathBuf,
    /// Take only a head that is signed with this public key, and none older than one seen
    /// before
    #[arg(long, value_name = "KEY.pub")]
    pub trust: Option<PathBuf>,
    /// `flip`: judge each picture and its mirror image together, as `--views mirrored` does
    /// in training [default: the views that the head was trained to use]
    #[arg(long, value_enum, value_name = "HOW")]
    pub tta: Option<Tta>,
    /// The backbone.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Flags of `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// The head file
    pub head: PathBuf,
    /// Pictures or recordings, as the head was trained on; `-` reads one from standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Also name a set of labels that holds the right one for this share of new samples,
    /// such as 90%; all labels where the head saw too few samples to promise it
    #[arg(long, value_name = "SHARE", value_parser = percentage)]
    pub coverage: Option<f64>,
    /// Take only a head that is signed with this public key, and none older than one seen
    /// before
    #[arg(long, value_name = "KEY.pub")]
    pub trust: Option<PathBuf>,
    /// `flip`: judge each picture and its mirror image together, as `--views mirrored` does
    /// in training [default: the views that the head was trained to use]
    #[arg(long, value_enum, value_name = "HOW")]
    pub tta: Option<Tta>,
    /// The backbone.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_average_has_a_memory_of_its_own() {
        let memory = |flag| {
            let arguments = ["fieldtune", "plan", flag, "x"];
            let cli = Cli::try_parse_from(arguments).expect("sound");
            let Command::Plan(args) = cli.command else {
                unreachable!("the command is plan");
            };
            args.training.average_weights
        };
        assert_eq!(memory("--average-weights"), Some(0.95));
        assert_eq!(memory("--average-weights=0.9"), Some(0.9));
        assert_eq!(memory("--strict"), None);
    }

    #[test]
    fn values_are_read_and_refused() {
        assert_eq!(head_shape("mlp:128,64"), Ok(HeadChoice::Mlp(vec![128, 64])));
        let convolution = |widths: &[usize]| Ok(HeadChoice::Convolution(widths.to_vec()));
        assert_eq!(head_shape("convolution"), convolution(&[32, 64]));
        assert_eq!(head_shape("convolution:8,16,16"), convolution(&[8, 16, 16]));
        for bad in [
            "mlp:",
            "mlp:0",
            "mlp:9999999",
            "mlp:1,",
            "tails",
            "x",
            "convolution:",
            "convolutions",
            "convolution:0",
        ] {
            assert!(head_shape(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["60", "s", "-1s", "nans", "1e300h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        let share_of_it = |share, cosine| Ok(Ramp { share, cosine });
        assert_eq!(ramp("0.5"), share_of_it(0.5, false));
        assert_eq!(ramp("cosine:1"), share_of_it(1.0, true));
        for bad in ["0", "1.1", "cosine", "cosine:", "nan", "sine:0.5"] {
            assert!(ramp(bad).is_err(), "{bad}");
        }
        assert_eq!((percentage("5%"), percentage("0.9")), (Ok(0.05), Ok(0.9)));
        for bad in ["0", "100%", "5", "-1%", "nan", "%", "nan%"] {
            assert!(percentage(bad).is_err(), "{bad}");
        }
        for bad in ["0", "-1", "nan", "inf", "1e9"] {
            assert!(positive(bad).is_err(), "{bad}");
            assert!(bad == "0" || share(bad).is_err(), "{bad}");
        }
        assert!(share("1").is_err() && share("0.1") == Ok(0.1));
        assert_eq!(adversarial("0.1"), Ok(Choice::Value(0.1)));
        for bad in ["0", "-1", "nan", "inf", "11", ""] {
            assert!(adversarial(bad).is_err(), "{bad}");
            assert!(
                bad == "0" || bad == "11" || auto_or_number(bad).is_err(),
                "{bad}"
            );
        }
    }
}
