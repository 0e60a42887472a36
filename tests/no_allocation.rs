//! Training steps allocate nothing: a counting allocator watches.

use fieldtune_core::Kernel;
use fieldtune_core::adversary::{Adversary, Middle, Rise};
use fieldtune_core::decay::{Decay, Mode};
use fieldtune_core::network::Network;
use fieldtune_core::optimizer::Optimizer;
use fieldtune_core::train::{Options, Samples, Trainer, fit, fit_stopping_early};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[allow(unsafe_code)] // an allocator cannot be written without
// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Stripes;

impl Samples for Stripes {
    fn len(&self) -> usize {
        37
    }

    fn read(&self, index: usize, features: &mut [f32]) -> u16 {
        for (position, value) in features.iter_mut().enumerate() {
            *value = if position % 3 == index % 3 { 1.0 } else { 0.1 };
        }
        (index % 3) as u16
    }
}

// Without the test harness: what its own thread allocates would be counted too.
fn main() {
    let before_all = ALLOCATIONS.load(Ordering::SeqCst);
    drop(std::hint::black_box(Box::new(1)));
    assert!(
        ALLOCATIONS.load(Ordering::SeqCst) > before_all,
        "the counter counts"
    );
    let adversary = Adversary::new(0.1);
    let base = Options {
        adversary: Some(adversary),
        ..Options::new(8, Kernel::best())
    };
    let every = Options {
        anchored: true,
        adversary: Some(Adversary {
            steps: 2,
            per_sample: true,
            layers: Middle::AboveLowest,
            ramp: 0.5,
            rise: Rise::Cosine,
            ..adversary
        }),
        label_smoothing: 0.01,
        clip_norm: Some(5.0),
        average: Some(0.9),
        keep_best: true,
        recompute: true,
        ..base
    };
    for (hidden, optimizer, mode, options) in [
        (&[][..], Optimizer::SGD, Mode::Uniform, base),
        (&[16], Optimizer::ADAMW, Mode::Structural, base),
        (&[16, 8], Optimizer::SGD, Mode::Measured, base),
        (&[16], Optimizer::ADAMW, Mode::Online, base),
        (&[16, 8], Optimizer::NESTEROV, Mode::Online, every),
        (&[16], Optimizer::ADAMW, Mode::Measured, every),
    ] {
        let network = Network::mlp(24, hidden, 3).expect("sound");
        let options = Options {
            optimizer,
            decay: Decay { mode, lambda: 1e-3 },
            ..options
        };
        let elements = options.plan(&network).expect("plan").elements();
        let mut arena = vec![0.0; elements];
        let (mut order, mut labels) = (vec![0u32; 37], vec![0u16; 8]);
        let (order, labels) = (&mut order[..], &mut labels[..]);
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        let mut trainer = Trainer::new(&network, options, &mut arena, 1).expect("trainer");
        let loss = if options.keep_best {
            fit_stopping_early(
                &mut trainer,
                &Stripes,
                &Stripes,
                30,
                40,
                0.02,
                order,
                labels,
            )
        } else {
            fit(&mut trainer, &Stripes, 40, 0.02, order, labels)
        };
        let allocations = ALLOCATIONS.load(Ordering::SeqCst) - before;
        let loss = loss.expect("training");
        assert_eq!(allocations, 0, "{hidden:?} {mode:?}");
        assert!(loss < 0.2, "{hidden:?} {mode:?} learned nothing: {loss}");
    }
    println!("training allocated nothing, on any thread");
}
