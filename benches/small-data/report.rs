//! What a finished study found: tables for people, the same as JSON, and curves.

use std::fmt::Write;

use fieldtune_benches::machine;
use serde_json::{Value, json};

use crate::journal::Journal;
use crate::setting::Variant;
use crate::study::{Choice, Method, Size, Study};
use fieldtune_benches::plot::{self, Captions, Point, Series};
use fieldtune_benches::statistics::{Estimate, Saving, changes, saving};

/// Errors up to this times the best count as near it.
const NEAR: f64 = 1.1;

/// The results of one method at one N.
struct Cell {
    samples: usize,
    /// Test errors in %, one a draw.
    errors: Vec<f64>,
    /// Indices of the candidates, one a draw.
    chosen: Vec<usize>,
    /// Mean seconds of a run.
    seconds: f64,
}

/// The results of one method.
struct Row<'s> {
    method: &'s Method,
    cells: Vec<Cell>,
}

/// A study with its results.
pub struct Report<'s> {
    study: &'s Study,
    journal: &'s Journal,
}

impl<'s> Report<'s> {
    /// Of a study whose runs are all in the journal; missing ones are left out.
    pub fn new(study: &'s Study, journal: &'s Journal) -> Self {
        Self { study, journal }
    }

    fn rows(&self, choice: Choice) -> Vec<Row<'s>> {
        let rows = self.study.methods.iter().map(|method| {
            let sizes = self.study.sizes.iter();
            let runs =
                sizes.filter(|size| self.study.methods_at(size).any(|m| m.name == method.name));
            Row {
                method,
                cells: runs
                    .filter_map(|size| self.cell(size, method, choice))
                    .collect(),
            }
        });
        rows.collect()
    }

    fn cell(&self, size: &Size, method: &Method, choice: Choice) -> Option<Cell> {
        let results = (0..self.study.seeds)
            .map(|seed| self.study.result(size, method, seed, choice, self.journal))
            .collect::<Option<Vec<_>>>()?;
        let count = results.len().max(1) as f64;
        Some(Cell {
            samples: size.samples,
            errors: results.iter().map(|(_, run)| 100.0 * run.error).collect(),
            chosen: results.iter().map(|(index, _)| *index).collect(),
            seconds: results.iter().map(|(_, run)| run.seconds).sum::<f64>() / count,
        })
    }

    /// Test errors in % of every candidate of a method at a size that sweeps.
    fn sweep(&self, size: &Size, method: &Method) -> Vec<(Variant, Vec<f64>)> {
        let candidates = method.candidates.iter().map(|variant| {
            let runs = (0..self.study.seeds)
                .filter_map(|seed| self.journal.get(&self.study.last(size, variant, seed)));
            (*variant, runs.map(|run| 100.0 * run.error).collect())
        });
        candidates.collect()
    }

    /// The whole report as text.
    pub fn markdown(&self) -> String {
        let study = self.study;
        let recipe = &study.sizes[0].recipe;
        let mut out = format!("# {}\n\n", study.title);
        let _ = writeln!(
            out,
            "Network `{}`. {:?}, learning rate {}, {:?}, batch {}. {} draws of training \
             samples and of starting weights, the same for every method; errors on {} test \
             images in %, mean and 95 % confidence interval (Student's t over the draws). \
             `cargo bench --bench small-data -- --only {}`\n",
            study.network,
            recipe.rule,
            recipe.learning_rate,
            recipe.course,
            recipe.batch,
            study.seeds,
            study.tested,
            study.name
        );
        out += "Steps of training:";
        for size in &study.sizes {
            let _ = write!(out, " {} at N = {};", size.recipe.steps, size.samples);
        }
        out += "\n\n";
        for (choice, words) in [
            (
                Choice::PerDraw,
                "Chosen in each draw by that draw's held-out training samples",
            ),
            (
                Choice::Pooled,
                "Chosen for each N by the mean held-out error over all draws",
            ),
            (
                Choice::Once,
                "Chosen once for all N by the mean held-out error over all draws and all N",
            ),
        ] {
            let rows = self.rows(choice);
            let _ = writeln!(out, "## {words}\n");
            out += &self.errors(&rows);
            out += &self.relative(&rows);
            out += &self.savings(&rows);
            out += &choices(&rows);
        }
        out + &self.sweeps()
    }

    fn header(&self, first: &str) -> String {
        let sizes = self.study.sizes.iter();
        let names: Vec<String> = sizes.map(|size| format!(" {} ", size.samples)).collect();
        let lines = "---:|".repeat(names.len());
        format!("| {first} |{}|\n|---|{lines}\n", names.join("|"))
    }

    /// A table with a line a method and a column a size.
    fn table(
        &self,
        first: &str,
        rows: &[Row<'_>],
        entry: impl Fn(&Row<'_>, &Cell) -> String,
    ) -> String {
        let mut out = self.header(first);
        for row in rows {
            let _ = write!(out, "| {} |", row.method.name);
            for size in &self.study.sizes {
                let cell = row.cells.iter().find(|cell| cell.samples == size.samples);
                let text = cell.map_or(String::new(), |cell| entry(row, cell));
                let _ = write!(out, " {text} |");
            }
            out.push('\n');
        }
        out + "\n"
    }

    fn errors(&self, rows: &[Row<'_>]) -> String {
        self.table("error in %, N =", rows, |_, cell| {
            let estimate = Estimate::of(&cell.errors);
            format!("{:.2} ± {:.2}", estimate.mean, estimate.half)
        })
    }

    fn relative(&self, rows: &[Row<'_>]) -> String {
        let baseline = &rows[self.study.baseline];
        let first = format!("change in % against {}, N =", baseline.method.name);
        let others: Vec<Row<'_>> = rows
            .iter()
            .filter(|row| row.method.name != baseline.method.name)
            .map(Row::again)
            .collect();
        self.table(&first, &others, |_, cell| {
            let same = |base: &&Cell| base.samples == cell.samples;
            let Some(base) = baseline.cells.iter().find(same) else {
                return String::new();
            };
            let estimate = Estimate::of(&changes(&cell.errors, &base.errors));
            format!(
                "{:+.1} ± {:.1}",
                100.0 * estimate.mean,
                100.0 * estimate.half
            )
        })
    }

    fn savings(&self, rows: &[Row<'_>]) -> String {
        let plain = curve(&rows[0]);
        let others: Vec<Row<'_>> = rows[1..].iter().map(Row::again).collect();
        let first = format!("samples that {} needs, in N, N =", rows[0].method.name);
        self.table(&first, &others, |_, cell| {
            let mean = Estimate::of(&cell.errors).mean;
            match saving(&plain, cell.samples, mean) {
                Saving::Times(times) => format!("{times:.2}"),
                Saving::More(times) => format!("> {times:.1}"),
                Saving::Less(times) => format!("< {times:.1}"),
            }
        })
    }

    fn sweeps(&self) -> String {
        let mut out = String::new();
        for size in self.study.sizes.iter().filter(|size| size.sweep) {
            let _ = writeln!(
                out,
                "## Error over the candidates, N = {}\n\nTest errors in %, for information: \
                 nothing was chosen by them.\n",
                size.samples
            );
            for method in self
                .study
                .methods_at(size)
                .filter(|m| m.candidates.len() > 1)
            {
                let _ = write!(out, "- {}:", method.name);
                let mut means = Vec::new();
                for (variant, errors) in self.sweep(size, method) {
                    let estimate = Estimate::of(&errors);
                    let label = variant.label();
                    let _ = write!(
                        out,
                        " {label}: {:.2} ± {:.2};",
                        estimate.mean, estimate.half
                    );
                    means.push(estimate.mean);
                }
                let best = means.iter().copied().fold(f64::INFINITY, f64::min);
                let near = means.iter().filter(|mean| **mean <= NEAR * best).count();
                let _ = writeln!(
                    out,
                    " {near} of {} within a tenth of the best.",
                    means.len()
                );
            }
            out.push('\n');
        }
        out
    }

    /// Error against N, as SVG.
    pub fn curves(&self) -> String {
        let rows = self.rows(Choice::PerDraw);
        let series: Vec<Series> = rows
            .iter()
            .map(|row| Series {
                name: row.method.name.into(),
                points: row.cells.iter().map(Cell::point).collect(),
            })
            .collect();
        let captions = Captions {
            title: &self.study.title,
            x: "training samples N",
            y: "test error in %",
        };
        plot::svg(&captions, &series)
    }

    /// Error against the candidates' strength at each N that sweeps, as SVG.
    pub fn sweep_curves(&self) -> Vec<(usize, String)> {
        let sizes = self.study.sizes.iter().filter(|size| size.sweep);
        let picture = |size: &Size| {
            let methods = self.study.methods_at(size);
            let series = methods.filter(|m| m.candidates.len() > 1).map(|method| {
                let points = self
                    .sweep(size, method)
                    .into_iter()
                    .map(|(variant, errors)| {
                        let estimate = Estimate::of(&errors);
                        Point {
                            x: f64::from(variant.strength()),
                            y: estimate.mean,
                            half: estimate.half,
                        }
                    });
                Series {
                    name: method.name.into(),
                    points: points.collect(),
                }
            });
            let title = format!("{}, N = {}", self.study.title, size.samples);
            let captions = Captions {
                title: &title,
                x: "lambda (of the last layer) or epsilon",
                y: "test error in %",
            };
            plot::svg(&captions, &series.collect::<Vec<_>>())
        };
        sizes.map(|size| (size.samples, picture(size))).collect()
    }

    /// Everything as JSON, with the errors of every draw.
    pub fn json(&self) -> Value {
        let study = self.study;
        let rows = |choice| -> Vec<Value> {
            let rows = self.rows(choice);
            rows.iter().map(|row| row.json(&rows[0])).collect()
        };
        let sizes = study.sizes.iter();
        let sizes = sizes.map(|size| {
            json!({
                "samples": size.samples, "recipe": size.recipe,
                "parts": size.parts, "folds": size.folds,
            })
        });
        json!({
            "machine": machine(),
            "title": study.title,
            "source": study.source,
            "network": study.network,
            "seeds": study.seeds,
            "tested": study.tested,
            "sizes": sizes.collect::<Vec<_>>(),
            "chosen_per_draw": rows(Choice::PerDraw),
            "chosen_pooled": rows(Choice::Pooled),
            "chosen_once": rows(Choice::Once),
            "sweeps": self.sweeps_json(),
        })
    }

    fn sweeps_json(&self) -> Vec<Value> {
        let mut out = Vec::new();
        for size in self.study.sizes.iter().filter(|size| size.sweep) {
            for method in self.study.methods_at(size) {
                for (variant, errors) in self.sweep(size, method) {
                    out.push(json!({
                        "samples": size.samples, "method": method.name,
                        "variant": variant, "errors_percent": errors,
                    }));
                }
            }
        }
        out
    }
}

impl Cell {
    fn point(&self) -> Point {
        let estimate = Estimate::of(&self.errors);
        Point {
            x: self.samples as f64,
            y: estimate.mean,
            half: estimate.half,
        }
    }
}

impl<'s> Row<'s> {
    fn again(&self) -> Self {
        let cells = self.cells.iter().map(|cell| Cell {
            samples: cell.samples,
            errors: cell.errors.clone(),
            chosen: cell.chosen.clone(),
            seconds: cell.seconds,
        });
        Self {
            method: self.method,
            cells: cells.collect(),
        }
    }

    fn json(&self, plain: &Self) -> Value {
        let plain = curve(plain);
        let cells = self.cells.iter().map(|cell| {
            let estimate = Estimate::of(&cell.errors);
            let chosen = cell
                .chosen
                .iter()
                .map(|i| self.method.candidates[*i].label());
            let (bound, times) = match saving(&plain, cell.samples, estimate.mean) {
                Saving::Times(times) => ("equal", times),
                Saving::More(times) => ("more than", times),
                Saving::Less(times) => ("less than", times),
            };
            json!({
                "samples": cell.samples,
                "errors_percent": cell.errors,
                "mean_percent": estimate.mean,
                "half_interval_percent": estimate.half,
                "chosen": chosen.collect::<Vec<_>>(),
                "sample_saving": {"bound": bound, "times": times},
                "seconds_a_run": cell.seconds,
            })
        });
        json!({"method": self.method.name, "cells": cells.collect::<Vec<_>>()})
    }
}

fn curve(row: &Row<'_>) -> Vec<(usize, f64)> {
    let cells = row.cells.iter();
    cells
        .map(|cell| (cell.samples, Estimate::of(&cell.errors).mean))
        .collect()
}

/// What each method chose: once where all draws agree, else draw by draw.
fn choices(rows: &[Row<'_>]) -> String {
    let mut out = String::from("Chosen (where draws differ, draw by draw):\n\n");
    for row in rows.iter().filter(|row| row.method.candidates.len() > 1) {
        let _ = write!(out, "- {}:", row.method.name);
        for cell in &row.cells {
            let label = |index: &usize| row.method.candidates[*index].label();
            let mut labels: Vec<String> = cell.chosen.iter().map(label).collect();
            if labels.iter().all(|label| *label == labels[0]) {
                labels.truncate(1);
            }
            let _ = write!(out, " N = {}: {};", cell.samples, labels.join(", "));
        }
        out.push('\n');
    }
    out + "\n"
}
