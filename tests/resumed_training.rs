//! Training that was cut short goes on from its checkpoint to the same bytes.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use fieldtune_core::Kernel;
use fieldtune_core::adversary::Adversary;
use fieldtune_core::decay::{Decay, Mode};
use fieldtune_core::network::Network;
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::random::Random;
use fieldtune_core::train::{Course, Options, Position, Samples, Space, Trainer, fit_resumable};
use fieldtune_tests::{demo_samples, fieldtune, run, scratch};

const BATCH: usize = 6;

/// Normal numbers around a centre of each of three classes.
struct Drawn {
    features: Vec<f32>,
}

impl Drawn {
    fn new(count: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let features = (0..8 * count).map(|i| random.normal() + ((i / 8) % 3) as f32);
        Self {
            features: features.collect(),
        }
    }
}

impl Samples for Drawn {
    fn len(&self) -> usize {
        self.features.len() / 8
    }

    fn read(&self, index: usize, features: &mut [f32]) -> u16 {
        features.copy_from_slice(&self.features[8 * index..8 * index + 8]);
        (index % 3) as u16
    }
}

/// What a checkpoint holds, through the bytes in which it is kept.
struct Kept {
    position: Vec<u8>,
    numbers: Vec<f32>,
    order: Vec<u32>,
}

/// The parameters after training, and what was kept on the way.
fn trained(options: Options, course: &Course, from: Option<&Kept>) -> (Vec<u32>, Vec<Kept>) {
    let network = Network::mlp(8, &[10], 3).expect("sound");
    let sets = [Drawn::new(40, 1), Drawn::new(20, 2)];
    let mut arena = vec![f32::NAN; options.plan(&network).expect("plan").elements()];
    let mut trainer = Trainer::new(&network, options, &mut arena, 2).expect("trainer");
    let (mut order, mut labels) = (vec![0; sets[0].len()], vec![0; BATCH]);
    let position = from.map(|from| {
        order.copy_from_slice(&from.order);
        let position: Position = postcard::from_bytes(&from.position).expect("whole");
        trainer.put_back(&position, &from.numbers).expect("fits");
        position
    });
    let space = Space {
        order: &mut order,
        labels: &mut labels,
    };
    let mut kept = Vec::new();
    let mut keep = |trainer: &Trainer<'_>, order: &[u32], position: &Position| {
        kept.push(Kept {
            position: postcard::to_allocvec(position).expect("numbers"),
            numbers: trainer.kept().copied().collect(),
            order: order.to_vec(),
        });
    };
    let sets = [&sets[0], &sets[1]];
    fit_resumable(
        &mut trainer,
        sets,
        course,
        space,
        position.as_ref(),
        &mut keep,
    )
    .expect("trains");
    let parameters = trainer.parameters().iter().map(|value| value.to_bits());
    (parameters.collect(), kept)
}

/// Goes on from every one of 50 and more epochs.
fn assert_same_from_everywhere(options: Options, patience: Option<u32>) {
    let course = Course {
        epochs: 56,
        learning_rate: 0.02,
        patience,
    };
    let (whole, kept) = trained(options, &course, None);
    assert!(kept.len() >= 50, "{} points", kept.len());
    for (epoch, point) in kept.iter().enumerate() {
        let (resumed, later) = trained(options, &course, Some(point));
        assert!(whole == resumed, "from epoch {}", epoch + 1);
        assert_eq!(later.len(), kept.len() - epoch - 1);
    }
}

fn options(mode: Mode) -> Options {
    Options {
        decay: Decay { mode, lambda: 0.01 },
        adversary: Some(Adversary::new(0.1)),
        ..Options::new(BATCH, Kernel::best())
    }
}

#[test]
fn momentum_with_measured_decay() {
    assert_same_from_everywhere(options(Mode::Measured), None);
}

#[test]
fn adamw_with_online_decay_and_averaged_weights() {
    let options = Options {
        optimizer: Optimizer::ADAMW,
        average: Some(0.9),
        ..options(Mode::Online)
    };
    assert_same_from_everywhere(options, None);
}

#[test]
fn early_stopping_with_decay_towards_the_start() {
    let options = Options {
        anchored: true,
        keep_best: true,
        average: Some(0.9),
        ..options(Mode::Structural)
    };
    assert_same_from_everywhere(options, Some(60));
}

#[test]
fn what_is_of_another_network_is_not_put_back() {
    let course = Course {
        epochs: 2,
        learning_rate: 0.02,
        patience: None,
    };
    let options = options(Mode::Online);
    let (_, kept) = trained(options, &course, None);
    let network = Network::mlp(8, &[11], 3).expect("sound");
    let mut arena = vec![0.0; options.plan(&network).expect("plan").elements()];
    let mut trainer = Trainer::new(&network, options, &mut arena, 2).expect("trainer");
    let position: Position = postcard::from_bytes(&kept[0].position).expect("whole");
    assert!(trainer.put_back(&position, &kept[0].numbers).is_err());
}

/// Trains on the demo's samples with a checkpoint after every fold and epoch.
fn job(head: &Path, resume: bool) -> std::process::Command {
    let mut command = fieldtune();
    command.arg("train").arg(demo_samples()).arg("-o").arg(head);
    command.args(["--head", "mlp:24", "--epochs", "40", "--views", "original"]);
    command.args(["--checkpoint-every", "0s", "--json"]);
    if resume {
        command.arg("--resume");
    }
    command
}

#[test]
fn a_killed_run_goes_on_to_the_same_head() {
    let folder = scratch().join("resumed");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    let whole = folder.join("whole.head");
    // The first computes the features.
    run(&mut job(&whole, false)).succeeded();
    let start = Instant::now();
    run(&mut job(&whole, false)).succeeded();
    let usual = start.elapsed();
    let expected = fs::read(&whole).expect("a head");
    assert!(
        !folder.join("whole.head.checkpoint").exists(),
        "done, so removed"
    );
    let (mut random, mut went_on) = (Random::new(9), 0);
    for round in 0..8 {
        let head = folder.join(format!("{round}.head"));
        let mut resume = false;
        // Killed up to three times before it may end.
        for _ in 0..1 + round % 3 {
            let mut child = job(&head, resume)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("starts");
            std::thread::sleep(usual.mul_f32(0.2 + 0.7 * random.uniform()));
            let _ = child.kill();
            child.wait().expect("ends");
            resume = true;
        }
        if head.exists() {
            // It was done before.
            continue;
        }
        let said = run(&mut job(&head, true)).json();
        went_on += u32::from(said["resumed"]["folds"].as_u64().unwrap_or(0) > 0);
        assert!(
            fs::read(&head).expect("a head") == expected,
            "round {round}"
        );
        assert!(!folder.join(format!("{round}.head.checkpoint")).exists());
    }
    println!("{went_on} of 8 went on from a checkpoint");
    assert!(went_on > 2, "too few runs were cut in their midst");
}

#[test]
fn what_is_no_checkpoint_is_neither_used_nor_written_over() {
    let folder = scratch().join("no_checkpoint");
    fs::create_dir_all(&folder).expect("a folder");
    let (head, other) = (folder.join("a.head"), folder.join("a.head.checkpoint"));
    fs::write(&other, b"my notes").expect("written");
    for resume in [false, true] {
        let ran = run(&mut job(&head, resume));
        assert_eq!(ran.code, Some(3), "{ran:?}");
        assert!(ran.stderr.contains("a.head.checkpoint"), "{ran:?}");
        assert_eq!(fs::read(&other).expect("there"), b"my notes");
        assert!(!head.exists());
    }
}
