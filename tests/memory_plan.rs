//! What `plan` says about memory holds: training stays below it, a limit of that size
//! is accepted, and a smaller one is refused before any work.

use std::path::Path;

use fieldtune_tests::{demo_samples, fieldtune, run, scratch};
use serde_json::Value;

/// Flags under which memory differs: threads, head, batch, views.
const JOBS: [&[&str]; 4] = [
    &["--threads", "1"],
    &["--threads", "2"],
    &[
        "--threads",
        "2",
        "--head",
        "mlp:256,64",
        "--batch",
        "64",
        "--epochs",
        "2",
    ],
    &[
        "--threads",
        "1",
        "--views",
        "original",
        "--head",
        "prototype",
    ],
];

fn train(head: &Path, flags: &[&str]) -> std::process::Command {
    let mut command = fieldtune();
    command.arg("train").arg(demo_samples()).arg("-o").arg(head);
    command.args(["--json", "--cache", "off"]).args(flags);
    command
}

/// All bytes of a table of parts.
fn sum(parts: &Value) -> u64 {
    let parts = parts.as_object().expect("bytes by part").values();
    parts.map(|bytes| bytes.as_u64().expect("bytes")).sum()
}

#[test]
fn training_stays_below_the_plan_and_the_plan_is_accepted_as_a_limit() {
    for (job, flags) in JOBS.iter().enumerate() {
        let plan = run(fieldtune()
            .arg("plan")
            .arg(demo_samples())
            .arg("--json")
            .args(*flags))
        .json();
        let planned = plan["peak_bytes"].as_u64().expect("peak_bytes");
        assert_eq!(sum(&plan["memory"]), planned, "the parts add up");
        let head = scratch().join(format!("plan-{job}.head"));
        // The measured part differs from run to run.
        let limit_bytes = planned + planned / 4;
        let limit = limit_bytes.to_string();
        let trained = run(train(&head, flags).args(["--memory", &limit])).json();
        let peak = trained["peak_rss_bytes"].as_u64().expect("peak_rss_bytes");
        assert!(
            peak <= limit_bytes,
            "{flags:?}: {peak} bytes used, {planned} planned"
        );
        let arena = trained["arena_bytes"].as_u64().expect("arena_bytes");
        let arena_planned = sum(&plan["arena"]);
        assert!(
            arena <= arena_planned,
            "{flags:?}: arena {arena}, planned {arena_planned}"
        );
    }
}

#[test]
fn too_small_a_limit_is_refused_before_work() {
    let head = scratch().join("refused.head");
    let refused = run(train(&head, &[]).args(["--memory", "16M"]));
    let line = refused.refused(4, "16.0 MiB");
    assert!(line.contains("smaller --cut or --backbone"), "{line}");
    assert!(!head.exists());
}

#[test]
fn a_refusal_names_flags_that_fit_and_they_do() {
    const FLAGS: [[&str; 2]; 4] = [
        ["--head", "mlp:512"],
        ["--batch", "64"],
        ["--threads", "2"],
        ["--epochs", "1"],
    ];
    let plan = run(fieldtune()
        .arg("plan")
        .arg(demo_samples())
        .arg("--json")
        .args(FLAGS.as_flattened()))
    .json();
    let limit = plan["peak_bytes"].as_u64().expect("peak_bytes") * 9 / 10;
    let head = scratch().join("advised.head");
    let limited = ["--memory", &limit.to_string()];
    let refused = run(train(&head, FLAGS.as_flattened()).args(limited));
    let line = refused.refused(4, "or give --");
    let (_, advice) = line.split_once("or give ").expect("advice");
    let (advice, _) = advice.split_once(": ").expect("its size");
    let advised: Vec<&str> = advice.split(' ').collect();
    let kept = FLAGS.iter().filter(|[flag, _]| !advised.contains(flag));
    let mut following = train(&head, &advised);
    following.args(kept.flatten()).args(limited);
    let peak = run(&mut following).json()["peak_rss_bytes"].as_u64();
    assert!(peak.is_some_and(|peak| peak <= limit), "{advice}: {peak:?}");
}
