//! The commands on microcontrollers and their flags.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    BackboneArgs, Choice, HeadChoice, TrainingArgs, adversarial, auto_or_number, head_shape,
};

/// Commands on microcontrollers.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Say who the device is, what it can hold, and how much of it was in use
    #[command(after_help = "Example:\n  fieldtune device info --port /dev/ttyACM0")]
    Info(LineArgs),
    /// Say how the device's flash is laid out and what its slots hold
    #[command(after_help = "Example:\n  fieldtune device flash-layout --port /dev/ttyACM0")]
    FlashLayout(LineArgs),
    /// Train a head on the device; the backbone's features are computed here and sent
    #[command(after_help = TRAIN_HELP)]
    Train(DeviceTrainArgs),
    /// Have the device label files with its own head
    #[command(after_help = "Example:\n  fieldtune device predict photo.jpg --port /dev/ttyACM0")]
    Predict(DevicePredictArgs),
    /// Put a head file onto the device
    #[command(after_help = "Example:\n  fieldtune device load birds.head --port /dev/ttyACM0")]
    Load(DeviceLoadArgs),
    /// Copy the device's head into a file
    #[command(after_help = "Example:\n  fieldtune device save -o birds.head --port /dev/ttyACM0")]
    Save(DeviceSaveArgs),
}

const TRAIN_HELP: &str = "\
With --window, SAMPLES holds .csv recordings of a sensor, a column a channel; the device computes
the features of their windows itself and no backbone is needed.

Example:
  fieldtune device train samples/ --cut block15.project_conv.Conv:mean --port /dev/ttyACM0 -o birds.head
  fieldtune device train motion/ --window 128 --port /dev/ttyACM0 -o motion.head";

/// The line to a device.
#[derive(Debug, Args)]
pub struct LineArgs {
    /// Its serial port; or `simulated`, a device in this process; or `simulated:FILE`, which
    /// keeps its flash in FILE
    #[arg(long, value_name = "PORT")]
    pub port: String,
    /// Speed of the serial port
    #[arg(long, default_value_t = 115_200, value_name = "N")]
    pub baud: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `device train`.
#[derive(Debug, Args)]
pub struct DeviceTrainArgs {
    /// Folder with one sub-folder a class, or a .csv or .jsonl manifest
    pub samples: PathBuf,
    /// The head file to write
    #[arg(short, long, value_name = "HEAD")]
    pub output: PathBuf,
    /// The line.
    #[command(flatten)]
    pub line: LineArgs,
    /// SAMPLES holds recordings of a sensor, cut into windows of so many values: 16, 32, 64,
    /// 128, 256 or 512
    #[arg(long, value_name = "N")]
    pub window: Option<usize>,
    /// The tensor where the backbone is cut; `:mean` behind it takes the mean over its
    /// positions
    #[arg(long, value_name = "TENSOR", conflicts_with = "window")]
    pub cut: Option<String>,
    /// linear or mlp:H[,H...] [default: linear]
    #[arg(long, value_name = "SHAPE", value_parser = head_shape)]
    pub head: Option<HeadChoice>,
    /// Decay coefficient of the last layer, or auto
    #[arg(long, value_name = "X", value_parser = auto_or_number)]
    pub lambda: Option<Choice>,
    /// Relative size of adversarial features, auto, or off
    #[arg(long, value_name = "EPS", value_parser = adversarial)]
    pub adversarial: Option<Choice>,
    /// Passes over all samples
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub epochs: Option<u32>,
    /// Samples a step [default: up to 16, as many as fit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: Option<u32>,
    /// Seed of all random numbers [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// The backbone.
    #[command(flatten)]
    pub backbone: BackboneArgs,
}

impl DeviceTrainArgs {
    /// The same as flags of `train`.
    pub fn training(&self) -> TrainingArgs {
        TrainingArgs {
            backbone: self.backbone.clone(),
            cut: self.cut.clone(),
            head: self.head.clone(),
            lambda: self.lambda,
            adversarial: self.adversarial,
            epochs: self.epochs,
            batch: self.batch,
            seed: self.seed,
            ..TrainingArgs::default()
        }
    }
}

/// Flags of `device predict`.
#[derive(Debug, Args)]
pub struct DevicePredictArgs {
    /// Images, or .csv windows where the head was trained on those
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The line.
    #[command(flatten)]
    pub line: LineArgs,
    /// The backbone.
    #[command(flatten)]
    pub backbone: BackboneArgs,
}

/// Flags of `device load`.
#[derive(Debug, Args)]
pub struct DeviceLoadArgs {
    /// The head file
    pub head: PathBuf,
    /// Take only a head that is signed with this public key, and none older than one seen
    /// before
    #[arg(long, value_name = "KEY.pub")]
    pub trust: Option<PathBuf>,
    /// The line.
    #[command(flatten)]
    pub line: LineArgs,
}

/// Flags of `device save`.
#[derive(Debug, Args)]
pub struct DeviceSaveArgs {
    /// The head file to write
    #[arg(short, long, value_name = "HEAD")]
    pub output: PathBuf,
    /// The line.
    #[command(flatten)]
    pub line: LineArgs,
}
