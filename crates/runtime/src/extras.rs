//! What a recipe can do beyond the usual, all off unless asked for, and which samples are
//! held out where training stops early.

use std::fmt;

use fieldtune_core::adversary::{Adversary, Middle, Rise};
use fieldtune_core::random::Random;
use fieldtune_core::train::Options;
use serde::Serialize;

use crate::data::Data;
use crate::search::units;

/// Options of training that the default leaves off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Extras {
    /// Decay pulls towards the weights at the start (class means, in a linear head)
    /// instead of zero.
    pub towards_start: bool,
    /// Longest gradient; a longer one is shortened to this.
    pub clip_norm: Option<f32>,
    /// Memory of the running average of the weights that is kept instead of the last
    /// ones, from 0 to below 1.
    pub average_weights: Option<f32>,
    /// Share of each label that is spread over all classes, from 0 to below 1.
    pub label_smoothing: f32,
    /// Epochs without a lower loss on held-out samples after which training stops; only
    /// where there are enough samples, see [`HELD_OUT_FROM`].
    pub early_stopping: Option<u32>,
    /// Every sample of a batch draws the layer where it is perturbed, not the batch.
    pub adversarial_per_sample: bool,
    /// Which layers are perturbed.
    #[serde(serialize_with = "middle")]
    pub adversarial_at: Middle,
    /// Steps of power iteration, at least 1.
    pub adversarial_steps: u32,
    /// Share of training over which perturbations grow to their size; 0 for none.
    pub adversarial_ramp: f32,
    /// How they grow.
    #[serde(serialize_with = "rise")]
    pub adversarial_rise: Rise,
    /// Computes activations again instead of keeping them.
    pub recompute: bool,
}

impl Default for Extras {
    fn default() -> Self {
        Self {
            towards_start: false,
            clip_norm: None,
            average_weights: None,
            label_smoothing: 0.0,
            early_stopping: None,
            adversarial_per_sample: false,
            adversarial_at: Middle::All,
            adversarial_steps: 1,
            adversarial_ramp: 0.0,
            adversarial_rise: Rise::Linear,
            recompute: false,
        }
    }
}

/// The name of [`Extras::adversarial_at`] on the command line.
fn middle_name(middle: Middle) -> &'static str {
    match middle {
        Middle::All => "all",
        Middle::Lowest => "lowest",
        Middle::AboveLowest => "above-lowest",
    }
}

fn middle<S: serde::Serializer>(middle: &Middle, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(middle_name(*middle))
}

fn rise<S: serde::Serializer>(rise: &Rise, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(match rise {
        Rise::Linear => "linear",
        Rise::Cosine => "cosine",
    })
}

impl Extras {
    /// Whether nothing was asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether anything here says how adversarial features are made.
    pub(crate) fn says_of_adversarial(&self) -> bool {
        let usual = Self::default();
        let said = |extras: &Self| {
            (
                extras.adversarial_per_sample,
                extras.adversarial_at,
                extras.adversarial_steps,
                extras.adversarial_ramp,
            )
        };
        said(self) != said(&usual)
    }

    /// Adds them to the engine's options, with perturbations of `epsilon`.
    pub fn add_to(&self, options: Options, epsilon: Option<f32>) -> Options {
        let adversary = epsilon.map(|epsilon| Adversary {
            steps: self.adversarial_steps,
            per_sample: self.adversarial_per_sample,
            layers: self.adversarial_at,
            ramp: self.adversarial_ramp,
            rise: self.adversarial_rise,
            ..Adversary::new(epsilon)
        });
        Options {
            anchored: self.towards_start,
            adversary,
            label_smoothing: self.label_smoothing,
            clip_norm: self.clip_norm,
            average: self.average_weights,
            keep_best: self.early_stopping.is_some(),
            recompute: self.recompute,
            ..options
        }
    }

    /// Those of the adversary, as words that go on after "adversarial features".
    pub fn adversarial_words(&self) -> String {
        let mut words = String::new();
        if self.adversarial_per_sample {
            words += " at a layer for each sample";
        }
        if self.adversarial_at != Middle::All {
            words += &format!(" ({})", middle_name(self.adversarial_at));
        }
        if self.adversarial_steps > 1 {
            words += &format!(" in {} power steps", self.adversarial_steps);
        }
        if self.adversarial_ramp > 0.0 {
            let how = match self.adversarial_rise {
                Rise::Linear => "",
                Rise::Cosine => "as a cosine ",
            };
            words += &format!(" growing {how}over {} of training", self.adversarial_ramp);
        }
        words
    }
}

/// All but those of the adversary, each after a comma; nothing when all are off.
impl fmt::Display for Extras {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.towards_start {
            f.write_str(", decay towards the start")?;
        }
        if let Some(norm) = self.clip_norm {
            write!(f, ", gradients clipped at {norm}")?;
        }
        if let Some(memory) = self.average_weights {
            write!(f, ", weights averaged with memory {memory}")?;
        }
        if self.label_smoothing > 0.0 {
            write!(f, ", label smoothing {}", self.label_smoothing)?;
        }
        if let Some(epochs) = self.early_stopping {
            write!(
                f,
                ", early stopping after {epochs} epochs from {HELD_OUT_FROM} samples a class on"
            )?;
        }
        if self.recompute {
            f.write_str(", activations computed again")?;
        }
        Ok(())
    }
}

/// Samples of every class from which on some are held out to stop early. Of fewer, a
/// fifth says too little about the rest, and training cannot spare them.
pub const HELD_OUT_FROM: usize = 20;

/// One sample in this many is held out.
const ONE_IN: usize = 5;

/// Divides `samples` into those to train on and those to hold out, a fifth of each class
/// in whole groups; `None` when a class has too few samples or its groups are too large.
pub fn held_out(data: &Data<'_>, samples: &[usize], seed: u64) -> Option<[Vec<usize>; 2]> {
    let counts = data.counts(samples.iter().copied());
    if counts.iter().any(|count| *count < HELD_OUT_FROM) {
        return None;
    }
    let mut units = units(data, samples.iter().copied());
    Random::new(seed).shuffle(&mut units);
    let mut filled = vec![0; data.classes];
    let (mut trained, mut held_out) = (Vec::new(), Vec::new());
    for unit in units {
        let filled = &mut filled[unit.label];
        if *filled + unit.rows.len() <= counts[unit.label] / ONE_IN {
            *filled += unit.rows.len();
            held_out.extend(unit.rows);
        } else {
            trained.extend(unit.rows);
        }
    }
    // In the order of the samples, whatever the draw.
    trained.sort_unstable();
    held_out.sort_unstable();
    let every_class = filled.iter().all(|filled| *filled > 0);
    every_class.then_some([trained, held_out])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_each_class_is_held_out_in_whole_groups() {
        let labels: Vec<u16> = (0..80).map(|i| u16::from(i >= 40)).collect();
        let groups: Vec<usize> = (0..80).map(|i| i / 4).collect();
        let all: Vec<usize> = (0..80).collect();
        let [trained, held] =
            held_out(&Data::of_labels(&labels, &groups, 2), &all, 3).expect("enough");
        let mut both = [trained.clone(), held.clone()].concat();
        both.sort_unstable();
        assert_eq!(both, all);
        for class in 0..2 {
            let count = held.iter().filter(|row| labels[**row] == class).count();
            assert_eq!(count, 8, "class {class}");
        }
        let stands = |group| held.iter().any(|row| groups[*row] == group);
        assert!(trained.iter().all(|row| !stands(groups[*row])));
        let other = held_out(&Data::of_labels(&labels, &[], 2), &all, 4).expect("enough");
        assert_eq!((other[0].len(), other[1].len()), (64, 16));
    }

    #[test]
    fn few_samples_and_large_groups_hold_nothing_out() {
        let labels: Vec<u16> = (0..40).map(|i| i % 2).collect();
        let all: Vec<usize> = (0..40).collect();
        assert!(held_out(&Data::of_labels(&labels, &[], 2), &all, 1).is_some());
        assert!(held_out(&Data::of_labels(&labels, &[], 2), &all[..39], 1).is_none());
        let groups: Vec<usize> = (0..40).map(|i| i / 10).collect();
        assert!(held_out(&Data::of_labels(&labels, &groups, 2), &all, 1).is_none());
    }

    #[test]
    fn only_what_was_asked_for_is_said() {
        let usual = Extras::default();
        assert_eq!(
            (usual.to_string(), usual.adversarial_words()),
            Default::default()
        );
        let other = Extras {
            clip_norm: Some(2.0),
            label_smoothing: 0.1,
            adversarial_steps: 3,
            adversarial_ramp: 0.5,
            ..usual
        };
        assert_eq!(
            other.to_string(),
            ", gradients clipped at 2, label smoothing 0.1"
        );
        assert_eq!(
            other.adversarial_words(),
            " in 3 power steps growing over 0.5 of training"
        );
    }

    /// Three overlapping classes, `count` samples each: between two there is one direction
    /// only, which the first power step finds.
    fn trained(extras: Extras, count: usize) -> Vec<f32> {
        let mut random = Random::new(5);
        let labels: Vec<u16> = (0..3 * count).map(|i| (i % 3) as u16).collect();
        let of_label = |label: &u16| {
            let shift = f32::from(*label);
            [
                random.normal() + shift,
                random.normal() + shift * shift,
                random.normal(),
            ]
        };
        let values: Vec<f32> = labels.iter().flat_map(of_label).collect();
        let data = Data {
            views: &[&values],
            features: 3,
            ..Data::of_labels(&labels, &[], 3)
        };
        let wishes = crate::candidates::Wishes {
            extras,
            ..Default::default()
        };
        let recipe = &crate::candidates::candidates(&wishes, &[count; 3])[0];
        let all: Vec<usize> = (0..labels.len()).collect();
        let kernel = fieldtune_core::Kernel::lanes();
        let head = crate::recipe::train(recipe, &data, &all, 1, kernel).expect("trained");
        head.parameters
    }

    #[test]
    fn each_changes_the_head_and_none_breaks_it() {
        let usual = Extras::default();
        let plain = trained(usual, 12);
        let others = [
            Extras {
                towards_start: true,
                ..usual
            },
            Extras {
                clip_norm: Some(0.1),
                ..usual
            },
            Extras {
                average_weights: Some(0.9),
                ..usual
            },
            Extras {
                label_smoothing: 0.1,
                ..usual
            },
            Extras {
                adversarial_per_sample: true,
                ..usual
            },
            Extras {
                adversarial_steps: 2,
                ..usual
            },
            Extras {
                adversarial_ramp: 0.5,
                ..usual
            },
        ];
        for extras in others {
            let other = trained(extras, 12);
            assert!(other.iter().all(|value| value.is_finite()), "{extras:?}");
            assert_ne!(other, plain, "{extras:?}");
        }
        let recompute = Extras {
            recompute: true,
            ..usual
        };
        assert_eq!(trained(recompute, 12), plain);
    }

    #[test]
    fn early_stopping_needs_enough_samples() {
        let usual = Extras::default();
        let stops = Extras {
            early_stopping: Some(2),
            ..usual
        };
        assert_eq!(trained(stops, 19), trained(usual, 19));
        assert_ne!(trained(stops, 20), trained(usual, 20));
    }
}
