//! What each option of training changes on frozen features: the default, and the default
//! with one thing changed, on the same draws: `cargo bench --bench options [-- SEEDS]`.
//!
//! Data: `../shared/data/neu-surface-defects` and `hymenoptera`. Each line is the mean
//! difference from the first line of its head, in points of accuracy, with the half width
//! of its 95 % interval over the draws (Student's t). Results go to
//! `benches/results/options.json`.

use std::collections::BTreeMap;

use fieldtune::preprocess::View;
use fieldtune::views::ViewSet;
use fieldtune_benches::frozen::{self, Features};
use fieldtune_benches::splits::Split;
use fieldtune_benches::statistics::Estimate;
use fieldtune_benches::{Failure, machine, results};
use fieldtune_core::Kernel;
use fieldtune_core::adversary::Adversary;
use fieldtune_core::decay::{Decay, Mode};
use fieldtune_core::network::Network;
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::predict;
use fieldtune_core::prototype::{class_means, imprint};
use fieldtune_core::train::{Options, Samples, Trainer, fit, fit_stopping_early};
use fieldtune_core::transform::Transform;
use serde_json::{Value, json};

const BATCH: usize = 16;
const EPOCHS: usize = 30;
const LEAST_STEPS: usize = 200;
const SIZES: [usize; 3] = [5, 10, 20];

/// One way to train: the options, and what stands outside them.
#[derive(Clone, Copy)]
struct Way {
    options: Options,
    learning_rate: f32,
    /// The last layer's coefficient times the number of rows.
    lambda_rows: f32,
    /// Every fifth sample is held out, and training stops when they get no better.
    stops_early: bool,
}

fn main() -> Result<(), Failure> {
    let seeds = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(10);
    let sets = [frozen::neu()?, frozen::hymenoptera()?];
    let mut report = json!({"machine": machine(), "seeds": seeds, "sizes": SIZES});
    for (head, hidden) in [("linear", &[][..]), ("mlp:128", &[128])] {
        for set in &sets {
            let title = format!("{head} on {}", set.name);
            let splits = set.splits(&SIZES, seeds);
            report[head][set.name] = table(&title, hidden, &set.features, &splits)?;
            let text = serde_json::to_string_pretty(&report)? + "\n";
            std::fs::write(results().join("options.json"), text)?;
        }
    }
    Ok(())
}

/// The ways to train, the default first.
fn ways(linear: bool) -> Vec<(&'static str, Way)> {
    let options = Options {
        decay: Decay {
            mode: Mode::Structural,
            lambda: 0.0,
        },
        adversary: Some(Adversary::new(0.15)),
        ..Options::new(BATCH, Kernel::best())
    };
    let default = Way {
        options,
        learning_rate: if linear { 0.003 } else { 0.01 },
        lambda_rows: 30.0,
        stops_early: false,
    };
    let with = |options: Options| Way { options, ..default };
    let decay = |mode| {
        with(Options {
            decay: Decay { mode, lambda: 0.0 },
            ..options
        })
    };
    let adversary = |adversary| {
        with(Options {
            adversary,
            ..options
        })
    };
    let epsilon = |epsilon| adversary(Some(Adversary::new(epsilon)));
    let optimizer = |optimizer, learning_rate| Way {
        options: Options {
            optimizer,
            ..options
        },
        learning_rate,
        ..default
    };
    let usual = Adversary::new(0.15);
    vec![
        ("default", default),
        ("no decay", decay(Mode::None)),
        ("one lambda", decay(Mode::Uniform)),
        ("decay measured", decay(Mode::Measured)),
        ("decay online", decay(Mode::Online)),
        (
            "decay towards the start",
            with(Options {
                anchored: true,
                ..options
            }),
        ),
        (
            "lambda a third",
            Way {
                lambda_rows: 10.0,
                ..default
            },
        ),
        (
            "lambda threefold",
            Way {
                lambda_rows: 90.0,
                ..default
            },
        ),
        ("no adversarial features", adversary(None)),
        ("epsilon 0.05", epsilon(0.05)),
        ("epsilon 0.3", epsilon(0.3)),
        ("epsilon 0.5", epsilon(0.5)),
        (
            "two power steps",
            adversary(Some(Adversary { steps: 2, ..usual })),
        ),
        (
            "a layer for each sample",
            adversary(Some(Adversary {
                per_sample: true,
                ..usual
            })),
        ),
        (
            "Nesterov",
            optimizer(Optimizer::NESTEROV, default.learning_rate),
        ),
        (
            "plain SGD, 10 times the rate",
            optimizer(Optimizer::PLAIN_SGD, 10.0 * default.learning_rate),
        ),
        ("AdamW, rate 0.001", optimizer(Optimizer::ADAMW, 0.001)),
        (
            "gradient clipped at 1",
            with(Options {
                clip_norm: Some(1.0),
                ..options
            }),
        ),
        (
            "average of weights, 0.95",
            with(Options {
                average: Some(0.95),
                ..options
            }),
        ),
        (
            "label smoothing 0.1",
            with(Options {
                label_smoothing: 0.1,
                ..options
            }),
        ),
        (
            "early stopping",
            Way {
                stops_early: true,
                ..with(Options {
                    keep_best: true,
                    ..options
                })
            },
        ),
    ]
}

fn table(
    title: &str,
    hidden: &[usize],
    features: &Features,
    splits: &[Split],
) -> Result<Value, Failure> {
    println!("\n{title}: accuracy in %, then differences from it; samples a class");
    print!("{:30}", "");
    SIZES.iter().for_each(|size| print!("{size:>15}"));
    println!();
    let mut found = serde_json::Map::new();
    let mut first: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for (name, way) in ways(hidden.is_empty()) {
        let mut cells: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for split in splits {
            let accuracy = accuracy(&way, hidden, features, split)?;
            cells
                .entry(split.samples_per_class)
                .or_default()
                .push(100.0 * accuracy);
        }
        print!("{name:30}");
        for (size, values) in &cells {
            match first.get(size) {
                None => print!("{:15.2}", Estimate::of(values).mean),
                Some(base) => {
                    let pairs = values.iter().zip(base);
                    let differences: Vec<f64> = pairs.map(|(a, b)| a - b).collect();
                    let Estimate { mean, half } = Estimate::of(&differences);
                    print!("{mean:+8.2} ±{half:5.2}");
                }
            }
        }
        println!();
        found.insert(name.into(), json!(cells));
        if first.is_empty() {
            first = cells;
        }
    }
    Ok(found.into())
}

/// Rows of a split, transformed as the default recipe does it.
struct Rows {
    values: Vec<f32>,
    labels: Vec<u16>,
    width: usize,
}

impl Samples for Rows {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn read(&self, index: usize, features: &mut [f32]) -> u16 {
        features.copy_from_slice(&self.values[index * self.width..(index + 1) * self.width]);
        self.labels[index]
    }
}

impl Rows {
    /// Both views of some samples.
    fn new(features: &Features, rows: &[usize]) -> Self {
        let views = [View::Original, View::Mirrored].map(|view| features.view(view, rows));
        let labels: Vec<u16> = rows.iter().map(|row| features.labels[*row]).collect();
        Self {
            values: transformed(views.concat(), features.width),
            labels: labels.repeat(views.len()),
            width: features.width,
        }
    }
}

fn transformed(mut values: Vec<f32>, width: usize) -> Vec<f32> {
    let transform = Transform {
        signed_root: true,
        length: (width as f32).sqrt(),
        ..Transform::default()
    };
    values
        .chunks_exact_mut(width)
        .for_each(|row| transform.apply(row));
    values
}

fn accuracy(
    way: &Way,
    hidden: &[usize],
    features: &Features,
    split: &Split,
) -> Result<f64, Failure> {
    let network = Network::mlp(features.width, hidden, features.classes)?;
    let fifth = |position: usize| way.stops_early && position % 5 == 4;
    let part = |held_out: bool| -> Vec<usize> {
        let rows = split.train.iter().enumerate();
        rows.filter(|(position, _)| fifth(*position) == held_out)
            .map(|(_, row)| *row)
            .collect()
    };
    let (rows, held_out) = (
        Rows::new(features, &part(false)),
        Rows::new(features, &part(true)),
    );
    let count = rows.labels.len();
    let mut options = way.options;
    options.decay.lambda = way.lambda_rows / count as f32;
    let mut arena = vec![0.0; options.plan(&network)?.elements()];
    let mut trainer = Trainer::new(&network, options, &mut arena, split.seed)?;
    if hidden.is_empty() {
        begin_with_class_means(&mut trainer, &rows, features.classes);
    }
    let (mut order, mut labels) = (vec![0; count], vec![0; BATCH]);
    let epochs = EPOCHS.max(LEAST_STEPS.div_ceil(count.div_ceil(BATCH))) as u32;
    let rate = way.learning_rate;
    if way.stops_early {
        let patience = epochs / 5;
        fit_stopping_early(
            &mut trainer,
            &rows,
            &held_out,
            patience,
            epochs,
            rate,
            &mut order,
            &mut labels,
        )?;
    } else {
        fit(&mut trainer, &rows, epochs, rate, &mut order, &mut labels)?;
    }
    let tested = transformed(
        features.mean(&split.test, ViewSet::MIRRORED),
        features.width,
    );
    let count = split.test.len();
    let need = predict::workspace_elements(&network, count, options.kernel);
    let mut logits = vec![0.0; count * features.classes];
    let parameters = trainer.parameters();
    let mut workspace = vec![0.0; need];
    predict::logits(
        &network,
        parameters,
        options.kernel,
        &tested,
        &mut workspace,
        &mut logits,
    )?;
    let hits = logits.chunks(features.classes).zip(&split.test);
    let right = hits.filter(|(logits, row)| {
        let own = logits[usize::from(features.labels[**row])];
        logits.iter().all(|logit| *logit <= own)
    });
    Ok(right.count() as f64 / count as f64)
}

fn begin_with_class_means(trainer: &mut Trainer<'_>, rows: &Rows, classes: usize) {
    /// As the default recipe has it.
    const GAIN: f32 = 20.0;
    let (mut means, mut counts) = (vec![0.0; classes * rows.width], vec![0; classes]);
    class_means(&rows.values, &rows.labels, &mut means, &mut counts);
    let (weights, biases) = trainer.parameters_mut().split_at_mut(classes * rows.width);
    imprint(&means, GAIN / rows.width as f32, weights, biases);
}
