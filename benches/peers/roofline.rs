//! How close the steps come to what the machine can do: the larger of the time that the
//! multiply-adds need and the time that moving the bytes needs, over the time taken.

use fieldtune_benches::plot::{Captions, Point, Series, svg};
use fieldtune_benches::{Failure, results};
use serde_json::{Value, json};

use crate::engines::Peers;
use fieldtune_benches::cases::{Case, Head};

/// More than the caches hold.
const LARGE_BYTES: usize = 1 << 30;

/// Prints a table and writes the plot. `own_us` are this project's times of a step.
pub fn report(peers: &mut Peers, cases: &[Case], own_us: &[f64]) -> Result<Value, Failure> {
    let demands: Result<Vec<_>, _> = cases.iter().map(Case::demand).collect();
    let demands = demands?;
    let mut sizes: Vec<usize> = demands.iter().map(|demand| demand.held_bytes).collect();
    sizes.push(LARGE_BYTES);
    let (gflops, rates) = peers.limits(&sizes)?;
    let memory = *rates.last().ok_or("no bandwidth")?;
    println!("\nlimits, one thread: {gflops:.0} GFLOP/s, memory {memory:.1} GB/s");
    println!(
        "| step | GFLOP/s | share of the multiply-adds' limit | GB/s | share of the bandwidth in as much memory | nearer limit |"
    );
    println!("|---|---|---|---|---|---|");
    let mut rows = Vec::new();
    for ((case, demand), (rate, us)) in cases.iter().zip(&demands).zip(rates.iter().zip(own_us)) {
        let (reached, moved) = (demand.flops / us / 1e3, demand.moved_bytes / us / 1e3);
        let shares = [reached / gflops, moved / rate];
        let bound = if shares[0] > shares[1] {
            "multiply-adds"
        } else {
            "bandwidth"
        };
        println!(
            "| {} | {reached:.1} | {:.0} % | {moved:.1} | {:.0} % of {rate:.0} | {bound} |",
            title(case),
            100.0 * shares[0],
            100.0 * shares[1],
        );
        rows.push(json!({
            "head": case.head.name(), "batch": case.batch, "optimizer": case.rule(),
            "adversarial": case.adversarial, "flops": demand.flops,
            "moved_bytes": demand.moved_bytes, "held_bytes": demand.held_bytes,
            "gflops": reached, "gb_per_s": moved, "limit_gb_per_s": rate,
            "share_of_multiply_adds": shares[0], "share_of_bandwidth": shares[1],
        }));
    }
    let points: Vec<(Case, f64, f64)> = cases
        .iter()
        .zip(&demands)
        .zip(own_us)
        .map(|((case, demand), us)| {
            (
                *case,
                demand.flops / demand.moved_bytes,
                demand.flops / us / 1e3,
            )
        })
        .collect();
    let cache = rates.iter().copied().fold(0.0, f64::max);
    draw(&points, gflops, [("memory", memory), ("cache", cache)])?;
    Ok(json!({"gflops": gflops, "memory_gb_per_s": memory, "rows": rows}))
}

pub fn title(case: &Case) -> String {
    let way = if case.adversarial {
        ", adversarial"
    } else {
        ""
    };
    format!(
        "{}, {}, batch {}{way}",
        case.head.name(),
        case.rule(),
        case.batch
    )
}

/// The roofs, and a curve over the batch sizes for each head and way.
fn draw(points: &[(Case, f64, f64)], gflops: f64, roofs: [(&str, f64); 2]) -> Result<(), Failure> {
    let ends = points.iter().map(|point| point.1);
    let (low, high) = (
        ends.clone().fold(f64::INFINITY, f64::min),
        ends.fold(0.0, f64::max),
    );
    let point = |x, y| Point { x, y, half: 0.0 };
    let mut series: Vec<Series> = roofs
        .iter()
        .map(|(name, rate)| {
            let edge = (gflops / rate).clamp(low, high);
            Series {
                name: format!("limit, {name} {rate:.0} GB/s"),
                points: [low, edge, high]
                    .map(|x| point(x, gflops.min(x * rate)))
                    .into(),
            }
        })
        .collect();
    for (head, adversarial) in [Head::Linear, Head::Mlp, Head::Tail]
        .into_iter()
        .flat_map(|head| [(head, false), (head, true)])
    {
        let own = points.iter().filter(|(case, ..)| {
            case.adamw && case.head == head && case.adversarial == adversarial
        });
        let way = if adversarial { ", adversarial" } else { "" };
        series.push(Series {
            name: format!("{}{way}", head.name()),
            points: own.map(|(_, x, y)| point(*x, *y)).collect(),
        });
    }
    let captions = Captions {
        title: "Training steps and the limits of one thread, batches of 8 to 64, AdamW",
        x: "operations a byte moved",
        y: "GFLOP/s",
    };
    std::fs::write(
        results().join("peers-roofline.svg"),
        svg(&captions, &series),
    )?;
    Ok(())
}
