//! Training steps against PyTorch, scikit-learn, burn and candle: `cargo bench --bench peers`.
//! Heads on 1280 features and 6 classes, and a convolutional tail; plain and with adversarial
//! features; then the time until held-out samples are recognised, and how near the
//! machine's limits each step comes.
//!
//! Everyone does the same: the same shapes, rule and constants, one perturbation by a
//! probe, its gradient and a second pass. All take turns, a tenth of a second each; the median of
//! a turn is its time, and the least turn counts: whatever else the machine does can only
//! add. `-- --quick` times this project alone, at batch 16, and needs nothing else.
//! `-- --rounds N` for other than 7 turns.

mod engines;
mod learning;
mod ours;
mod roofline;

use fieldtune_benches::{Failure, keep, machine, results};
use serde_json::{Value, json};

use crate::engines::{Engine, Peers};
use fieldtune_benches::cases::Case;

/// Seconds of a turn.
const TURN_SECONDS: f64 = 0.1;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let cases = Case::all(quick);
    if quick {
        for case in &cases {
            let us = ours::step_us(case, TURN_SECONDS)?;
            println!("{}: {us:.1} us", roofline::title(case));
        }
        return Ok(());
    }
    let named = arguments.iter().position(|argument| argument == "--rounds");
    let rounds = named.and_then(|at| arguments.get(at + 1)?.parse().ok());
    let rounds = rounds.unwrap_or(7);
    let mut peers = Peers::start()?;
    let engines: Vec<Engine> = Engine::all().collect();
    let names: Vec<String> = engines.iter().map(|engine| engine.name()).collect();
    println!("| us a step (times fieldtune's) | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(engines.len()));
    let (mut rows, mut own_us) = (Vec::new(), Vec::new());
    for case in &cases {
        let times = timed(case, &engines, &mut peers, rounds)?;
        own_us.push(times[0].ok_or("our own step was not timed")?);
        rows.push(row(case, &engines, &times));
    }
    let roofline = roofline::report(&mut peers, &cases, &own_us)?;
    let learning = learning::measured(&mut peers, rounds as u64)?;
    let report = json!({
        "machine": machine(), "versions": peers.versions(), "rounds": rounds, "steps": rows,
        "roofline": roofline, "learning": learning,
    });
    keep(&results().join("peers.json"), &report)
}

/// The least of the medians of all turns; nothing where an engine does not have it.
fn timed(
    case: &Case,
    engines: &[Engine],
    peers: &mut Peers,
    rounds: usize,
) -> Result<Vec<Option<f64>>, Failure> {
    let mut best: Vec<Option<f64>> = vec![None; engines.len()];
    for _ in 0..rounds {
        for (engine, best) in engines.iter().zip(&mut best) {
            if !engine.can(case) {
                continue;
            }
            let us = if *engine == Engine::Own {
                ours::step_us(case, TURN_SECONDS)?
            } else {
                let mut question = case.question(engine.peer());
                question["seconds"] = TURN_SECONDS.into();
                let answer = peers.ask(*engine, &question)?;
                answer["median_us"].as_f64().ok_or("no time")?
            };
            *best = Some(best.map_or(us, |best| best.min(us)));
        }
    }
    Ok(best)
}

/// Prints a line of the table.
fn row(case: &Case, engines: &[Engine], times: &[Option<f64>]) -> Value {
    print!("| {} |", roofline::title(case));
    let own = times[0].unwrap_or(f64::NAN);
    let mut kept = json!({
        "head": case.head.name(), "batch": case.batch, "optimizer": case.rule(),
        "adversarial": case.adversarial,
    });
    for (engine, us) in engines.iter().zip(times) {
        match us {
            Some(us) if *engine == Engine::Own => print!(" {us:.1} |"),
            Some(us) => print!(" {us:.0} ({:.1}) |", us / own),
            None => print!(" - |"),
        }
        kept[engine.name()] = json!({"us": us, "times_ours": us.map(|us| us / own)});
    }
    println!();
    kept
}
