//! Does it pay to train the backbone's own layers? Accuracy against the depth of the cut:
//! `cargo bench --bench depth [-- SET... WAY... DRAWS]`, SET being neu, cifar10 or
//! spoken-digits, WAY the beginning of a way's name, such as frozen or block15; without
//! any, all. `-- summary` trains nothing and writes the table anew.
//!
//! Frozen features with the default head, and `--head tail` at three cuts of the embedded
//! backbone, each with and without adversarial features, and with AdamW, on the same draws,
//! with the same two views. Maps are computed once at the deepest cut; the imported layers themselves
//! take them to the later cuts. No recipe is searched for: each is the first that the
//! search would try. Results go to `benches/results/depth.jsonl`, one line a training, as
//! they come; a line that is there is not computed again. The picture `depth.svg` is of the
//! ways without adversarial features.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::Instant;

use fieldtune::candidates::{Wishes, candidates};
use fieldtune::data::Data;
use fieldtune::model::Model;
use fieldtune::recipe::{Recipe, Shape, logits, train};
use fieldtune::search::best;
use fieldtune::tail::{Pretrained, Tail};
use fieldtune::views::ViewSet;
use fieldtune_benches::frozen::{self, Maps};
use fieldtune_benches::plot::{Captions, Point, Series, svg};
use fieldtune_benches::statistics::Estimate;
use fieldtune_benches::{Failure, machine, results};
use fieldtune_core::Kernel;
use fieldtune_core::network::{Layer, Network};
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::random::Random;
use fieldtune_core::transform::Transform;
use serde_json::{Value, json};

/// From the deepest on.
const CUTS: [&str; 3] = ["block13.Add", "block14.Add", "block15.project_conv.Conv"];
const SETS: [&str; 3] = ["neu", "cifar10", "spoken-digits"];
const SIZES: [usize; 2] = [5, 20];
/// Of a classifier of ten classes on the backbone's features: what is trained when all
/// else is frozen.
const CLASSIFIER_MULTIPLY_ADDS: f64 = 12_800.0;
/// Test samples a class.
const TESTED: usize = 40;

/// One way to train, on maps of its cut.
struct Way {
    name: String,
    recipe: Recipe,
    maps: Maps,
}

fn main() -> Result<(), Failure> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let draws: u64 = given.iter().find_map(|a| a.parse().ok()).unwrap_or(3);
    let wanted = |set: &&&str| given.iter().any(|a| a == *set);
    let mut sets: Vec<&str> = SETS.iter().filter(wanted).copied().collect();
    if sets.is_empty() {
        sets = SETS.to_vec();
    }
    if given.iter().any(|a| a == "summary") {
        sets.clear();
    }
    let named: Vec<&String> = given.iter().filter(|a| is_way(a)).collect();
    let path = results().join("depth.jsonl");
    let mut done = read(&path)?;
    for set in sets {
        let ways = ways(frozen::maps(
            set,
            CUTS[0],
            ViewSet::MIRRORED,
            SIZES[1] + TESTED,
        )?)?;
        for (size, draw) in SIZES.iter().flat_map(|s| (0..draws).map(move |d| (*s, d))) {
            let asked = |way: &&Way| {
                named.is_empty() || named.iter().any(|name| way.name.starts_with(*name))
            };
            for way in ways.iter().filter(asked) {
                let key = (set.to_string(), size, draw, way.name.clone());
                if done.contains_key(&key) {
                    continue;
                }
                let [accuracy, seconds] = one(way, size, draw)?;
                let line = json!({"set": set, "samples_per_class": size, "draw": draw,
                    "way": way.name, "accuracy": accuracy, "seconds": seconds});
                let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
                writeln!(file, "{line}")?;
                eprintln!("{line}");
                done.insert(key, accuracy);
            }
        }
    }
    summary(&done)
}

/// Whether an argument names ways, and not a set, a number of draws or what cargo passes.
fn is_way(argument: &str) -> bool {
    let other = SETS.contains(&argument) || argument.parse::<u64>().is_ok();
    !other && !argument.starts_with('-') && argument != "summary"
}

type Done = BTreeMap<(String, usize, u64, String), f64>;

fn read(path: &std::path::Path) -> Result<Done, Failure> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut done = Done::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        let word = |key: &str| line[key].as_str().unwrap_or_default().to_string();
        let number = |key: &str| line[key].as_u64().unwrap_or_default();
        let key = (
            word("set"),
            number("samples_per_class") as usize,
            number("draw"),
            word("way"),
        );
        done.insert(key, line["accuracy"].as_f64().unwrap_or_default());
    }
    Ok(done)
}

fn ways(deepest: Maps) -> Result<Vec<Way>, Failure> {
    let model = Model::embedded()?;
    let manifest = model.manifest();
    let wishes = Wishes {
        views: Some(ViewSet::MIRRORED),
        ..Wishes::default()
    };
    let default = |wishes: &Wishes| candidates(wishes, &[1]).remove(0);
    let deep = Tail::import(manifest, Model::embedded_bytes(), CUTS[0])?;
    let (body, parameters) = deep.body()?;
    let mut ways = vec![Way {
        name: "frozen".into(),
        recipe: default(&wishes),
        maps: through(&deepest, &body, parameters)?,
    }];
    for cut in CUTS {
        let tail = Tail::import(manifest, Model::embedded_bytes(), cut)?;
        let maps = between(&deepest, &deep, &tail)?;
        let wishes = Wishes {
            shape: Some(Shape::Tail(Pretrained::new(tail))),
            ..wishes.clone()
        };
        for (name, adversarial) in [("", None), (", no adversary", Some(None))] {
            ways.push(Way {
                name: format!("{cut}{name}"),
                recipe: default(&Wishes {
                    adversarial,
                    ..wishes.clone()
                }),
                maps: maps.clone(),
            });
        }
        // Steps of the learning rate's size, however small the gradient.
        let recipe = default(&Wishes {
            adversarial: Some(None),
            ..wishes.clone()
        });
        ways.push(Way {
            name: format!("{cut}, AdamW"),
            recipe: Recipe {
                optimizer: Optimizer::ADAMW,
                learning_rate: 0.003,
                ..recipe
            },
            maps: maps.clone(),
        });
    }
    Ok(ways)
}

/// Maps at the cut of `tail`, which is later than that of `deep`: all of deep's layers but
/// those that both have.
fn between(maps: &Maps, deep: &Tail, tail: &Tail) -> Result<Maps, Failure> {
    // The first layer only says the input's shape.
    let count = deep.layers().len() - (tail.layers().len() - 1);
    if count <= 1 {
        return Ok(maps.clone());
    }
    let mut layers = deep.layers()[..count].to_vec();
    layers.push(Layer::Flatten);
    let network = Network::new(&layers).map_err(|error| error.to_string())?;
    let own = deep.parameters().len() - tail.parameters().len();
    through(maps, &network, &deep.parameters()[..own])
}

fn through(maps: &Maps, network: &Network, parameters: &[f32]) -> Result<Maps, Failure> {
    let untouched = Transform::default();
    let view = |values: &Vec<f32>| logits(network, parameters, &untouched, values, Kernel::best());
    Ok(Maps {
        views: maps.views.iter().map(view).collect::<Result<_, _>>()?,
        width: network.classes(),
        ..maps.clone()
    })
}

/// Trains on a draw and tests on the rest: accuracy, and seconds of training.
fn one(way: &Way, size: usize, draw: u64) -> Result<[f64; 2], Failure> {
    let maps = &way.maps;
    let views: Vec<&[f32]> = maps.views.iter().map(Vec::as_slice).collect();
    let data = Data {
        views: &views,
        held: ViewSet::MIRRORED,
        labels: &maps.labels,
        groups: &[],
        features: maps.width,
        classes: maps.classes,
    };
    let (mut trained, mut tested) = (Vec::new(), Vec::new());
    let mut random = Random::new(0xdeb7 + draw);
    // A set with groups is tested on one whole group.
    let held_out = maps
        .groups
        .iter()
        .max()
        .map(|most| draw as usize % (most + 1));
    for class in 0..maps.classes {
        let of_class = |row: &usize| usize::from(maps.labels[*row]) == class;
        let mut rows: Vec<usize> = (0..maps.labels.len()).filter(of_class).collect();
        random.shuffle(&mut rows);
        let held = |row: &usize| held_out.is_some_and(|group| maps.groups[*row] == group);
        let (test, rest): (Vec<usize>, Vec<usize>) = rows.into_iter().partition(held);
        let (train, others) = rest.split_at(size.min(rest.len()));
        trained.extend(train);
        tested.extend(match held_out {
            Some(_) => test,
            None => others.iter().take(TESTED).copied().collect(),
        });
    }
    let start = Instant::now();
    let head = train(&way.recipe, &data, &trained, draw, Kernel::best())?;
    let seconds = start.elapsed().as_secs_f64();
    let outputs = head.judge(&data, &tested, Kernel::best())?;
    let rows = outputs.chunks_exact(maps.classes).zip(&tested);
    let right = rows.filter(|(row, sample)| best(row) == usize::from(maps.labels[**sample]));
    Ok([right.count() as f64 / tested.len() as f64, seconds])
}

fn summary(done: &Done) -> Result<(), Failure> {
    let mut cells = BTreeMap::<(&str, usize, &str), Vec<f64>>::new();
    for ((set, size, _, way), accuracy) in done {
        let cell = cells.entry((set, *size, way)).or_default();
        cell.push(100.0 * accuracy);
    }
    let mut rows = Vec::new();
    for ((set, size, way), values) in cells {
        let estimate = Estimate::of(&values);
        let (mean, draws) = (estimate.mean, values.len());
        println!("{set:14} {size:3} a class  {way:42} {mean:5.1} % over {draws} draws");
        rows.push(json!({"set": set, "samples_per_class": size, "way": way,
            "mean": estimate.mean, "half": estimate.half, "draws": draws}));
    }
    let report = json!({"machine": machine(), "cells": rows});
    for (name, text) in [
        ("depth.json", serde_json::to_string_pretty(&report)? + "\n"),
        ("depth.svg", picture(&rows)?),
    ] {
        let path = results().join(name);
        std::fs::write(&path, text)?;
        println!("written: {}", path.display());
    }
    Ok(())
}

/// Error against the multiply-adds of what is trained.
fn picture(rows: &[Value]) -> Result<String, Failure> {
    let model = Model::embedded()?;
    let mut trained = vec![("frozen".to_string(), CLASSIFIER_MULTIPLY_ADDS)];
    for cut in CUTS.iter().rev() {
        let tail = Tail::import(model.manifest(), Model::embedded_bytes(), cut)?;
        let (body, _) = tail.body()?;
        trained.push((format!("{cut}, no adversary"), body.multiply_adds() as f64));
    }
    let mut series: Vec<Series> = Vec::new();
    for (set, size) in SETS.iter().flat_map(|set| SIZES.map(|size| (set, size))) {
        let point = |(way, cost): &(String, f64)| {
            let row = rows.iter().find(|row| {
                row["set"] == *set && row["samples_per_class"] == size && row["way"] == *way
            })?;
            Some(Point {
                x: cost / 1e6,
                // An error of 0 has no place on a logarithmic axis.
                y: (100.0 - row["mean"].as_f64()?).max(0.1),
                // The draws are the same for all ways: how far they spread says little
                // about differences between ways.
                half: 0.0,
            })
        };
        series.push(Series {
            name: format!("{set}, {size} a class"),
            points: trained.iter().filter_map(point).collect(),
        });
    }
    let captions = Captions {
        title: "Training more of the backbone's own layers",
        x: "million multiply-adds a picture in what is trained",
        y: "error in %",
    };
    Ok(svg(&captions, &series))
}
