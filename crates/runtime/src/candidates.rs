//! Which recipes are worth trying, and in which order: the default first. What the
//! user has fixed by flags holds in every candidate. Trying them is `search.rs`.

use fieldtune_core::decay::Mode;
use fieldtune_core::optimizer::Optimizer;

use crate::error::{Error, ErrorKind, Result};
use crate::extras::Extras;
use crate::preprocess::View;
use crate::recipe::{Lambda, Normalise, Recipe, Shape};
use crate::tail::Pretrained;
use crate::views::ViewSet;

/// What the user has fixed; `None` leaves the choice to the search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    /// The head's layers.
    pub shape: Option<Shape>,
    /// The backbone's own layers after the cut instead; a session puts them into `shape`.
    pub tail: bool,
    /// The update rule.
    pub optimizer: Option<Optimizer>,
    /// Where the decay's coefficients come from.
    pub decay: Option<Mode>,
    /// The last layer's coefficient.
    pub lambda: Option<f32>,
    /// Relative length of adversarial perturbations; `Some(None)` for none.
    pub adversarial: Option<Option<f32>>,
    /// Passes over all samples.
    pub epochs: Option<u32>,
    /// Samples a batch.
    pub batch: Option<usize>,
    /// The views of each sample.
    pub views: Option<ViewSet>,
    /// The views that samples of this kind have; `None` for all.
    pub held: Option<ViewSet>,
    /// What the features are.
    pub list: List,
    /// What is off unless asked for.
    pub extras: Extras,
}

/// Which recipes are tried: each list is what was found to be best on features of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum List {
    /// For a network's features.
    #[default]
    Network,
    /// For statistics of recordings, alone or before a network's features.
    Statistics,
    /// For features of series.
    Series,
}

/// Samples a class from which on a search among recipes pays. Below, the choice would
/// follow chance: cross-validation then only tells how good the default is.
const SEARCH_FROM: usize = 3;

/// The views that a pretrained tail is trained on: each is a whole map a sample.
pub(crate) const TAIL_VIEWS: ViewSet = ViewSet::MIRRORED.union(ViewSet::ZOOMED);

/// The default's relative length of adversarial perturbations.
const ADVERSARIAL: f32 = 0.15;

/// The recipes to try, the default first; never empty. `counts` are the samples of each
/// class.
pub fn candidates(wishes: &Wishes, counts: &[usize]) -> Vec<Recipe> {
    if let Some(Shape::Tail(tail)) = &wishes.shape {
        // Each takes long, so there is one.
        return vec![wishes.applied_to(of_tail(tail))];
    }
    if let Some(shape @ Shape::Convolutions { .. }) = &wishes.shape {
        return vec![wishes.applied_to(of_values(shape))];
    }
    let mut candidates: Vec<Recipe> = Vec::new();
    let fewest = counts.iter().min().copied().unwrap_or(0);
    let tried = if fewest < SEARCH_FROM { 1 } else { usize::MAX };
    let list = match wishes.list {
        List::Network => defaults(),
        List::Statistics => of_statistics(),
        List::Series => of_series(),
    };
    for recipe in list.into_iter().take(tried) {
        let recipe = wishes.applied_to(recipe);
        if !candidates.contains(&recipe) {
            candidates.push(recipe);
        }
    }
    candidates
}

/// What is done where nothing is wished and nothing searched.
fn usual() -> Recipe {
    Recipe {
        shape: Shape::Linear,
        views: ViewSet::ALL,
        normalise: Normalise::RootLength,
        whitening: Some(0.8),
        optimizer: Optimizer::SGD,
        learning_rate: 0.003,
        epochs: 30,
        least_steps: 200,
        batch: 16,
        decay: Mode::Structural,
        lambda: Lambda::OverRows(10.0),
        adversarial: Some(ADVERSARIAL),
        extras: Extras::default(),
    }
}

/// `recipe` with a change.
fn changed(recipe: &Recipe, change: impl FnOnce(&mut Recipe)) -> Recipe {
    let mut recipe = recipe.clone();
    change(&mut recipe);
    recipe
}

/// The list before the user's wishes: one default, and what differs from it in one thing.
/// No hidden layers: on five draws of 5 MNIST samples a class, an MLP with 128 reached 31 to
/// 80 % where linear layers reached 78 to 85, cross-validation once chose it at 49 %, and it
/// took most of the search's time.
fn defaults() -> Vec<Recipe> {
    let default = usual();
    let like = |change: fn(&mut Recipe)| changed(&default, change);
    vec![
        default.clone(),
        like(|recipe| recipe.whitening = None),
        like(|recipe| recipe.whitening = Some(0.4)),
        like(|recipe| recipe.views = ViewSet::ALL.without(View::Mirrored)),
        like(|recipe| recipe.views = ViewSet::MIRRORED.union(ViewSet::LIT)),
        like(|recipe| recipe.views = ViewSet::MIRRORED),
        like(|recipe| recipe.views = ViewSet::ORIGINAL),
        like(|recipe| recipe.adversarial = None),
        like(|recipe| recipe.adversarial = Some(0.3)),
        like(|recipe| {
            recipe.normalise = Normalise::Length;
            recipe.whitening = None;
        }),
        like(|recipe| {
            recipe.normalise = Normalise::Standard;
            recipe.whitening = None;
        }),
        like(|recipe| recipe.shape = Shape::Prototype),
        like(|recipe| recipe.lambda = Lambda::OverRows(30.0)),
    ]
}

/// As [`defaults`], for statistics of recordings: few, of many scales, with little to whiten.
/// Measured on spoken digits, see `benches/README.md`; square roots and hidden layers, which
/// cross-validation over three speakers likes, were worse on a fourth.
fn of_statistics() -> Vec<Recipe> {
    let default = Recipe {
        normalise: Normalise::Standard,
        whitening: Some(0.95),
        lambda: Lambda::OverRows(30.0),
        ..usual()
    };
    let like = |change: fn(&mut Recipe)| changed(&default, change);
    vec![
        default.clone(),
        like(|recipe| {
            recipe.adversarial = None;
            recipe.lambda = Lambda::OverRows(10.0);
        }),
        like(|recipe| recipe.whitening = Some(0.7)),
        like(|recipe| recipe.views = ViewSet::ORIGINAL),
    ]
}

/// As [`defaults`], for features of series: thousands of shares whose spread tells little of
/// their worth. Measured on parts of the training files of eight sets, see
/// `benches/README.md`. A decay of 30 over the rows cost 10 points with one file a class.
fn of_series() -> Vec<Recipe> {
    let default = Recipe {
        normalise: Normalise::Standard,
        whitening: Some(0.95),
        views: ViewSet::ZOOMED,
        lambda: Lambda::OverRows(0.3),
        adversarial: Some(0.3),
        ..usual()
    };
    let like = |change: fn(&mut Recipe)| changed(&default, change);
    vec![
        default.clone(),
        like(|recipe| recipe.views = ViewSet::ORIGINAL),
        like(|recipe| {
            recipe.views = ViewSet::ORIGINAL;
            recipe.shape = Shape::Prototype;
        }),
    ]
}

/// How convolutions over the values of sensor files are trained, from nothing. What they
/// reach stands in `benches/README.md`; nothing was tuned.
fn of_values(shape: &Shape) -> Recipe {
    Recipe {
        shape: shape.clone(),
        views: ViewSet::ZOOMED,
        normalise: Normalise::Untouched,
        whitening: None,
        optimizer: Optimizer::ADAMW,
        learning_rate: 0.003,
        epochs: 60,
        least_steps: 600,
        lambda: Lambda::OverRows(0.3),
        ..usual()
    }
}

/// How a pretrained tail is trained.
fn of_tail(tail: &Pretrained) -> Recipe {
    Recipe {
        shape: Shape::Tail(tail.clone()),
        views: TAIL_VIEWS,
        normalise: Normalise::Untouched,
        whitening: Some(0.8),
        optimizer: Optimizer::SGD,
        learning_rate: 0.003,
        epochs: 2,
        least_steps: 200,
        batch: 16,
        decay: Mode::Structural,
        lambda: Lambda::OverRows(30.0),
        adversarial: Some(0.05),
        extras: Extras {
            towards_start: true,
            ..Extras::default()
        },
    }
}

impl Wishes {
    /// Whether convolutions over a sensor's own values are wished.
    pub(crate) fn convolutions(&self) -> bool {
        matches!(self.shape, Some(Shape::Convolutions { .. }))
    }

    /// The recipe for a microcontroller, which sees one view of each sample and has no room
    /// for whitening; of `batch` samples a step unless the user has fixed it.
    ///
    /// # Errors
    /// `Usage` for heads that are not trained from their features alone.
    pub fn for_device(&self, batch: usize) -> Result<Recipe> {
        let trained = matches!(self.shape, None | Some(Shape::Linear | Shape::Mlp(_)));
        if self.tail || !trained {
            let what = "a device trains heads of dense layers only; give --head linear or mlp:H";
            return Err(Error::new(ErrorKind::Usage, what));
        }
        Ok(self.applied_to(Recipe {
            views: ViewSet::ORIGINAL,
            whitening: None,
            batch,
            ..usual()
        }))
    }

    /// As [`Wishes::for_device`], for windows of a sensor, whose few features differ in size.
    ///
    /// # Errors
    /// As [`Wishes::for_device`].
    pub fn for_windows(&self, batch: usize) -> Result<Recipe> {
        let recipe = self.for_device(batch)?;
        Ok(self.applied_to(Recipe {
            normalise: Normalise::Standard,
            epochs: 100,
            lambda: Lambda::OverRows(5.0),
            ..recipe
        }))
    }

    /// The recipe with everything the user has fixed.
    fn applied_to(&self, mut recipe: Recipe) -> Recipe {
        if let Some(shape) = &self.shape {
            recipe.shape = shape.clone();
        }
        if let Some(optimizer) = self.optimizer {
            recipe.optimizer = optimizer;
            // Adam's steps have the size of the learning rate whatever the gradient.
            if matches!(optimizer, Optimizer::AdamW { .. }) {
                recipe.learning_rate = 0.001;
            }
        }
        recipe.decay = self.decay.unwrap_or(recipe.decay);
        recipe.lambda = self.lambda.map_or(recipe.lambda, Lambda::Fixed);
        recipe.adversarial = self.adversarial.unwrap_or(match recipe.adversarial {
            // Who says how they are made wants them.
            None if self.extras.says_of_adversarial() => Some(ADVERSARIAL),
            length => length,
        });
        if let Some(epochs) = self.epochs {
            (recipe.epochs, recipe.least_steps) = (epochs, 0);
        }
        recipe.batch = self.batch.unwrap_or(recipe.batch);
        recipe.views = self.views.unwrap_or(recipe.views);
        recipe.views = recipe.views.intersection(self.held.unwrap_or(ViewSet::ALL));
        // Pretrained weights are worth keeping.
        let towards_start = recipe.extras.towards_start || self.extras.towards_start;
        recipe.extras = Extras {
            towards_start,
            ..self.extras
        };
        if recipe.shape == Shape::Prototype {
            // Not trained, so nothing else matters: candidates that differ in it are one.
            let untrained = (None, Lambda::Fixed(0.0), Mode::None);
            (recipe.adversarial, recipe.lambda, recipe.decay) = untrained;
            recipe.extras = Extras::default();
        }
        recipe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_hold_in_every_candidate_and_nothing_is_tried_twice() {
        let wishes = Wishes {
            adversarial: Some(Some(0.05)),
            epochs: Some(3),
            ..Wishes::default()
        };
        let found = candidates(&wishes, &[20, 20]);
        // The two that differ in the adversary are the same now.
        assert_eq!(found.len(), defaults().len() - 2);
        assert!(
            found
                .iter()
                .filter(|r| r.shape != Shape::Prototype)
                .all(|r| r.adversarial == Some(0.05) && r.epochs_for(16) == 3)
        );
        assert_eq!(candidates(&Wishes::default(), &[20, 2]).len(), 1);
        let prototype = Wishes {
            shape: Some(Shape::Prototype),
            ..Wishes::default()
        };
        let found = candidates(&prototype, &[20]);
        assert!(found.iter().all(|r| r.adversarial.is_none()));
        let seen = Wishes {
            views: Some(ViewSet::ORIGINAL),
            ..Wishes::default()
        };
        let found = candidates(&seen, &[20]);
        assert!(found.iter().all(|r| r.views == ViewSet::ORIGINAL));
    }

    #[test]
    fn saying_how_adversarial_features_are_made_asks_for_them() {
        let wishes = Wishes {
            shape: Some(Shape::Linear),
            extras: Extras {
                adversarial_ramp: 0.5,
                ..Extras::default()
            },
            ..Wishes::default()
        };
        let found = candidates(&wishes, &[20]);
        assert!(found.iter().all(|recipe| recipe.adversarial.is_some()));
        let off = Wishes {
            adversarial: Some(None),
            ..wishes
        };
        let found = candidates(&off, &[20]);
        assert!(found.iter().all(|recipe| recipe.adversarial.is_none()));
    }
}
