//! The tables of what was kept: accuracies, distance from the best reference in each cell,
//! and the mean error over all cells.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Failure;

/// Accuracies by samples a class and method, in the order of the splits.
pub type Cells = BTreeMap<usize, BTreeMap<String, Vec<f64>>>;

const OURS: &str = "fieldtune";

/// Mean accuracy in percent by method and cell (set, samples a class).
type Means = BTreeMap<String, BTreeMap<(String, usize), f64>>;

/// Prints one table a set and one over all.
///
/// # Errors
/// When the kept results are not as this bench writes them.
pub fn print(report: &Value) -> Result<(), Failure> {
    let means = means(report)?;
    let ours = means.get(OURS).ok_or("nothing was measured yet")?;
    let mut names: Vec<&String> = ours.keys().map(|(set, _)| set).collect();
    names.dedup();
    for set in names {
        let sizes: Vec<usize> = ours.keys().filter(|(s, _)| s == set).map(|k| k.1).collect();
        println!(
            "\n| {set}, samples a class | {} |",
            row(&sizes, usize::to_string)
        );
        println!("|---|{}", "---|".repeat(sizes.len()));
        for (method, cells) in &means {
            let values: Vec<f64> = sizes
                .iter()
                .filter_map(|size| cells.get(&(set.clone(), *size)).copied())
                .collect();
            println!(
                "| {method} | {} |",
                row(&values, |value| format!("{value:.1}"))
            );
        }
    }
    over_all(&means, ours);
    Ok(())
}

fn row<T>(values: &[T], text: impl Fn(&T) -> String) -> String {
    values.iter().map(text).collect::<Vec<_>>().join(" | ")
}

fn means(report: &Value) -> Result<Means, Failure> {
    let mut means = Means::new();
    let sets = report["sets"]
        .as_object()
        .ok_or("nothing was measured yet")?;
    for (set, kept) in sets {
        let cells = kept["accuracy"].as_object().ok_or("no accuracies")?;
        for (size, methods) in cells {
            for (method, values) in methods.as_object().ok_or("no methods")? {
                let values: Vec<f64> = serde_json::from_value(values.clone())?;
                let mean = 100.0 * values.iter().sum::<f64>() / values.len().max(1) as f64;
                let cell = (set.clone(), size.parse()?);
                means.entry(method.clone()).or_default().insert(cell, mean);
            }
        }
    }
    Ok(means)
}

fn over_all(means: &Means, ours: &BTreeMap<(String, usize), f64>) {
    println!("\nmean error over all cells, in %:");
    let mut errors: Vec<(f64, &str)> = means
        .iter()
        .map(|(method, cells)| {
            let sum: f64 = cells.values().map(|accuracy| 100.0 - accuracy).sum();
            (sum / cells.len() as f64, method.as_str())
        })
        .collect();
    errors.sort_by(|one, other| one.0.total_cmp(&other.0));
    errors
        .iter()
        .for_each(|(error, method)| println!("  {error:6.2} {method}"));
    println!("\ncells where a reference is better by more than 0.5 points:");
    for (cell, own) in ours {
        let others = means.iter().filter(|(method, _)| *method != OURS);
        let best = others
            .filter_map(|(method, cells)| Some((cells.get(cell)?, method)))
            .max_by(|one, other| one.0.total_cmp(other.0));
        if let Some((accuracy, method)) = best.filter(|(accuracy, _)| **accuracy > own + 0.5) {
            println!("  {} {}: {own:.1}, {method} {accuracy:.1}", cell.0, cell.1);
        }
    }
}
