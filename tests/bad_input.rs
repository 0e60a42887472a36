//! Promise: whatever is wrong with samples, heads, backbones, disk and flags, the command
//! says so in one line that names it and what to do, with the exit code of the contract,
//! and leaves nothing half-written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fieldtune::head::Head;
use fieldtune_tests::{
    Ran, demo_head, demo_samples, fieldtune, not_tested, png_that_declares, program, repository,
    run, run_with_input, solid, striped, two_classes, write_files,
};
use tempfile::{TempDir, tempdir};

fn training(samples: &Path, head: &Path) -> Command {
    let mut command = fieldtune();
    command.arg("train").arg(samples).arg("-o").arg(head);
    command.args(["--head", "prototype"]);
    command
}

/// Trains on `samples` and returns what was said. A head must be there after success and
/// must not be there after failure.
fn train(samples: &Path, flags: &[&str]) -> Ran {
    let folder = tempdir().expect("a folder");
    let head = folder.path().join("new.head");
    let ran = run(training(samples, &head).args(flags));
    let left = names(folder.path());
    if ran.code == Some(0) {
        assert_eq!(left, ["new.head"]);
    } else {
        assert!(left.is_empty(), "left behind: {left:?}");
    }
    ran
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a readable folder");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Files of any depth below `folder`.
fn count_files(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .map(|entry| match entry.expect("an entry").path() {
            path if path.is_dir() => count_files(&path),
            _ => 1,
        })
        .sum()
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn show(head: &Path) -> Ran {
    run(fieldtune().args(["head", "show"]).arg(head))
}

fn eval(head: &Path, samples: &Path, flags: &[&str]) -> Ran {
    run(fieldtune().arg("eval").arg(head).arg(samples).args(flags))
}

fn predict(head: &Path, file: &Path, flags: &[&str]) -> Ran {
    run(fieldtune().arg("predict").arg(head).arg(file).args(flags))
}

#[test]
fn folders_that_are_no_samples() {
    let folder = tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("empty")).expect("made");
    write_files(
        &at("one"),
        &[("ant/1.png", &solid(1)), ("ant/2.png", &solid(2))],
    );
    write_files(&at("flat"), &[("1.png", &solid(1))]);
    for (name, wanted) in [
        ("empty", "holds no class folders"),
        ("one", "only one class (\"ant\")"),
        ("flat", "no sub-folders"),
        ("gone", "does not exist"),
    ] {
        let line = train(&at(name), &[])
            .refused(3, &shown(&at(name)))
            .to_string();
        assert!(line.contains(wanted), "{line}");
        let mut plan = fieldtune();
        run(plan.arg("plan").arg(at(name))).refused(3, wanted);
    }
    for name in ["empty", "gone"] {
        eval(demo_head(), &at(name), &[]).refused(3, &shown(&at(name)));
    }
}

#[test]
fn a_text_file_named_jpg_is_skipped_by_name_or_with_strict_refused() {
    let samples = two_classes();
    write_files(samples.path(), &[("plain/notes.jpg", b"not an image")]);
    let ran = train(samples.path(), &["--json"]);
    let line = ran.refused(0, "plain/notes.jpg");
    assert!(line.contains("skipped"), "{line}");
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).expect("one document");
    assert_eq!(
        (&document["samples"], &document["skipped"]),
        (&4.into(), &1.into())
    );
    train(samples.path(), &["--strict"]).refused(3, "plain/notes.jpg");
}

#[test]
fn a_class_of_which_nothing_can_be_read() {
    let samples = two_classes();
    write_files(
        samples.path(),
        &[
            ("bad/1.jpg", b"text"),
            ("bad/2.png", b""),
            ("bad/3.jpg", &striped(4)[..300]),
        ],
    );
    let line = train(samples.path(), &[]).refused(3, "\"bad\"").to_string();
    assert!(line.contains(&shown(samples.path())), "{line}");
}

#[test]
fn an_image_of_400_megapixels() {
    let samples = two_classes();
    let huge = png_that_declares(20_000, 20_000);
    write_files(samples.path(), &[("plain/huge.png", &huge)]);
    let ran = train(samples.path(), &[]);
    let line = ran.refused(0, "plain/huge.png");
    assert!(line.contains("20000 x 20000"), "{line}");
    train(samples.path(), &["--strict"]).refused(3, "plain/huge.png");
    write_files(samples.path(), &[("huge/1.png", &huge)]);
    let alone = train(samples.path(), &[]);
    let line = alone.refused(3, "20000 x 20000");
    assert!(line.contains("\"huge\""), "{line}");
    let file = samples.path().join("plain/huge.png");
    predict(demo_head(), &file, &[]).refused(3, "20000 x 20000");
}

#[cfg(unix)]
#[test]
fn a_class_with_a_newline_in_its_name() {
    let samples = two_classes();
    write_files(samples.path(), &[("two\nlines/1.png", &solid(9))]);
    let ran = train(samples.path(), &[]);
    let line = ran.refused(3, "two\\nlines");
    assert!(line.contains("rename the folder"), "{line}");
    // In the name of a file it does no harm, and is shown escaped.
    let samples = two_classes();
    write_files(samples.path(), &[("plain/a\nb.jpg", b"text")]);
    train(samples.path(), &[]).refused(0, "plain/a\\nb.jpg");
}

#[cfg(unix)]
#[test]
fn links_in_a_circle() {
    use std::os::unix::fs::symlink;
    let samples = two_classes();
    let at = |name: &str| samples.path().join(name);
    symlink(samples.path(), at("plain/up")).expect("linked");
    symlink(at("stripes/b.jpg"), at("stripes/a.jpg")).expect("linked");
    symlink(at("stripes/a.jpg"), at("stripes/b.jpg")).expect("linked");
    let ran = train(samples.path(), &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for name in ["plain/up", "stripes/a.jpg", "stripes/b.jpg"] {
        let named = ran.stderr.lines().filter(|line| line.contains(name));
        assert_eq!(named.count(), 1, "{name}: {ran:?}");
    }
    assert_eq!(ran.stderr.lines().count(), 3, "{ran:?}");
    symlink(at("circle"), at("circle")).expect("linked");
    train(&at("circle"), &[]).refused(3, "circle");
}

#[cfg(unix)]
#[test]
fn a_class_folder_without_permission() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let samples = two_classes();
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let locked = samples.path().join("plain");
    mode(samples.path(), 0o755);
    mode(&locked, 0o000);
    let head = samples.path().join("new.head");
    let mut command = training(samples.path(), &head);
    if fs::read_dir(&locked).is_ok() {
        // Root may read everything: the command runs as nobody, in a folder of nobody's.
        let own = tempdir().expect("a folder");
        mode(own.path(), 0o777);
        let copy = own.path().join("fieldtune");
        fs::copy(program(), &copy).expect("copied");
        mode(&copy, 0o755);
        command = Command::new(&copy);
        command.arg("train").arg(samples.path()).arg("-o");
        command.arg(own.path().join("new.head"));
        command.args(["--cache", "off"]).current_dir("/");
        command.uid(65534).gid(65534);
        if Command::new("true").uid(65534).gid(65534).status().is_err() {
            mode(&locked, 0o755);
            not_tested("running as root and cannot become nobody");
            return;
        }
        let ran = run(&mut command);
        mode(&locked, 0o755);
        ran.refused(3, "plain: may not be read (permission denied)");
        assert_eq!(names(own.path()), ["fieldtune"]);
        return;
    }
    let ran = run(&mut command);
    mode(&locked, 0o755);
    ran.refused(3, "plain: may not be read (permission denied)");
}

/// A file system of 256 KiB in memory, taken away at the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new() -> Option<Self> {
        let folder = tempdir().expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]);
        let mounted = mount.arg(folder.path()).output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_leaves_the_old_head_whole() {
    let Some(disk) = SmallDisk::new() else {
        not_tested("a full disk: only root can mount a small one");
        return;
    };
    let (folder, samples) = (disk.0.path(), two_classes());
    let head = folder.join("a.head");
    fs::copy(demo_head(), &head).expect("copied");
    let old = fs::read(&head).expect("read");
    // Fill what is left, to the last byte.
    let mut size = 1 << 19;
    let mut filling = Vec::new();
    while size > 0 {
        let path = folder.join(format!("filling{size}"));
        match fs::write(&path, vec![1; size]) {
            Ok(()) => filling.push(path),
            Err(_) => drop(fs::remove_file(&path)),
        }
        size /= 2;
    }
    let before = names(folder);
    run(&mut training(samples.path(), &head)).refused(1, ": disk full");
    assert!(
        old == fs::read(&head).expect("read"),
        "the old head changed"
    );
    assert_eq!(names(folder), before);
    for path in filling {
        fs::remove_file(path).expect("removed");
    }
    run(&mut training(samples.path(), &head)).succeeded();
    show(&head).succeeded();
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_work() {
    let folder = tempdir().expect("a folder");
    let cache = folder.path().join("cache");
    for (head, wanted) in [
        ("gone/a.head", "its folder does not exist"),
        ("cache", "is a folder"),
    ] {
        fs::create_dir_all(&cache).expect("made");
        let path = folder.path().join(head);
        let samples = two_classes();
        let mut command = training(samples.path(), &path);
        let ran = run(command.arg("--cache").arg(&cache));
        assert!(ran.refused(1, head).contains(wanted), "{ran:?}");
        assert_eq!(count_files(&cache), 0);
    }
}

#[test]
fn a_report_that_cannot_be_written() {
    let samples = two_classes();
    train(samples.path(), &["--report", "/no/such/folder/a.html"]).refused(1, "a.html");
}

#[test]
fn a_head_for_another_backbone() {
    let folder = tempdir().expect("a folder");
    let mut head = Head::load(demo_head()).expect("sound");
    head.backbone.sha256[0] ^= 1;
    let path = folder.path().join("foreign.head");
    head.save(&path).expect("written");
    let file = demo_samples()
        .join("brick")
        .join(&names(&demo_samples().join("brick"))[0]);
    eval(&path, &demo_samples(), &[]).refused(5, "foreign.head");
    predict(&path, &file, &[]).refused(5, "was trained on backbone");

    // The other way round: a sound head with another ONNX file. One more field of text at
    // the end makes it another file and the same network.
    let model = repository().join("models/efficientnet-lite0/model_f16.onnx");
    let mut bytes = fs::read(model).expect("the bundled backbone");
    bytes.extend([0x1a, 1, b'x']);
    let other = folder.path().join("other.onnx");
    fs::write(&other, bytes).expect("written");
    let other = shown(&other);
    let flags = ["--backbone", &other, "--input", "image:3x224x224"];
    eval(demo_head(), &demo_samples(), &flags).refused(5, &shown(demo_head()));
    predict(demo_head(), &file, &flags).refused(5, &shown(demo_head()));
}

#[test]
fn head_files_that_are_none() {
    let folder = tempdir().expect("a folder");
    let sound = fs::read(demo_head()).expect("read");
    let mut flipped = sound.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    let mut longer = sound.clone();
    longer.push(0);
    let cases: [(&str, &[u8]); 6] = [
        ("cut.head", &sound[..sound.len() - 7]),
        ("start.head", &sound[..10]),
        ("flipped.head", &flipped),
        ("longer.head", &longer),
        ("empty.head", b""),
        ("picture.head", &striped(3)),
    ];
    let samples = two_classes();
    for (name, bytes) in cases {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        show(&path).refused(3, name);
        eval(&path, samples.path(), &[]).refused(3, name);
        predict(&path, &samples.path().join("plain/1.png"), &[]).refused(3, name);
    }
    show(&folder.path().join("gone.head")).refused(3, "gone.head");
    show(folder.path()).refused(3, "is a folder");
}

#[test]
fn samples_of_a_class_that_the_head_does_not_know() {
    let samples = two_classes();
    let ran = eval(demo_head(), samples.path(), &[]);
    let line = ran.refused(5, "\"plain\"");
    assert!(line.contains("brick, grass, gravel"), "{line}");
}

#[test]
fn a_memory_limit_that_would_not_hold_is_refused_before_work() {
    let folder = tempdir().expect("a folder");
    let cache = shown(folder.path());
    let samples = two_classes();
    let ran = train(samples.path(), &["--memory", "10M", "--cache", &cache]);
    assert!(ran.refused(4, "10.0 MiB").contains("raise --memory"));
    assert_eq!(count_files(folder.path()), 0, "work was done");
    let mut plan = fieldtune();
    plan.arg("plan")
        .arg(samples.path())
        .args(["--memory", "10M"]);
    run(&mut plan).refused(4, "10.0 MiB");
    for nonsense in ["much", "-1", "0", "10X", ""] {
        let flag = format!("--memory={nonsense}");
        train(samples.path(), &[&flag]).refused(2, "--memory");
    }
}

#[test]
fn a_missing_file_does_not_keep_the_others_from_being_labelled() {
    let samples = two_classes();
    let at = |name: &str| samples.path().join(name);
    let mut command = fieldtune();
    command.args(["predict", "--json"]).arg(demo_head());
    command.args([at("plain/1.png"), at("gone.jpg"), at("stripes/2.jpg")]);
    let ran = run(&mut command);
    ran.refused(3, "gone.jpg: does not exist");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{ran:?}");
    assert!(lines[0].contains("plain/1.png") && lines[1].contains("stripes/2.jpg"));
    predict(demo_head(), samples.path(), &[]).refused(3, "is a folder");
}

#[test]
fn garbage_on_standard_input() {
    let cut = &striped(5)[..400];
    let inputs: [&[u8]; 4] = [b"", b"hello", &[0xff; 5000], cut];
    for input in inputs {
        let mut command = fieldtune();
        command.arg("predict").arg(demo_head()).arg("-");
        let ran = run_with_input(&mut command, input);
        ran.refused(3, "");
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn backbones_that_are_none() {
    let folder = tempdir().expect("a folder");
    let model = repository().join("models/efficientnet-lite0/model_f16.onnx");
    let sound = fs::read(model).expect("the bundled backbone");
    let mut zeroed = sound.clone();
    zeroed[200..4000].fill(0);
    let cases: [(&str, &[u8]); 4] = [
        ("cut.onnx", &sound[..sound.len() / 2]),
        ("zeroed.onnx", &zeroed),
        ("empty.onnx", b""),
        ("text.onnx", b"this is not a network"),
    ];
    let samples = two_classes();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    for (name, bytes) in cases {
        fs::write(path(name), bytes).expect("written");
        let file = shown(&path(name));
        let input = ["--input", "image:3x224x224"];
        let flags = [&["--backbone", &file, "--cut", "features"], &input[..]].concat();
        train(samples.path(), &flags).refused(3, name);
        run(fieldtune().arg("inspect").arg(path(name)).args(input)).refused(3, name);
    }
    let gone = shown(&path("gone.onnx"));
    train(samples.path(), &["--backbone", &gone]).refused(3, "gone.onnx");
    // Without a manifest and without --input it cannot be known how to feed it.
    let file = shown(&path("text.onnx"));
    train(samples.path(), &["--backbone", &file]).refused(2, "text.onnx");
}
