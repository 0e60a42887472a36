//! What flags may be given, and reading it.

use std::time::Duration;

use clap::ValueEnum;
use fieldtune::budget::parse_bytes;

/// `--head`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadChoice {
    /// Let the search choose.
    Auto,
    /// Class means.
    Prototype,
    /// One dense layer.
    Linear,
    /// Hidden layers of these widths.
    Mlp(Vec<usize>),
    /// Convolutions along time of these channels, for sensor files.
    Convolution(Vec<usize>),
    /// The backbone's own layers after the cut.
    Tail,
}

/// A number, or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// Let the search choose.
    Auto,
    /// Not at all.
    Off,
    /// This value.
    Value(f32),
}

/// `--layout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LayoutChoice {
    /// Channels first.
    Nchw,
    /// Channels last.
    Nhwc,
}

/// `--views`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ViewsChoice {
    /// All, of which those are kept that help.
    Auto,
    /// As it is: one pass of the backbone.
    Original,
    /// Its mirror image as well: two passes.
    Mirrored,
    /// Nearer and farther as well: three passes.
    Zoomed,
    /// Brighter and darker as well: three passes.
    Lit,
    /// All of these: six passes.
    All,
}

/// `--tta`, test-time augmentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tta {
    /// The head's own views.
    Off,
    /// Their mirror image as well, where the head does not look at it yet.
    Flip,
}

/// `--decay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DecayChoice {
    /// Each layer's coefficient follows the scale of its gradient.
    Layerwise,
    /// One coefficient for all layers.
    Uniform,
    /// No decay.
    None,
}

/// `--decay-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DecayMode {
    /// Closed form from the widths and the starting weights.
    Structural,
    /// From the gradients of a few batches before training.
    Measured,
    /// From a running average during training.
    Online,
}

/// `--optimizer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OptimizerChoice {
    /// Gradient descent with momentum.
    Sgd,
    /// Adam with decoupled decay.
    Adamw,
}

/// `--decay-towards`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DecayTowards {
    /// Weights of zero.
    Zero,
    /// The weights before training.
    Start,
}

/// `--adversarial-layers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AdversarialLayers {
    /// One for all samples of a step.
    Step,
    /// One for each sample.
    Sample,
}

/// `--adversarial-at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AdversarialAt {
    /// Every layer.
    All,
    /// The features themselves.
    Lowest,
    /// Every layer but the lowest, where there is another.
    AboveLowest,
}

/// `--adversarial-ramp`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    /// The share of training.
    pub share: f32,
    /// As a cosine, not in a straight line.
    pub cosine: bool,
}

const EXPECTED: &str =
    "expected auto, prototype, linear, mlp:H[,H...], convolution[:C[,C...]] or tail";

pub(crate) fn head_shape(text: &str) -> Result<HeadChoice, String> {
    const MAX_WIDTH: usize = 8192;
    let width = |part: &str| match part.trim().parse() {
        Ok(width) if (1..=MAX_WIDTH).contains(&width) => Ok(width),
        _ => Err(format!(
            "a hidden layer has 1 to {MAX_WIDTH} units, as in mlp:128"
        )),
    };
    let widths = |text: &str| {
        let widths = text.split(',').map(width).collect::<Result<Vec<_>, _>>()?;
        match widths.len() {
            0..=8 => Ok(widths),
            _ => Err("at most 8 hidden layers".to_string()),
        }
    };
    if let Some(text) = text.strip_prefix("convolution") {
        return match text.strip_prefix(':') {
            Some(text) => Ok(HeadChoice::Convolution(widths(text)?)),
            None if text.is_empty() => Ok(HeadChoice::Convolution(vec![32, 64])),
            None => Err(EXPECTED.into()),
        };
    }
    match (text, text.strip_prefix("mlp:")) {
        ("auto", _) => Ok(HeadChoice::Auto),
        ("prototype", _) => Ok(HeadChoice::Prototype),
        ("linear", _) => Ok(HeadChoice::Linear),
        ("tail", _) => Ok(HeadChoice::Tail),
        (_, Some(text)) => Ok(HeadChoice::Mlp(widths(text)?)),
        _ => Err(EXPECTED.into()),
    }
}

pub(crate) fn auto_or_number(text: &str) -> Result<Choice, String> {
    match (text, text.parse::<f32>()) {
        ("auto", _) => Ok(Choice::Auto),
        (_, Ok(value)) if (0.0..=100.0).contains(&value) => Ok(Choice::Value(value)),
        _ => Err("expected auto or a number from 0 to 100".into()),
    }
}

pub(crate) fn positive(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value > 0.0 && value <= 1e6 => Ok(value),
        _ => Err("expected a number above 0".into()),
    }
}

/// `TENSOR=VALUE`.
pub(crate) fn fixed_input(text: &str) -> Result<(String, f32), String> {
    let parts = text.rsplit_once('=').filter(|(name, _)| !name.is_empty());
    let parsed =
        parts.and_then(|(name, value)| Some((name.to_string(), value.parse::<f32>().ok()?)));
    let finite = parsed.filter(|(_, value)| value.is_finite());
    finite.ok_or_else(|| "expected TENSOR=VALUE, such as scale=1".into())
}

pub(crate) fn share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to below 1, such as 0.1".into()),
    }
}

/// A share such as 5% or 0.05, strictly between none and all.
pub(crate) fn percentage(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(number) => number.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    match share {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("expected a share between 0% and 100%, such as 5% or 0.05".into()),
    }
}

pub(crate) fn ramp(text: &str) -> Result<Ramp, String> {
    let (cosine, number) = match text.strip_prefix("cosine:") {
        Some(number) => (true, number),
        None => (false, text),
    };
    match number.parse::<f32>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(Ramp { share, cosine }),
        _ => Err("expected a share of training, such as 0.5 or cosine:0.5".into()),
    }
}

pub(crate) fn adversarial(text: &str) -> Result<Choice, String> {
    match (text, text.parse::<f32>()) {
        ("auto", _) => Ok(Choice::Auto),
        ("off", _) => Ok(Choice::Off),
        (_, Ok(value)) if value > 0.0 && value <= 10.0 => Ok(Choice::Value(value)),
        _ => Err("expected auto, off, or a number above 0 and up to 10".into()),
    }
}

pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    parse_bytes(text).map_err(|error| error.to_string())
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        Duration::try_from_secs_f64(number * seconds).ok()
    });
    parsed.ok_or_else(|| "expected a time such as 60s, 5m or 500ms".into())
}
