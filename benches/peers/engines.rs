//! Who is compared, and the programs that answer for them.

use std::path::Path;
use std::process::Command;

use fieldtune_benches::served::Served;
use fieldtune_benches::{Failure, python, run, work_folder};
use serde_json::{Value, json};

use fieldtune_benches::cases::{Case, Head};

/// One column of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Own,
    Torch { compiled: bool, threads: usize },
    Sklearn,
    Burn { ndarray: bool },
    Candle,
}

impl Engine {
    /// All but this project: with one thread, then PyTorch with two.
    pub fn all() -> impl Iterator<Item = Self> {
        let two = [false, true].map(|compiled| Self::Torch {
            compiled,
            threads: 2,
        });
        Self::on_one_thread().chain(two)
    }

    pub fn on_one_thread() -> impl Iterator<Item = Self> {
        let torch = |compiled| Self::Torch {
            compiled,
            threads: 1,
        };
        [
            Self::Own,
            torch(false),
            torch(true),
            Self::Sklearn,
            Self::Burn { ndarray: false },
            Self::Burn { ndarray: true },
            Self::Candle,
        ]
        .into_iter()
    }

    pub fn name(self) -> String {
        match self {
            Self::Torch { threads: 2, .. } => format!("{}, 2 threads", self.peer()),
            _ => self.peer().into(),
        }
    }

    /// What the program that answers calls it.
    pub fn peer(self) -> &'static str {
        match self {
            Self::Own => "fieldtune",
            Self::Torch { compiled: true, .. } => "PyTorch compiled",
            Self::Torch { .. } => "PyTorch eager",
            Self::Sklearn => "scikit-learn",
            Self::Burn { ndarray: true } => "burn ndarray",
            Self::Burn { .. } => "burn flex",
            Self::Candle => "candle",
        }
    }

    /// scikit-learn has neither adversarial features nor convolutions. Compiling a step takes
    /// PyTorch ten seconds and more, so it does so for the usual batch and rule alone.
    pub fn can(self, case: &Case) -> bool {
        match self {
            Self::Sklearn => !case.adversarial && case.head != Head::Tail,
            Self::Torch { compiled: true, .. } => case.adamw && case.batch == 16,
            _ => true,
        }
    }
}

/// The running programs.
pub struct Peers {
    python: [Served; 2],
    rust: Served,
}

impl Peers {
    /// Installs, builds and starts them. The first time takes half an hour and 6 GB.
    ///
    /// # Errors
    /// When Python, its packages or the crates cannot be had.
    pub fn start() -> Result<Self, Failure> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let python = python("peers", &here.join("requirements.txt"))?;
        let serve = |threads: usize| {
            let mut command = Command::new(&python);
            let compiled = work_folder("peers").join("compiled");
            command
                .arg(here.join("reference.py"))
                .arg(threads.to_string());
            // OpenBLAS shall choose its kernel itself.
            command
                .env_remove("OPENBLAS_CORETYPE")
                .env_remove("OPENBLAS_L2_SIZE");
            command.env("TORCHINDUCTOR_CACHE_DIR", compiled);
            for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"] {
                command.env(name, threads.to_string());
            }
            Served::start(&mut command)
        };
        Ok(Self {
            python: [serve(1)?, serve(2)?],
            rust: Served::start(
                Command::new(built(&here.join("rust"))?).env("RAYON_NUM_THREADS", "1"),
            )?,
        })
    }

    pub fn ask(&mut self, engine: Engine, question: &Value) -> Result<Value, Failure> {
        match engine {
            Engine::Torch { threads: 2, .. } => self.python[1].ask(question),
            Engine::Torch { .. } | Engine::Sklearn => self.python[0].ask(question),
            _ => self.rust.ask(question),
        }
    }

    /// Billions of operations a second in multiply-adds, and for each size of memory the
    /// billions of bytes a second that can be moved in it.
    pub fn limits(&mut self, sizes_bytes: &[usize]) -> Result<(f64, Vec<f64>), Failure> {
        let answer = self.rust.ask(&json!({"limits": sizes_bytes}))?;
        let rates = answer["gb_per_s"].as_array().ok_or("no bandwidths")?;
        let rates = rates.iter().filter_map(Value::as_f64).collect();
        Ok((answer["gflops"].as_f64().ok_or("no limit")?, rates))
    }

    pub fn versions(&self) -> Value {
        json!([self.python[0].version, self.rust.version])
    }
}

/// The program with burn and candle, built where it changed.
fn built(folder: &Path) -> Result<std::path::PathBuf, Failure> {
    let target = work_folder("peers").join("rust");
    // From its folder, where the flags for this processor are.
    run(Command::new("cargo")
        .args(["build", "--quiet", "--release", "--locked", "--target-dir"])
        .arg(&target)
        .current_dir(folder))?;
    Ok(target.join("release/fieldtune-peers"))
}
