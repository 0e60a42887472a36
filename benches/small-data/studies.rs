//! The studies themselves: which networks, which methods, which settings are tried.

use crate::augment::Augmentation;
use crate::data::Source;
use crate::setting::{Changes, Course, DecayMode, Perturbation, Recipe, Rule, Variant};
use crate::study::{Method, Size, Study};

/// Deep for its size: the form of network in which one lambda suits its layers least.
const DEEP: &str = "dense 784-128-128-128-128-128-128-128-128-10";
/// Three hidden layers.
const DENSE: &str = "dense 784-256-256-256-10";
/// LeNet's form with fewer kernels.
const CONVOLUTIONAL: &str = "1x28x28 | conv 8@5 | pool 2 | relu | conv 16@5 | pool 2 | relu \
                             | dense 64 | relu | dense 10";
/// The same for five classes.
const TRANSFERRED: &str = "1x28x28 | conv 8@5 | pool 2 | relu | conv 16@5 | pool 2 | relu \
                           | dense 64 | relu | dense 5";
/// The like for photographs; strides keep it quick.
const PHOTOGRAPHS: &str = "3x32x32 | conv 16@5/2 pad 2 | relu | conv 32@3/2 pad 1 | relu \
                           | pool 2 | dense 64 | relu | dense 10";

/// Every study of the full bench.
pub fn all() -> Vec<Study> {
    vec![
        mnist_decay_dense(),
        mnist_decay_convolutional(),
        mnist_augmentation_dense(),
        mnist_augmentation_convolutional(),
        cifar_augmentation(),
        transfer(
            "transfer-dense",
            "dense",
            "dense 784-128-128-128-128-5",
            0.02,
        ),
        transfer("transfer-conv", "convolutional", TRANSFERRED, 0.02),
        ablation(),
    ]
}

/// A study of seconds that shows that everything works.
pub fn short() -> Vec<Study> {
    let small = |samples| Size {
        recipe: recipe(0.03, 60),
        ..size(samples, 0.03, 60, [2, 1])
    };
    let few = |study: Study| Study {
        sizes: [30, 100, 300].map(small).into(),
        seeds: 2,
        tested: 1000,
        title: format!("short form, too small to mean anything: {}", study.title),
        methods: study
            .methods
            .into_iter()
            .map(|method| Method {
                candidates: method.candidates.into_iter().take(2).collect(),
                ..method
            })
            .collect(),
        ..study
    };
    vec![
        Study {
            name: "short-decay",
            network: "dense 784-32-32-10",
            ..few(mnist_decay_dense())
        },
        Study {
            name: "short-augmentation",
            network: "1x28x28 | conv 4@5/2 | relu | pool 2 | dense 10",
            ..few(mnist_augmentation_convolutional())
        },
        Study {
            name: "short-transfer",
            network: "dense 784-32-5",
            pretrained: Some(recipe(0.03, 60)),
            ..few(transfer("", "dense", "", 0.03))
        },
        Study {
            name: "short-ablation",
            network: "dense 784-32-10",
            ..few(ablation())
        },
    ]
}

/// Momentum, cosine, batches of 32.
fn recipe(learning_rate: f32, steps: u32) -> Recipe {
    Recipe {
        rule: Rule::Momentum,
        learning_rate,
        batch: 32,
        steps,
        course: Course::Cosine,
    }
}

/// `validation` is the number of parts the samples are dealt into, and how many of them
/// are held out in turn.
fn size(samples: usize, learning_rate: f32, steps: u32, validation: [usize; 2]) -> Size {
    let [parts, folds] = validation;
    Size {
        samples,
        recipe: recipe(learning_rate, steps),
        parts,
        folds,
        sweep: false,
        plain_only: false,
    }
}

/// Plain training with more samples: a point further out on its curve.
fn further(samples: usize, learning_rate: f32, steps: u32) -> Size {
    Size {
        plain_only: true,
        ..size(samples, learning_rate, steps, [1, 1])
    }
}

fn plain() -> Method {
    Method {
        name: "plain",
        candidates: vec![Variant::PLAIN],
    }
}

fn mnist_decay_dense() -> Study {
    Study {
        name: "mnist-decay-dense",
        title: "MNIST, deep dense network: decay".into(),
        source: Source::Mnist,
        network: DEEP,
        pretrained: None,
        sizes: decay_sizes(0.03, [400, 600, 1000, 1500, 2500, 3500]),
        seeds: 5,
        methods: decays(
            &[0.0003, 0.001, 0.003, 0.01, 0.03, 0.1],
            &[0.001, 0.003, 0.01, 0.03, 0.1, 0.3],
        ),
        baseline: 1,
        tested: 10_000,
    }
}

fn mnist_decay_convolutional() -> Study {
    Study {
        name: "mnist-decay-conv",
        title: "MNIST, convolutional network: decay".into(),
        source: Source::Mnist,
        network: CONVOLUTIONAL,
        pretrained: None,
        sizes: decay_sizes(0.02, [300, 500, 700, 1000, 1800, 2500]),
        seeds: 5,
        methods: decays(
            &[0.001, 0.003, 0.01, 0.03, 0.1],
            &[0.003, 0.01, 0.03, 0.1, 0.3],
        ),
        baseline: 1,
        tested: 10_000,
    }
}

fn decay_sizes(rate: f32, steps: [u32; 6]) -> Vec<Size> {
    let swept = |size| Size {
        sweep: true,
        ..size
    };
    vec![
        size(100, rate, steps[0], [4, 3]),
        swept(size(300, rate, steps[1], [4, 2])),
        swept(size(1000, rate, steps[2], [4, 1])),
        size(3000, rate, steps[3], [4, 1]),
        size(10_000, rate, steps[4], [5, 1]),
        further(30_000, rate, steps[5]),
    ]
}

/// Plain, one-lambda and layer-wise decay. The grids reach from no effect to too much; the
/// layer-wise ones stand higher where the last layer's coefficient is the largest.
fn decays(one: &[f32], last: &[f32]) -> Vec<Method> {
    let method = |name, decay, lambdas: &[f32]| {
        let variant = |lambda: &f32| Variant {
            decay,
            lambda: *lambda,
            ..Variant::PLAIN
        };
        Method {
            name,
            candidates: lambdas.iter().map(variant).collect(),
        }
    };
    vec![
        plain(),
        method("one lambda", DecayMode::Uniform, one),
        method("structural", DecayMode::Structural, last),
        method("measured", DecayMode::Measured, last),
        method("online", DecayMode::Online, last),
    ]
}

fn mnist_augmentation_dense() -> Study {
    Study {
        name: "mnist-augmentation-dense",
        title: "MNIST, dense network: augmentation and adversarial features".into(),
        source: Source::Mnist,
        network: DENSE,
        pretrained: None,
        sizes: augmentation_sizes(0.02, [600, 800, 1200, 1800, 2500, 3500]),
        seeds: 5,
        methods: augmentations([0.1, 0.2, 0.3]),
        baseline: 2,
        tested: 10_000,
    }
}

fn mnist_augmentation_convolutional() -> Study {
    Study {
        name: "mnist-augmentation-conv",
        title: "MNIST, convolutional network: augmentation and adversarial features".into(),
        source: Source::Mnist,
        network: CONVOLUTIONAL,
        pretrained: None,
        sizes: augmentation_sizes(0.02, [400, 600, 900, 1300, 2000, 2800]),
        seeds: 5,
        methods: augmentations([0.05, 0.1, 0.2]),
        baseline: 2,
        tested: 10_000,
    }
}

fn cifar_augmentation() -> Study {
    let rate = 0.02;
    Study {
        name: "cifar-augmentation",
        title: "CIFAR-10, convolutional network: augmentation and adversarial features".into(),
        source: Source::Cifar10,
        network: PHOTOGRAPHS,
        pretrained: None,
        sizes: vec![
            size(300, rate, 500, [4, 1]),
            size(1000, rate, 900, [4, 1]),
            size(3000, rate, 1600, [4, 1]),
            size(10_000, rate, 2800, [5, 1]),
            further(20_000, rate, 3800),
        ],
        seeds: 5,
        methods: augmentations([0.05, 0.1, 0.2]),
        baseline: 2,
        tested: 10_000,
    }
}

fn augmentation_sizes(rate: f32, steps: [u32; 6]) -> Vec<Size> {
    vec![
        size(100, rate, steps[0], [4, 3]),
        size(300, rate, steps[1], [4, 1]),
        size(1000, rate, steps[2], [4, 1]),
        size(3000, rate, steps[3], [4, 1]),
        size(10_000, rate, steps[4], [5, 1]),
        further(30_000, rate, steps[5]),
    ]
}

/// None; shifts (and mirror images) alone, as was usual when the papers appeared; shift,
/// rotation and scale in a strength that is chosen; adversarial features with an epsilon
/// that is chosen; and each augmentation together with them.
fn augmentations(epsilons: [f32; 3]) -> Vec<Method> {
    let augmented = |augmentation| Variant {
        augmentation,
        ..Variant::PLAIN
    };
    let adversarial = |augmentation: Augmentation| {
        let perturbed = |epsilon| Variant {
            adversary: Some(Perturbation::new(epsilon)),
            ..augmented(augmentation)
        };
        epsilons.map(perturbed).into()
    };
    let strengths = [
        Augmentation::Slight,
        Augmentation::Mild,
        Augmentation::Strong,
    ];
    vec![
        plain(),
        Method {
            name: "shift",
            candidates: vec![augmented(Augmentation::Shift)],
        },
        Method {
            name: "augmentation",
            candidates: strengths.map(augmented).into(),
        },
        Method {
            name: "adversarial",
            candidates: adversarial(Augmentation::None),
        },
        Method {
            name: "shift, adversarial",
            candidates: adversarial(Augmentation::Shift),
        },
        Method {
            name: "augm., adversarial",
            candidates: adversarial(Augmentation::Mild),
        },
    ]
}

/// A network that was trained on the digits 0 to 4 learns the digits 5 to 9 from few
/// samples: decay towards zero and towards the weights it comes with (L2-SP), with one
/// lambda and layer-wise. Its new last layer is drawn at random, and pulled there too.
fn transfer(name: &'static str, kind: &str, network: &'static str, rate: f32) -> Study {
    let method = |name, decay, anchored| {
        let at = |lambda: f32| Variant {
            decay,
            lambda,
            changes: Changes {
                anchored,
                ..Changes::default()
            },
            ..Variant::PLAIN
        };
        Method {
            name,
            candidates: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0].map(at).into(),
        }
    };
    let swept = |size| Size {
        sweep: true,
        ..size
    };
    Study {
        name,
        title: format!("MNIST, {kind} network from digits 0 to 4 to digits 5 to 9: decay"),
        source: Source::NewDigits,
        network,
        pretrained: Some(recipe(rate, 2000)),
        sizes: vec![
            swept(size(20, rate, 150, [4, 4])),
            swept(size(50, rate, 200, [5, 3])),
            swept(size(200, rate, 300, [4, 2])),
        ],
        seeds: 5,
        methods: vec![
            plain(),
            method("one lambda, to 0", DecayMode::Uniform, false),
            method("structural, to 0", DecayMode::Structural, false),
            method("measured, to 0", DecayMode::Measured, false),
            method("one lambda, to start", DecayMode::Uniform, true),
            method("structural, to start", DecayMode::Structural, true),
            method("measured, to start", DecayMode::Measured, true),
        ],
        baseline: 4,
        tested: 4861,
    }
}

/// Every option of a recipe alone, against momentum with cosine and warm-up. Each chooses
/// its learning rate from three.
fn ablation() -> Study {
    let rate = 0.03;
    Study {
        name: "ablation",
        title: "MNIST, convolutional network: one option of the recipe at a time".into(),
        source: Source::Mnist,
        network: CONVOLUTIONAL,
        pretrained: None,
        sizes: vec![size(100, rate, 400, [4, 3]), size(1000, rate, 900, [4, 1])],
        seeds: 5,
        methods: options(),
        baseline: 0,
        tested: 10_000,
    }
}

fn options() -> Vec<Method> {
    let rates = [0.01, 0.03, 0.1];
    let rule = |rule| {
        changed(Changes {
            rule: Some(rule),
            ..Changes::default()
        })
    };
    let structural = |lambda, variant| Variant {
        decay: DecayMode::Structural,
        lambda,
        ..variant
    };
    let adam = [0.0003, 0.001, 0.003];
    let decayed = structural(0.1, rule(Rule::Adamw));
    let mut methods = vec![
        rated("momentum, cosine", rates, Variant::PLAIN),
        rated("no momentum", [0.1, 0.3, 1.0], rule(Rule::Plain)),
        rated("Nesterov", rates, rule(Rule::Nesterov)),
        rated("AdamW", adam, rule(Rule::Adamw)),
        rated("AdamW, structural decay 0.1", adam, decayed),
        rated(
            "structural decay 0.03",
            rates,
            structural(0.03, Variant::PLAIN),
        ),
    ];
    for (name, changes) in single_changes() {
        methods.push(rated(name, rates, changed(changes)));
    }
    for (name, adversary) in perturbations() {
        let variant = Variant {
            adversary: Some(adversary),
            ..Variant::PLAIN
        };
        methods.push(rated(name, rates, variant));
    }
    methods
}

/// Changes to the recipe that need no other learning rates.
fn single_changes() -> [(&'static str, Changes); 6] {
    let none = Changes::default();
    [
        (
            "no warm-up",
            Changes {
                course: Some(Course::Cold),
                ..none
            },
        ),
        (
            "constant rate",
            Changes {
                course: Some(Course::Constant),
                ..none
            },
        ),
        (
            "gradients up to 1",
            Changes {
                clip_norm: Some(1.0),
                ..none
            },
        ),
        (
            "averaged weights 0.99",
            Changes {
                average: Some(0.99),
                ..none
            },
        ),
        (
            "label smoothing 0.1",
            Changes {
                label_smoothing: Some(0.1),
                ..none
            },
        ),
        (
            "early stopping",
            Changes {
                patience: Some(10),
                ..none
            },
        ),
    ]
}

/// Adversarial features as published, and each change to them.
fn perturbations() -> [(&'static str, Perturbation); 5] {
    let published = Perturbation::new(0.1);
    [
        ("adversarial 0.1", published),
        (
            "... layers by sample",
            Perturbation {
                per_sample: true,
                ..published
            },
        ),
        (
            "... two power steps",
            Perturbation {
                power_steps: 2,
                ..published
            },
        ),
        (
            "... rising epsilon",
            Perturbation {
                ramp: 0.5,
                ..published
            },
        ),
        (
            "... half weight",
            Perturbation {
                weight: Some(0.5),
                ..published
            },
        ),
    ]
}

fn changed(changes: Changes) -> Variant {
    Variant {
        changes,
        ..Variant::PLAIN
    }
}

/// A method that chooses its learning rate.
fn rated(name: &'static str, rates: [f32; 3], variant: Variant) -> Method {
    let at = |rate| Variant {
        changes: Changes {
            learning_rate: Some(rate),
            ..variant.changes
        },
        ..variant
    };
    Method {
        name,
        candidates: rates.map(at).into(),
    }
}
