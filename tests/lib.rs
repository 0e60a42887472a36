//! Helpers that several promises share: where the data is, how the command is built
//! and run, what a refusal looks like, and pictures to feed it. No promise lives here.

pub mod devices;
pub mod killed_runs;
pub mod layer_tables;
pub mod onnx_files;
pub mod predictions;
pub mod reference;
pub mod running;
pub mod small_heads;
pub mod sounds;
pub mod without_pictures;

use std::fs::{self, File};
use std::io::{Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use serde_json::Value;

/// A command that runs longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(900);

/// A file or folder of the optional data folder `../shared` beside the checkout.
/// Prints a visible line and returns `None` where it is absent.
pub fn shared(path: &str) -> Option<PathBuf> {
    let full = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared")
        .join(path);
    if full.exists() {
        return Some(full);
    }
    not_tested(&format!(
        "../shared/{path} is absent; put the data folder beside the checkout"
    ));
    None
}

/// Says that a test could not run, and why. Goes to the terminal even when the
/// test harness captures the output of passing tests.
pub fn not_tested(why: &str) {
    let _ = writeln!(std::io::stderr(), "NOT TESTED: {why}");
}

/// The demo's training photographs, one sub-folder a class: brick, grass, gravel.
pub fn demo_samples() -> PathBuf {
    repository().join("crates/cli/demo/train")
}

/// The top of the checkout.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// A folder of this test program alone, emptied when the program first asks for it. It
/// lies in the target folder, so that nothing piles up elsewhere.
pub fn scratch() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let program = std::env::current_exe().expect("a program has a path");
        let name = program.file_name().expect("a program has a name");
        let folder = target_folder().join("tmp").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the target folder can be written");
        folder
    })
}

/// From `target/release/deps/NAME`, the path of this test program.
fn target_folder() -> PathBuf {
    let program = std::env::current_exe().expect("a program has a path");
    let target = program.ancestors().nth(3);
    target
        .expect("the test program lies in target/PROFILE/deps")
        .to_path_buf()
}

/// The command under test: `$FIELDTUNE_BIN`, or else the one of this checkout, built in
/// the profile and target folder of the tests themselves. Features go to a cache in
/// [`scratch`], never to the user's.
pub fn fieldtune() -> Command {
    let mut command = Command::new(program());
    command.env("FIELDTUNE_CACHE", scratch().join("cache"));
    command
}

/// Path of the command under test, see [`fieldtune()`].
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::var_os("FIELDTUNE_BIN").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let target = target_folder();
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let mut cargo = Command::new(env!("CARGO"));
    // The whole workspace, so that dependencies have the features they have already.
    cargo.args(["build", "--quiet", "--workspace", "--bin", "fieldtune"]);
    if profile == "release" {
        cargo.arg("--release");
    }
    if cfg!(feature = "mqtt") {
        cargo.args(["--features", "fieldtune-tests/mqtt"]);
    }
    cargo
        .current_dir(repository())
        .env("CARGO_TARGET_DIR", &target);
    let built = cargo.output().expect("cargo runs");
    let messages = String::from_utf8_lossy(&built.stderr);
    assert!(
        built.status.success(),
        "the command does not build:\n{messages}"
    );
    let name = format!("fieldtune{}", std::env::consts::EXE_SUFFIX);
    target.join(profile).join(name)
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Standard output as one JSON document, after making sure that all went well.
    pub fn json(&self) -> Value {
        self.succeeded();
        let parsed = serde_json::from_str(&self.stdout);
        parsed.unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Makes sure that the command ended with 0 and said nothing but its result.
    pub fn succeeded(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.stderr, "", "{self:?}");
        self
    }

    /// Makes sure that the command ended with `code` and gave one line of error with a
    /// remedy that holds `wanted`. Returns the line.
    pub fn refused(&self, code: i32, wanted: &str) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        let line = self.stderr.strip_suffix('\n').unwrap_or(&self.stderr);
        assert!(!line.chars().any(char::is_control), "one line: {self:?}");
        assert!(line.starts_with("fieldtune: "), "{line}");
        assert!(line.contains(wanted), "{line} lacks {wanted}");
        assert!(!line.contains("panicked"), "{line}");
        let remedy = line.rsplit_once("; ").map_or("", |(_, remedy)| remedy);
        assert!(remedy.len() > 5, "no remedy: {line}");
        line
    }
}

/// Runs a command to its end, with nothing on standard input.
pub fn run(command: &mut Command) -> Ran {
    run_with_input(command, b"")
}

/// Runs a command to its end, with `input` (less than 64 KiB) on standard input.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Ran {
    // Files cannot fill up as pipes can, so that nothing waits for anything.
    let mut stdout = tempfile::tempfile().expect("a temporary file");
    let mut stderr = tempfile::tempfile().expect("a temporary file");
    command.stdin(Stdio::piped());
    command.stdout(stdout.try_clone().expect("a file handle"));
    command.stderr(stderr.try_clone().expect("a file handle"));
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    if let Some(mut pipe) = child.stdin.take() {
        // A command that does not read it is free to close it.
        let _ = pipe.write_all(input);
    }
    let status = wait(&mut child).unwrap_or_else(|| panic!("{command:?} hangs"));
    Ran {
        code: status.code(),
        stdout: content(&mut stdout),
        stderr: content(&mut stderr),
    }
}

fn wait(child: &mut Child) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn content(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().expect("a file can be rewound");
    file.read_to_string(&mut text)
        .expect("a command prints UTF-8");
    text
}

/// A linear head of [`demo_samples`], trained once by this test program.
pub fn demo_head() -> &'static Path {
    static HEAD: OnceLock<PathBuf> = OnceLock::new();
    HEAD.get_or_init(|| {
        let path = scratch().join("demo.head");
        let mut command = fieldtune();
        command.arg("train").arg(demo_samples()).arg("-o");
        command.arg(&path).args(["--head", "linear"]);
        run(&mut command).succeeded();
        path
    })
}

/// An image file of `format` in memory.
pub fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, format)
        .expect("the image can be encoded");
    bytes.into_inner()
}

/// A PNG file of 48 x 48 pixels of one colour, `shade` of it.
pub fn solid(shade: u8) -> Vec<u8> {
    let image = RgbImage::from_pixel(48, 48, Rgb([shade, 255 - shade, 90]));
    encoded(&image.into(), ImageFormat::Png)
}

/// A JPEG file of 48 x 48 pixels with upright black and white stripes, `width` pixels
/// wide.
pub fn striped(width: u32) -> Vec<u8> {
    let level = |x: u32| {
        if (x / width).is_multiple_of(2) {
            20
        } else {
            235
        }
    };
    let image = RgbImage::from_fn(48, 48, |x, _| Rgb([level(x); 3]));
    encoded(&image.into(), ImageFormat::Jpeg)
}

/// A small PNG file whose header says that it has `width` x `height` pixels.
pub fn png_that_declares(width: u32, height: u32) -> Vec<u8> {
    let mut png = solid(0);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    png
}

/// CRC of a PNG chunk, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// Writes files below `root`, making their folders.
pub fn write_files(root: &Path, files: &[(&str, &[u8])]) {
    for (name, bytes) in files {
        let path = root.join(name);
        let folder = path.parent().expect("a file lies in a folder");
        fs::create_dir_all(folder).expect("the folder can be made");
        fs::write(path, bytes).expect("the file can be written");
    }
}

/// A folder with two sound classes of two small images each, `plain` and `stripes`.
pub fn two_classes() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (plain, stripes) = ([solid(40), solid(200)], [striped(4), striped(6)]);
    write_files(
        folder.path(),
        &[
            ("plain/1.png", &plain[0]),
            ("plain/2.png", &plain[1]),
            ("stripes/1.jpg", &stripes[0]),
            ("stripes/2.jpg", &stripes[1]),
        ],
    );
    folder
}
