//! The report as a whole: nothing from outside escapes, nothing is loaded, size is
//! bounded, and it says what it must.

use std::cell::Cell;
use std::path::PathBuf;

use fieldtune_core::decay::Mode;
use fieldtune_core::network::Network;
use fieldtune_core::optimizer::Optimizer;

use super::*;
use crate::backbone::Identity;
use crate::data::Fitted;
use crate::error::{Error, ErrorKind};
use crate::evaluation::evaluate;
use crate::extras::Extras;
use crate::head::{Head, Prediction, Provenance, Sets, Unknown};
use crate::recipe::{Lambda, Normalise, Recipe, Shape};
use crate::search::HeldOut;
use crate::session::Seconds;
use crate::views::ViewSet;

const HOSTILE: &str = "<script>alert(1)</script>";

fn recipe(shape: Shape) -> Recipe {
    Recipe {
        shape,
        views: ViewSet::ORIGINAL,
        normalise: Normalise::Length,
        whitening: None,
        optimizer: Optimizer::ADAMW,
        learning_rate: 0.002,
        epochs: 60,
        least_steps: 0,
        batch: 16,
        decay: Mode::Structural,
        lambda: Lambda::Fixed(0.01),
        adversarial: None,
        extras: Extras::default(),
    }
}

fn tried(shape: Shape, accuracy: f64, log_loss: f64, n: usize) -> Tried {
    let held_out = HeldOut {
        rows: (0..n).collect(),
        labels: vec![0; n],
        logits: vec![0.0; 2 * n],
        temperature: 1.0,
        log_loss,
        log_loss_error: 0.02,
        accuracy,
        repeats: 1,
    };
    Tried {
        recipe: recipe(shape),
        held_out,
    }
}

/// Sample `index` of two classes; every tenth is called wrong.
fn judged(folder: &str, index: usize) -> Judged {
    let truth = index % 2;
    let label = if index.is_multiple_of(10) {
        1 - truth
    } else {
        truth
    };
    let said = 0.55 + 0.4 * (index % 7) as f32 / 7.0;
    let mut probabilities = vec![1.0 - said; 2];
    probabilities[label] = said;
    let unknown = said < 0.6;
    Judged {
        path: PathBuf::from(format!("{folder}/{index:03}.png")),
        truth,
        prediction: Prediction {
            label,
            probabilities,
            unknown,
            unknown_score: None,
            windows: Vec::new(),
        },
    }
}

fn evaluated(folder: &str, labels: &[String], n: usize) -> Evaluated {
    let judged: Vec<Judged> = (0..n).map(|index| judged(folder, index)).collect();
    let truth: Vec<usize> = judged.iter().map(|one| one.truth).collect();
    let probabilities: Vec<f32> = judged
        .iter()
        .flat_map(|one| one.prediction.probabilities.clone())
        .collect();
    let skipped = Vec::new();
    Evaluated {
        evaluation: evaluate(labels, &truth, &probabilities),
        judged,
        skipped,
    }
}

/// A job on `n` samples of two classes with these names, none held out when `n` is 0.
fn outcome(labels: [&str; 2], n: usize) -> Outcome {
    let labels: Vec<String> = labels.map(String::from).into();
    let Evaluated {
        evaluation, judged, ..
    } = evaluated("samples", &labels, n);
    let tried = vec![
        tried(Shape::Prototype, 0.8, 0.3, n),
        tried(Shape::Linear, 0.9, 0.2, n),
    ];
    let network = Network::mlp(4, &[], 2).unwrap();
    let head = Head {
        backbone: Identity {
            name: "small net".into(),
            sha256: [0xab; 32],
            cut: "pool:0".into(),
            features: 4,
            preprocessing: "v1 nchw".into(),
        },
        views: ViewSet::ORIGINAL,
        fitted: Fitted::default(),
        parameters: vec![0.0; network.parameter_elements()],
        network,
        temperature: 1.5,
        unknown_below: 0.0,
        unknown: Unknown {
            false_alarms: 0.31,
            ..Unknown::default()
        },
        sets: Sets::default(),
        trained: Provenance {
            program: "fieldtune 9.8.7".into(),
            recipe: recipe(Shape::Linear).to_string(),
            seed: 4242,
            samples: vec![n as u32 / 2; 2],
            cross_validation: None,
        },
        labels,
    };
    Outcome {
        head,
        found: Found {
            recipe: recipe(Shape::Linear),
            tried: if n > 0 { tried } else { Vec::new() },
            chosen: (n > 0).then_some(1),
            skipped: 3,
        },
        samples: n.max(2),
        skipped: Vec::new(),
        suspects: Vec::new(),
        computed: n,
        from_cache: 0,
        cache_failure: None,
        resumed: None,
        checkpoint_failure: None,
        expected: (n > 0).then_some(evaluation),
        curve: Err(crate::curve::NoCurve::TooFewSamples),
        record: crate::growing::record::Record::default(),
        grown: None,
        tail_left: None,
        held_out: judged,
        seconds: Seconds {
            features: 1.25,
            search: 2.5,
            train: 0.75,
            curve: 0.5,
        },
        arena_bytes: 3 << 20,
        peak_rss_bytes: Some(40 << 20),
    }
}

fn html(
    outcome: &Outcome,
    test: Option<&Evaluated>,
    read: &dyn Fn(&Path) -> Option<Vec<u8>>,
) -> String {
    let report = Report {
        title: "Report",
        outcome,
        source: Path::new("samples"),
        head_file: Path::new("leaves.head"),
        command: "fieldtune train samples -o leaves.head --seed 4242",
        test,
        predictions: test.map_or(&[][..], |test| &test.judged),
        read,
    };
    report.html()
}

fn unreadable(_: &Path) -> Option<Vec<u8>> {
    None
}

/// An image of noise, which JPEG cannot make small.
fn noise(side: u32) -> Vec<u8> {
    let mut state = 1_u32;
    let picture = image::RgbImage::from_fn(side, side, |_, _| {
        image::Rgb(std::array::from_fn(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        }))
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Bmp)
        .unwrap();
    bytes.into_inner()
}

#[test]
fn says_what_came_of_the_job() {
    let outcome = outcome(["ant", "bee"], 200);
    let test = evaluated("test", &outcome.head.labels, 40);
    let page = html(&outcome, Some(&test), &unreadable);
    let wanted = [
        "Good: expect 85 to 94 of 100",
        "cross-validated accuracy 90.0 %",
        "200 samples",
        "Test samples",
        "What was called what",
        "<svg",
        "Worst mistakes",
        "(chosen)",
        "Its log loss on held-out samples was 0.200, the default's 0.300",
        "The time was over before 3 recipes",
        "3.0 MiB",
        "40.0 MiB",
        "1.25 s",
        "2.50 s",
        "0.75 s",
        "fieldtune train samples -o leaves.head --seed 4242",
        "fieldtune 9.8.7",
        "small net",
        "4242",
        &"ab".repeat(32),
        "31.0 %",
    ];
    let missing: Vec<&str> = wanted
        .into_iter()
        .filter(|text| !page.contains(text))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(page.contains("8 of the 36 right among 40 predictions"));
    // Twenty held-out and four test samples are wrong; eight right ones are shown.
    assert_eq!(page.matches(", called <b>").count(), MOST_MISTAKES);
    assert_eq!(page.matches("<figure>").count(), MOST_MISTAKES + MOST_RIGHT);
}

#[test]
fn names_from_outside_stay_text() {
    let mut outcome = outcome([HOSTILE, "\" onload=\"x"], 200);
    let hostile = PathBuf::from(format!("a\u{1b}[2J\u{202e}/{HOSTILE}'\".png"));
    outcome
        .held_out
        .iter_mut()
        .for_each(|one| one.path.clone_from(&hostile));
    outcome.skipped = vec![Skipped {
        path: hostile.clone(),
        reason: HOSTILE.into(),
    }];
    outcome.cache_failure = Some(Error::new(ErrorKind::Failed, HOSTILE));
    outcome.head.backbone.name = HOSTILE.into();
    outcome.head.trained.recipe = HOSTILE.into();
    let mut test = evaluated(HOSTILE, &outcome.head.labels, 40);
    test.skipped = outcome.skipped.clone();
    let report = Report {
        title: HOSTILE,
        outcome: &outcome,
        source: &hostile,
        head_file: &hostile,
        command: HOSTILE,
        test: Some(&test),
        predictions: &test.judged,
        read: &unreadable,
    };
    let page = report.html();
    assert!(!page.contains("<script") && !page.contains("\" onload"));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&#39;&quot;.png"));
    assert!(page.contains("a\\u{1b}[2J\\u{202e}/"));
    assert!(
        !page
            .chars()
            .any(|character| character != '\n' && crate::error::is_hostile(character))
    );
}

#[test]
fn loads_nothing_and_stays_small_with_large_samples() {
    let mut outcome = outcome(["ant", "bee"], 200);
    let long = "\u{1b}".repeat(100_000);
    let skipped = Skipped {
        path: long.clone().into(),
        reason: long,
    };
    outcome.skipped = vec![skipped; 300];
    let test = evaluated("test", &outcome.head.labels, 200);
    let (picture, reads) = (noise(1500), Cell::new(0));
    let read = |_: &Path| {
        reads.set(reads.get() + 1);
        Some(picture.clone())
    };
    let page = html(&outcome, Some(&test), &read);
    assert_eq!(reads.get(), MOST_MISTAKES + MOST_RIGHT);
    assert_eq!(
        page.matches("src=\"data:image/jpeg;base64,").count(),
        reads.get()
    );
    assert!(page.len() < 5_000_000, "{} bytes", page.len());
    let foreign = ["http://", "https://", "<script", "<link", "@import", "url("];
    assert_eq!(foreign.map(|text| page.contains(text)), [false; 6]);
}

#[test]
fn stays_small_with_as_many_classes_as_there_can_be() {
    let mut outcome = outcome(["ant", "bee"], 20);
    let labels: Vec<String> = (0..256)
        .map(|class| format!("{class}{}", "<".repeat(190)))
        .collect();
    let truth: Vec<usize> = (0..256).collect();
    let rows: Vec<f32> = (0..256 * 256)
        .map(|cell| (cell % 256 == 7) as u8 as f32)
        .collect();
    outcome.expected = Some(evaluate(&labels, &truth, &rows));
    outcome.head.labels = labels;
    let page = html(&outcome, None, &unreadable);
    assert!(page.len() < 5_000_000, "{} bytes", page.len());
}

#[test]
fn samples_without_a_picture_are_still_named() {
    let outcome = outcome(["ant", "bee"], 40);
    for read in [unreadable, |_: &Path| Some(b"RIFF no image".to_vec())] {
        let page = html(&outcome, None, &read);
        assert_eq!(page.matches("no picture").count(), 4);
        assert!(page.contains("samples/030.png") && !page.contains("<img"));
    }
}

#[test]
fn without_held_out_samples_there_are_no_figures() {
    let outcome = outcome(["ant", "bee"], 0);
    let page = html(&outcome, None, &unreadable);
    assert!(page.contains("No statement is possible"));
    assert!(page.contains("Nothing could be compared"));
    let absent = [
        "<svg",
        "NaN",
        "Cross-validation",
        "Worst mistakes",
        "class=\"matrix\"",
    ];
    assert_eq!(absent.map(|text| page.contains(text)), [false; 5]);
}

#[test]
fn a_test_worse_than_expected_is_said_aloud() {
    let outcome = outcome(["ant", "bee"], 200);
    let mut test = evaluated("test", &outcome.head.labels, 40);
    let warning = "do worse than cross-validation lets expect";
    assert!(!html(&outcome, Some(&test), &unreadable).contains(warning));
    test.evaluation.high = 0.6;
    assert!(html(&outcome, Some(&test), &unreadable).contains(warning));
}

#[test]
fn the_choice_is_explained_by_the_figures() {
    let mut outcome = outcome(["ant", "bee"], 200);
    outcome.found.chosen = Some(0);
    let page = html(&outcome, None, &unreadable);
    assert!(page.contains("It is the default, and no other"));
    outcome.found.tried.truncate(1);
    assert!(html(&outcome, None, &unreadable).contains("the only one tried"));
}
