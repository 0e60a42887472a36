//! Says what this machine has and what would go wrong on it. The backbone is run and the
//! kernels are compared here; what the processor can do is in `doctor/processor.rs`, what
//! the system says of itself in `doctor/system.rs`. Nothing is changed.

mod processor;
mod system;

use std::path::Path;
use std::time::Instant;

use fieldtune_kernels::{Kernel, Matrix, multiply};
use serde::Serialize;

use crate::budget::{available_bytes, format_size, peak_rss_bytes};
use crate::cache::Cache;
use crate::error::Result;
use crate::model::Model;
use crate::sandbox::{self, Held};
use crate::store;

/// Free space under which a disk is called full, in bytes.
const LEAST_FREE_BYTES: u64 = 64 << 20;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// All is well.
    Fine,
    /// It works, but slower or less surely than it could.
    Warning,
    /// It does not work.
    Failure,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, in a word or two.
    pub name: &'static str,
    /// How it went.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    fn fine(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Fine,
            found: found.into(),
            remedy: None,
        }
    }

    fn warning(name: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self {
            state: State::Warning,
            remedy: Some(remedy.into()),
            ..Self::fine(name, found)
        }
    }

    fn failure(name: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self {
            state: State::Failure,
            ..Self::warning(name, found, remedy)
        }
    }
}

/// Looks at everything. `model` is run once; `cache_folder` is where features would be
/// kept, `None` for the usual place.
pub fn examine(model: &Model, cache_folder: Option<&Path>) -> Vec<Check> {
    let root = Path::new("/");
    let available_bytes = available_bytes();
    let mut checks = vec![
        processor::check(),
        processor::program(root),
        kernels(),
        backbone(model),
        // After the backbone ran, so that the process's peak is known.
        system::memory(root, available_bytes, peak_rss_bytes()),
        cache(cache_folder),
        system::clock(),
        confinement(),
    ];
    checks.extend(system::speed(root));
    checks
}

/// Every kernel this processor can run, compared with the definition.
fn kernels() -> Check {
    const NAME: &str = "training kernel";
    /// Rows, columns and sums that are no multiple of any tile.
    const SIZES: [usize; 3] = [7, 19, 300];
    let [m, n, k] = SIZES;
    let numbers = |count: usize, step: usize| -> Vec<f32> {
        (0..count)
            .map(|i| (i * step % 101) as f32 / 101.0 - 0.5)
            .collect()
    };
    let (left, right) = (numbers(m * k, 37), numbers(k * n, 53));
    let product = |kernel: Kernel| {
        let mut out = vec![0.0; m * n];
        let mut scratch = vec![0.0; kernel.scratch_elements(k)];
        let (a, b) = (Matrix::new(&left, m, k), Matrix::new(&right, k, n));
        multiply(kernel, a, b, &mut out, false, &mut scratch);
        out
    };
    let defined = product(Kernel::lanes());
    let names: Vec<&str> = Kernel::available().map(|kernel| kernel.name()).collect();
    for kernel in Kernel::available() {
        let pairs = defined.iter().zip(product(kernel));
        let farthest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        if farthest > 1e-4 {
            let found = format!("{} computes wrong products", kernel.name());
            return Check::failure(NAME, found, "train with --reproducible, and report this");
        }
    }
    let best = Kernel::best().name();
    Check::fine(
        NAME,
        format!("{best} (this processor has {})", names.join(", ")),
    )
}

/// One run of the backbone.
fn backbone(model: &Model) -> Check {
    const NAME: &str = "backbone";
    let run = || -> Result<String> {
        let start = Instant::now();
        let lazy = model.cut_at(&model.manifest().default_cut)?;
        let backbone = lazy.get()?;
        let read_ms = start.elapsed().as_millis();
        let mut worker = backbone.worker()?;
        let mut features = vec![0.0; backbone.features()];
        let input = vec![0.0; backbone.input_elements()];
        worker.run(&input, &mut features)?;
        let start = Instant::now();
        worker.run(&input, &mut features)?;
        let run_ms = start.elapsed().as_millis();
        let name = &model.manifest().name;
        Ok(format!(
            "{name}: read in {read_ms} ms, one picture in {run_ms} ms"
        ))
    };
    match run() {
        Ok(found) => Check::fine(NAME, found),
        Err(error) => Check::failure(NAME, error.to_string(), "use another --backbone"),
    }
}

/// Whether `watch` can be kept from files that it does not need.
fn confinement() -> Check {
    const NAME: &str = "sandbox";
    match sandbox::possible() {
        Held::Wholly => Check::fine(NAME, "watch is kept from other files (Landlock)"),
        Held::Partly => Check::fine(
            NAME,
            "watch is kept from other files as far as this kernel can (Landlock)",
        ),
        Held::NotAtAll => Check::warning(
            NAME,
            "this kernel has no Landlock: watch can reach what its user can",
            "run watch as a user of its own, or use a kernel from 5.13 on with Landlock enabled",
        ),
    }
}

/// Whether features can be kept.
fn cache(folder: Option<&Path>) -> Check {
    const NAME: &str = "cache";
    let usual = Cache::default_dir();
    let Some(folder) = folder.or(usual.as_deref()) else {
        let remedy = "set HOME, or give --cache DIR";
        return Check::warning(NAME, "no place for it is known", remedy);
    };
    if folder == Path::new("off") {
        return Check::fine(NAME, "off");
    }
    // The nearest folder that exists: nothing is made here.
    let existing = folder.ancestors().find(|place| place.is_dir());
    let existing = existing.unwrap_or(Path::new("."));
    if let Err(error) = store::require_writable(&existing.join("probe")) {
        let found = format!("{}: {error}", folder.display());
        return Check::warning(
            NAME,
            found,
            "give --cache DIR, or features are computed again",
        );
    }
    match store::free_bytes(existing) {
        Some(bytes) if bytes < LEAST_FREE_BYTES => Check::warning(
            NAME,
            format!("{}: {} free", folder.display(), format_size(bytes)),
            "free some space, or give --cache DIR on another disk",
        ),
        Some(bytes) => Check::fine(
            NAME,
            format!("{}: {} free", folder.display(), format_size(bytes)),
        ),
        None => Check::fine(NAME, folder.display().to_string()),
    }
}
