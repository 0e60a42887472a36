//! Fewer labels for the same accuracy? `cargo bench --bench suggest [-- --draws 10 --report]`.
//!
//! A head is trained on two samples a class. Then, again and again, some unlabelled samples
//! are given their labels and a new head is trained on all that have one: those that
//! `fieldtune suggest` names, or random ones. Measured on samples that are never labelled:
//! accuracy after 20, 50 and 100 labels, and how many random labels reach the same, between
//! measured numbers on straight lines over the logarithm of the labels. Margins alone and
//! k centres alone are measured too. Sets: steel defects, ants and bees, CIFAR-10 from
//! `../shared/data`. Heads are trained by the default recipe without a search.
//! Results are kept in `benches/results/suggest.json`.

use std::collections::BTreeMap;

use clap::Parser;
use fieldtune::candidates::{Wishes, candidates};
use fieldtune::recipe::{Trained, train};
use fieldtune::suggest::{choose, margin};
use fieldtune_benches::frozen::{self, Features, Set};
use fieldtune_benches::{Failure, keep, kept, machine, results};
use fieldtune_core::Kernel;
use fieldtune_core::predict::probabilities;
use fieldtune_core::random::Random;
use serde_json::{Value, json};

/// Labels of each class at the start.
const START: usize = 2;
/// Labels after which accuracy is measured, beside those of the start.
const LABELS: [usize; 8] = [10, 20, 35, 50, 75, 100, 150, 200];
/// Up to here suggestions are followed; random labels go on, to see when they catch up.
const SUGGESTED: usize = 100;
/// Test samples of a set without a test part of its own.
const TESTED: usize = 240;

#[derive(Parser)]
struct Arguments {
    /// Draws of the first labels and of the random ones.
    #[arg(long, default_value_t = 10)]
    draws: u64,
    /// Print what was kept; train nothing.
    #[arg(long)]
    report: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How the next samples are found.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Random,
    Suggested,
    Margins,
    Centres,
}

const WAYS: [(&str, Way); 4] = [
    ("random", Way::Random),
    ("suggested", Way::Suggested),
    ("margins alone", Way::Margins),
    ("k centres alone", Way::Centres),
];

/// Accuracies after each number of labels, one a draw.
type Curve = BTreeMap<usize, Vec<f64>>;

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let path = results().join("suggest.json");
    let mut report = kept(&path);
    if arguments.report {
        return print(&report);
    }
    type Open = fn() -> Result<Set, Failure>;
    let sets: [Open; 3] = [frozen::neu, frozen::hymenoptera, frozen::cifar10];
    for open in sets {
        let set = open()?;
        let mut curves = BTreeMap::<&str, Curve>::new();
        for draw in 0..arguments.draws {
            for (name, way) in WAYS {
                let curve = curves.entry(name).or_default();
                one(&set, way, draw, curve)?;
            }
            eprintln!("{}: draw {draw}", set.name);
        }
        report["sets"][set.name] = json!({
            "draws": arguments.draws, "classes": set.features.classes,
            "accuracy": curves, "machine": machine(),
        });
        keep(&path, &report)?;
    }
    print(&report)
}

/// Labels and trains until all numbers of labels are reached.
fn one(set: &Set, way: Way, draw: u64, curve: &mut Curve) -> Result<(), Failure> {
    let features = &set.features;
    let mut random = Random::new(0x5a99 + draw);
    let (mut pool, test) = parts(set, &mut random);
    let mut labelled = Vec::new();
    for class in 0..features.classes {
        for _ in 0..START {
            let is_of = |row: &usize| usize::from(features.labels[*row]) == class;
            let place = pool.iter().position(is_of).ok_or("a class is too small")?;
            labelled.push(pool.remove(place));
        }
    }
    let start = labelled.len();
    for labels in [0].into_iter().chain(LABELS) {
        let wanted = (start + labels).saturating_sub(labelled.len());
        if way != Way::Random && labels > SUGGESTED || wanted > pool.len() {
            break;
        }
        if wanted > 0 {
            let head = trained(features, &labelled, draw)?;
            let mut chosen = next(features, &head, way, &pool, wanted, &labelled)?;
            chosen.sort_unstable();
            chosen
                .iter()
                .rev()
                .for_each(|place| labelled.push(pool.remove(*place)));
        }
        let head = trained(features, &labelled, draw)?;
        let right = features.share_right(&head, &test)?;
        curve.entry(labels).or_default().push(right);
    }
    Ok(())
}

/// Rows that may be labelled, in random order, and those that are tested on.
fn parts(set: &Set, random: &mut Random) -> (Vec<usize>, Vec<usize>) {
    let all = set.features.labels.len();
    let (mut pool, test) = match set.trained() {
        Some(trained) => ((0..trained).collect::<Vec<_>>(), (trained..all).collect()),
        None => {
            let mut rows: Vec<usize> = (0..all).collect();
            random.shuffle(&mut rows);
            let test = rows.split_off(all - TESTED);
            (rows, test)
        }
    };
    random.shuffle(&mut pool);
    (pool, test)
}

fn trained(features: &Features, rows: &[usize], seed: u64) -> Result<Trained, Failure> {
    let chosen = features.chosen(rows);
    let head = chosen.with(|data| {
        let all: Vec<usize> = (0..data.len()).collect();
        let recipes = candidates(&Wishes::default(), &data.counts(all.iter().copied()));
        train(&recipes[0], data, &all, seed, Kernel::best())
    });
    Ok(head?)
}

/// Places in the pool of the samples that are labelled next.
fn next(
    features: &Features,
    head: &Trained,
    way: Way,
    pool: &[usize],
    count: usize,
    labelled: &[usize],
) -> Result<Vec<usize>, Failure> {
    if way == Way::Random {
        return Ok((0..count).collect());
    }
    let mut rows = features.mean(pool, head.views);
    let mut logits = head.logits(&rows, Kernel::best())?;
    probabilities(&mut logits, features.classes, 1.0);
    let margins: Vec<f32> = logits.chunks_exact(features.classes).map(margin).collect();
    let (transform, width) = (head.fitted.transform(), features.width);
    let transformed = |rows: &mut [f32]| {
        rows.chunks_exact_mut(width)
            .for_each(|row| transform.apply(row));
    };
    transformed(&mut rows);
    Ok(match way {
        Way::Margins => {
            let mut order: Vec<usize> = (0..pool.len()).collect();
            order.sort_by(|one, other| margins[*one].total_cmp(&margins[*other]));
            order.truncate(count);
            order
        }
        Way::Centres => {
            // All equally doubtful, the whole pool, far from what is labelled already.
            let mut known = features.mean(labelled, head.views);
            transformed(&mut known);
            centres(&rows, &known, width, count)
        }
        Way::Random | Way::Suggested => choose(&margins, &rows, width, count, Kernel::best()),
    })
}

/// The greedy choice of k centres among `rows`, those `known` being centres already.
fn centres(rows: &[f32], known: &[f32], width: usize, count: usize) -> Vec<usize> {
    let square = |one: &[f32], other: &[f32]| -> f32 {
        one.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum()
    };
    let of_known = |row: &[f32]| {
        let squares = known.chunks_exact(width).map(|known| square(row, known));
        squares.fold(f32::INFINITY, f32::min)
    };
    let mut distances: Vec<f32> = rows.chunks_exact(width).map(of_known).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let farthest = distances.iter().enumerate();
        let farthest = farthest.max_by(|one, other| one.1.total_cmp(other.1));
        let Some((place, _)) = farthest else { break };
        chosen.push(place);
        let centre = &rows[place * width..(place + 1) * width];
        for (distance, row) in distances.iter_mut().zip(rows.chunks_exact(width)) {
            *distance = distance.min(square(row, centre));
        }
        distances[place] = -1.0;
    }
    chosen
}

/// The means of a curve.
fn means(curve: &Value) -> Result<BTreeMap<usize, f64>, Failure> {
    let curve: Curve = serde_json::from_value(curve.clone())?;
    let mean = |values: &Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    Ok(curve
        .iter()
        .map(|(labels, values)| (*labels, mean(values)))
        .collect())
}

/// How many random labels reach an accuracy; `None` when the largest measured number does
/// not.
fn labels_for(random: &BTreeMap<usize, f64>, start: usize, accuracy: f64) -> Option<f64> {
    let total = |labels: usize| ((start + labels) as f64).ln();
    let pairs = random.iter().zip(random.iter().skip(1));
    let mut reached = pairs.filter_map(|((from, low), (to, high))| {
        let share = (accuracy - low) / (high - low);
        let between = total(*from) + share * (total(*to) - total(*from));
        (*high >= accuracy && *low < accuracy).then(|| between.exp() - start as f64)
    });
    reached.next()
}

/// Prints a table a set.
fn print(report: &Value) -> Result<(), Failure> {
    const SHOWN: [usize; 4] = [0, 20, 50, 100];
    for (name, set) in report["sets"]
        .as_object()
        .ok_or("nothing was measured yet")?
    {
        println!("\n| {name}, labels beyond the first {START} a class | 0 | 20 | 50 | 100 |");
        println!("|---|---|---|---|---|");
        for (way, _) in WAYS {
            let curve = means(&set["accuracy"][way])?;
            let cells = SHOWN.map(|labels| match curve.get(&labels) {
                Some(mean) => format!("{:.1}", 100.0 * mean),
                None => "-".into(),
            });
            println!("| {way} | {} |", cells.join(" | "));
        }
        let random = means(&set["accuracy"]["random"])?;
        let suggested = means(&set["accuracy"]["suggested"])?;
        let classes = set["classes"].as_u64().ok_or("no number of classes")? as usize;
        let most = random.keys().last().copied().unwrap_or(0);
        let cells = SHOWN[1..].iter().map(|labels| {
            let accuracy = suggested.get(labels)?;
            Some(match labels_for(&random, START * classes, *accuracy) {
                Some(needed) => format!("{needed:.0} ({:.1} times)", needed / *labels as f64),
                None => format!("over {most} ({:.1} times)", most as f64 / *labels as f64),
            })
        });
        let cells: Vec<String> = cells
            .map(|cell| cell.unwrap_or_else(|| "-".into()))
            .collect();
        println!(
            "| random labels for the accuracy of those suggested | 0 | {} |",
            cells.join(" | ")
        );
    }
    Ok(())
}
