//! A study: methods compared over numbers of training samples, each method's settings
//! chosen on held-out training samples. Says which runs are missing and which setting a
//! method chose; runs nothing.

use std::ops::Range;

use crate::data::Source;
use crate::journal::Journal;
use crate::setting::{Fold, Recipe, Setting, Variant};
use crate::training::Outcome;

/// Held-out errors below this count as this.
const LEAST_ERROR: f64 = 1e-3;

/// What is compared with what.
pub struct Study {
    /// Names the files and the flag.
    pub name: &'static str,
    /// Heads the table.
    pub title: String,
    /// The images.
    pub source: Source,
    /// The layers, as [`crate::nets::parse`] reads them.
    pub network: &'static str,
    /// How the layers below the last were trained beforehand, if they were.
    pub pretrained: Option<Recipe>,
    /// What differs with N.
    pub sizes: Vec<Size>,
    /// Draws of samples and of starting weights.
    pub seeds: u64,
    /// The first is plain training, which sample savings are counted against.
    pub methods: Vec<Method>,
    /// Index of the method that the others' errors are compared with.
    pub baseline: usize,
    /// Most test images.
    pub tested: usize,
}

/// One number of training samples.
#[derive(Clone, Copy)]
pub struct Size {
    /// N.
    pub samples: usize,
    /// What all methods share at this N.
    pub recipe: Recipe,
    /// Parts for cross-validation, of which the first `folds` are held out in turn.
    pub parts: usize,
    /// How many of the parts are used.
    pub folds: usize,
    /// Whether every candidate is also trained on all samples and tested, to show how the
    /// error depends on it. Nothing is chosen by that.
    pub sweep: bool,
    /// Whether only plain training runs: a point further out on its curve.
    pub plain_only: bool,
}

/// A method and what is chosen from.
pub struct Method {
    /// Its name in tables.
    pub name: &'static str,
    /// The settings tried; as many for each method that has any to choose.
    pub candidates: Vec<Variant>,
}

/// How a method's setting is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// In each draw from that draw's samples alone, as a user would have to.
    PerDraw,
    /// For each N by the mean over all draws: less chance in the choice.
    Pooled,
    /// Once, by the mean over all draws and all N: what comes of a setting that is not
    /// tuned again when there are more or fewer samples.
    Once,
}

impl Study {
    /// Methods that run at a size.
    pub fn methods_at(&self, size: &Size) -> impl Iterator<Item = &Method> {
        let count = if size.plain_only {
            1
        } else {
            self.methods.len()
        };
        self.methods.iter().take(count)
    }

    /// The runs that can be made now and are not in the journal. After they are made,
    /// others may follow from what they found.
    pub fn missing(&self, journal: &Journal) -> Vec<Setting> {
        let mut missing = Vec::new();
        for size in &self.sizes {
            for method in self.methods_at(size) {
                for seed in 0..self.seeds {
                    let wanted = self.wanted(size, method, seed, journal);
                    let new = wanted.into_iter().filter(|s| journal.get(s).is_none());
                    missing.extend(new);
                }
            }
        }
        missing
    }

    /// Runs that will follow once the missing ones are made, roughly: one for each choice
    /// that cannot be made yet.
    pub fn later(&self, journal: &Journal) -> Vec<Setting> {
        let mut later = Vec::new();
        for size in &self.sizes {
            for method in self.methods_at(size) {
                let open = (0..self.seeds).filter(|seed| {
                    let choice = Choice::PerDraw;
                    !size.sweep && self.chosen(size, method, *seed, choice, journal).is_none()
                });
                later.extend(open.map(|seed| self.last(size, &method.candidates[0], seed)));
            }
        }
        later
    }

    fn wanted(&self, size: &Size, method: &Method, seed: u64, journal: &Journal) -> Vec<Setting> {
        let mut wanted = Vec::new();
        for variant in &method.candidates {
            if method.candidates.len() > 1 {
                let folds = 0..size.folds;
                wanted.extend(folds.map(|fold| self.fold(size, variant, seed, fold)));
            }
            if size.sweep {
                wanted.push(self.last(size, variant, seed));
            }
        }
        for choice in [Choice::PerDraw, Choice::Pooled, Choice::Once] {
            if let Some(index) = self.chosen(size, method, seed, choice, journal) {
                let last = self.last(size, &method.candidates[index], seed);
                if !wanted.contains(&last) {
                    wanted.push(last);
                }
            }
        }
        wanted
    }

    /// The run that trains on all samples and is tested.
    pub fn last(&self, size: &Size, variant: &Variant, seed: u64) -> Setting {
        Setting {
            source: self.source,
            network: self.network.into(),
            samples: size.samples,
            seed,
            held_out: None,
            pretrained: self.pretrained,
            recipe: size.recipe,
            variant: *variant,
        }
    }

    fn fold(&self, size: &Size, variant: &Variant, seed: u64, index: usize) -> Setting {
        let held_out = Some(Fold {
            index,
            of: size.parts,
        });
        Setting {
            held_out,
            ..self.last(size, variant, seed)
        }
    }

    /// Index of the candidate with the lowest held-out error (of equal ones, the lowest
    /// held-out loss); `None` while runs for that are missing.
    pub fn chosen(
        &self,
        size: &Size,
        method: &Method,
        seed: u64,
        choice: Choice,
        journal: &Journal,
    ) -> Option<usize> {
        if method.candidates.len() == 1 {
            return Some(0);
        }
        let alone = std::slice::from_ref(size);
        let (seeds, sizes) = match choice {
            Choice::PerDraw => (seed..seed + 1, alone),
            Choice::Pooled => (0..self.seeds, alone),
            Choice::Once => (0..self.seeds, self.sizes.as_slice()),
        };
        let mut best: Option<(f64, f64, usize)> = None;
        for (index, variant) in method.candidates.iter().enumerate() {
            let (mut error, mut loss) = (0.0, 0.0);
            for size in sizes.iter().filter(|size| !size.plain_only) {
                let (e, l) = self.held_out(size, variant, seeds.clone(), journal)?;
                // Errors of different N weigh the same in logarithms.
                error += e.max(LEAST_ERROR).ln();
                loss += l;
            }
            let better = best.is_none_or(|(e, l, _)| {
                error < e - 1e-9 || ((error - e).abs() <= 1e-9 && loss < l)
            });
            if better {
                best = Some((error, loss, index));
            }
        }
        best.map(|(_, _, index)| index)
    }

    /// Mean held-out error and loss of a candidate; `None` while runs are missing.
    fn held_out(
        &self,
        size: &Size,
        variant: &Variant,
        seeds: Range<u64>,
        journal: &Journal,
    ) -> Option<(f64, f64)> {
        let (mut error, mut loss, mut runs) = (0.0, 0.0, 0.0);
        for seed in seeds {
            for fold in 0..size.folds {
                let outcome = journal.get(&self.fold(size, variant, seed, fold))?;
                error += outcome.error;
                loss += outcome.loss;
                runs += 1.0;
            }
        }
        Some((error / f64::max(runs, 1.0), loss / f64::max(runs, 1.0)))
    }

    /// The tested run of the chosen candidate, with the candidate's index.
    pub fn result<'j>(
        &self,
        size: &Size,
        method: &Method,
        seed: u64,
        choice: Choice,
        journal: &'j Journal,
    ) -> Option<(usize, &'j Outcome)> {
        let index = self.chosen(size, method, seed, choice, journal)?;
        let outcome = journal.get(&self.last(size, &method.candidates[index], seed))?;
        Some((index, outcome))
    }
}
