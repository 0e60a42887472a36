//! Time until held-out samples are recognised: the same rows, batches, rule and rate for
//! everyone, on frozen features of steel defects, each from its own random start.

use fieldtune_benches::{Failure, frozen, work_folder};
use fieldtune_core::random::Random;
use fieldtune_core::transform::Transform;
use serde_json::{Value, json};

use crate::engines::{Engine, Peers};
use crate::ours;
use fieldtune_benches::cases::{CLASSES, Case, FEATURES, Head};

/// Training samples of each class.
const SAMPLES: usize = 20;
/// Training stops when this share of the held-out samples is recognised.
const WANTED: f64 = 0.97;
const LEARNING_RATE: f32 = 1e-3;
const MOST_EPOCHS: usize = 60;
const BATCH: usize = 16;

/// What everyone trains on.
pub struct Lesson {
    /// Training rows, then held-out rows.
    pub values: Vec<f32>,
    pub labels: Vec<u16>,
    /// Training rows.
    pub rows: usize,
    /// The training rows in a new order for each epoch.
    pub order: Vec<u16>,
    pub wanted: f64,
    pub learning_rate: f32,
}

/// Training that came to its end.
pub struct Learned {
    /// Without the time of testing; none where the accuracy was not reached.
    pub seconds: Option<f64>,
    pub epochs: Option<u64>,
    pub accuracy: f64,
}

impl Lesson {
    fn new() -> Result<Self, Failure> {
        let set = frozen::neu()?;
        let splits = set.splits(&[SAMPLES], 1);
        let split = splits.first().ok_or("no split")?;
        let rows: Vec<usize> = split.train.iter().chain(&split.test).copied().collect();
        let all = set
            .features
            .view(fieldtune::preprocess::View::Original, &rows);
        let transform = Transform {
            signed_root: true,
            length: (FEATURES as f32).sqrt(),
            ..Transform::default()
        };
        let mut values = Vec::with_capacity(rows.len() * FEATURES);
        for row in all.chunks_exact(set.features.width) {
            let start = values.len();
            values.extend_from_slice(&row[..FEATURES]);
            transform.apply(&mut values[start..]);
        }
        let mut random = Random::new(7);
        let mut order: Vec<u16> = (0..split.train.len() as u16).collect();
        let mut orders = Vec::new();
        for _ in 0..MOST_EPOCHS {
            random.shuffle(&mut order);
            orders.extend_from_slice(&order);
        }
        Ok(Self {
            values,
            labels: rows.iter().map(|row| set.features.labels[*row]).collect(),
            rows: split.train.len(),
            order: orders,
            wanted: WANTED,
            learning_rate: LEARNING_RATE,
        })
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * FEATURES..(row + 1) * FEATURES]
    }

    /// The share of the held-out rows whose own logit is the largest.
    pub fn accuracy(&self, logits: &[f32]) -> f64 {
        let held_out = &self.labels[self.rows..];
        let right = logits.chunks(CLASSES).zip(held_out).filter(|(row, label)| {
            let own = row[usize::from(**label)];
            row.iter().all(|logit| *logit <= own)
        });
        right.count() as f64 / held_out.len() as f64
    }

    /// Writes it for the references; the fields of a question.
    fn kept(&self) -> Result<Value, Failure> {
        let folder = work_folder("peers").join("lesson");
        std::fs::create_dir_all(&folder)?;
        let values: Vec<u8> = self.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(folder.join("features.f32"), values)?;
        for (name, numbers) in [("labels.u16", &self.labels), ("order.u16", &self.order)] {
            let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
            std::fs::write(folder.join(name), bytes)?;
        }
        Ok(json!({
            "folder": folder, "rows": self.rows, "accuracy": self.wanted,
            "learning_rate": self.learning_rate,
        }))
    }
}

/// Everyone learns `rounds` times, from other random starts. One row a head and way.
pub fn measured(peers: &mut Peers, rounds: u64) -> Result<Value, Failure> {
    let lesson = Lesson::new()?;
    let asked = lesson.kept()?;
    let engines: Vec<Engine> = Engine::on_one_thread().collect();
    let mut rows = Vec::new();
    println!(
        "\n| until {:.0} % of held-out steel defects are recognised, ms (epochs) | {} |\n|---|{}",
        100.0 * WANTED,
        engines
            .iter()
            .map(|it| it.name())
            .collect::<Vec<_>>()
            .join(" | "),
        "---|".repeat(engines.len()),
    );
    for (head, adversarial) in [
        (Head::Linear, false),
        (Head::Linear, true),
        (Head::Mlp, false),
        (Head::Mlp, true),
    ] {
        let case = Case {
            head,
            batch: BATCH,
            adamw: true,
            adversarial,
        };
        let mut found: Vec<Vec<Learned>> = engines.iter().map(|_| Vec::new()).collect();
        for seed in 0..rounds {
            for (engine, found) in engines.iter().zip(&mut found) {
                if engine.can(&case) {
                    found.push(learned(*engine, peers, &case, &lesson, &asked, seed)?);
                }
            }
        }
        rows.push(row(&case, &engines, &found));
    }
    Ok(json!({
        "samples_a_class": SAMPLES, "batch": BATCH, "optimizer": "adamw",
        "learning_rate": LEARNING_RATE, "accuracy": WANTED, "rounds": rounds, "rows": rows,
    }))
}

fn learned(
    engine: Engine,
    peers: &mut Peers,
    case: &Case,
    lesson: &Lesson,
    asked: &Value,
    seed: u64,
) -> Result<Learned, Failure> {
    if engine == Engine::Own {
        return ours::learn(case, lesson, seed);
    }
    let mut question = case.question(engine.peer());
    for (name, value) in asked.as_object().into_iter().flatten() {
        question[name] = value.clone();
    }
    question["seed"] = seed.into();
    let answer = peers.ask(engine, &question)?;
    Ok(Learned {
        seconds: answer["seconds"].as_f64(),
        epochs: answer["epochs"].as_u64(),
        accuracy: answer["accuracy"].as_f64().ok_or("no accuracy")?,
    })
}

/// Prints a line; medians over the rounds.
fn row(case: &Case, engines: &[Engine], found: &[Vec<Learned>]) -> Value {
    let way = if case.adversarial {
        ", adversarial"
    } else {
        ""
    };
    print!("| {}{way} |", case.head.name());
    let mut row = json!({"head": case.head.name(), "adversarial": case.adversarial});
    for (engine, found) in engines.iter().zip(found) {
        let mut ended: Vec<(f64, u64)> = found
            .iter()
            .filter_map(|it| Some((it.seconds?, it.epochs?)))
            .collect();
        ended.sort_by(|a, b| a.0.total_cmp(&b.0));
        match ended.get(ended.len() / 2) {
            Some((seconds, epochs)) => {
                print!(" {:.1} ({epochs}) |", 1e3 * seconds);
                row[engine.name()] = json!({
                    "median_ms": 1e3 * seconds, "epochs": epochs, "reached": ended.len(),
                    "runs": found.len(),
                    "accuracies": found.iter().map(|it| it.accuracy).collect::<Vec<_>>(),
                });
            }
            None => print!(" - |"),
        }
    }
    println!();
    row
}
