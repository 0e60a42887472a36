//! Promise: samples are found as the contract says, whatever else lies in the folder, and
//! every folder or list that cannot be used is refused in one line that names the file.

use std::fs;
use std::path::Path;

use fieldtune::error::{Error, ErrorKind};
use fieldtune::samples::{MAX_CLASSES, MAX_LABEL_BYTES, SampleSet};

/// Makes files with some bytes; finding samples does not decode them.
fn files(root: &Path, names: &[&str]) {
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
}

fn folder(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), names);
    folder
}

/// The error of opening, checked to be one line of `BadInput`.
fn refusal(path: &Path) -> String {
    one_line(SampleSet::open(path).unwrap_err())
}

fn one_line(error: Error) -> String {
    assert_eq!(error.kind(), ErrorKind::BadInput);
    let line = error.to_string();
    assert!(!line.chars().any(char::is_control), "{line:?}");
    line
}

/// Relative paths of what was skipped, with reasons.
fn skipped(set: &SampleSet) -> Vec<(String, String)> {
    let name = |path: &Path| {
        path.strip_prefix(&set.source)
            .unwrap()
            .display()
            .to_string()
    };
    let each = set.skipped.iter();
    each.map(|skipped| (name(&skipped.path), skipped.reason.clone()))
        .collect()
}

#[test]
fn classes_are_folders_and_samples_are_sorted() {
    let folder = folder(&[
        "wasp/2.JPG",
        "wasp/1.jpeg",
        "wasp/day 2/deep/3.PnG",
        "Bee/x.webp",
        "Bee/y.bmp",
        "Bee/notes.txt",
        "Bee/.hidden.jpg",
        "Bee/Thumbs.db",
        ".DS_Store",
        ".git/objects/a.png",
        "loose.png",
        "labels.csv",
    ]);
    let set = SampleSet::open(folder.path()).unwrap();
    assert_eq!(set.labels, ["Bee", "wasp"]);
    assert_eq!(set.counts(), [2, 3]);
    let paths: Vec<_> = set.samples.iter().map(|sample| &sample.path).collect();
    let wanted = [
        "Bee/x.webp",
        "Bee/y.bmp",
        "wasp/1.jpeg",
        "wasp/2.JPG",
        "wasp/day 2/deep/3.PnG",
    ];
    assert_eq!(
        paths,
        wanted
            .map(|name| folder.path().join(name))
            .iter()
            .collect::<Vec<_>>()
    );
    assert!(set.samples.iter().all(|sample| sample.group.is_none()));
    let names: Vec<_> = skipped(&set).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["Bee/notes.txt", "labels.csv", "loose.png"]);
    set.require_trainable().unwrap();
}

#[test]
fn each_unusable_folder_has_its_own_message() {
    let empty = folder(&[]);
    assert!(refusal(empty.path()).contains("holds no class folders"));
    let flat = folder(&["1.jpg", "2.jpg", "notes.txt"]);
    assert!(refusal(flat.path()).contains("holds 2 samples but no sub-folders"));
    assert!(refusal(&flat.path().join("none")).contains("does not exist"));
    assert!(refusal(&flat.path().join("1.jpg")).contains("neither a folder nor"));

    let trainable = |names: &[&str]| {
        let folder = folder(names);
        let set = SampleSet::open(folder.path()).unwrap();
        one_line(set.require_trainable().unwrap_err())
    };
    assert!(trainable(&["ant/1.jpg"]).contains("only one class (\"ant\")"));
    assert!(trainable(&["ant/1.jpg", "bee/1.txt"]).contains("class \"bee\" has no usable sample"));
    assert!(trainable(&["ant/1.txt", "bee/1.txt"]).contains("(2 files skipped)"));
}

#[test]
fn names_that_would_break_a_line_are_refused() {
    let newline = folder(&["ant/1.jpg", "be\ne/1.jpg"]);
    let line = refusal(newline.path());
    assert!(
        line.contains("be\\ne") && line.contains("rename the folder"),
        "{line}"
    );
    let long = folder(&["ant/1.jpg"]);
    files(
        long.path(),
        &[&format!("{}/1.jpg", "x".repeat(MAX_LABEL_BYTES + 1))],
    );
    let wanted = format!(
        "has {} bytes, more than {MAX_LABEL_BYTES}",
        MAX_LABEL_BYTES + 1
    );
    assert!(refusal(long.path()).contains(&wanted));
    let many = tempfile::tempdir().unwrap();
    for class in 0..=MAX_CLASSES {
        fs::create_dir(many.path().join(class.to_string())).unwrap();
    }
    assert!(refusal(many.path()).contains(&format!("has {} classes", MAX_CLASSES + 1)));
}

#[cfg(unix)]
#[test]
fn names_that_are_not_text_are_refused_or_skipped() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let odd = OsStr::from_bytes(b"caf\xe9");
    let folder = folder(&["ant/1.jpg", "bee/1.jpg"]);
    let mut name = odd.to_os_string();
    name.push(".jpg");
    fs::write(folder.path().join("ant").join(name), "x").unwrap();
    let set = SampleSet::open(folder.path()).unwrap();
    assert_eq!(set.counts(), [1, 1]);
    assert!(set.skipped[0].reason.contains("not UTF-8"));
    fs::create_dir(folder.path().join(odd)).unwrap();
    assert!(refusal(folder.path()).contains("not UTF-8 text; rename the folder"));
}

#[cfg(unix)]
#[test]
fn links_are_followed_inside_only_and_never_for_ever() {
    use std::os::unix::fs::symlink;
    let outside = folder(&["secret.jpg"]);
    let folder = folder(&["ant/1.jpg", "bee/1.jpg"]);
    let at = |name: &str| folder.path().join(name);
    symlink("1.jpg", at("ant/inside.jpg")).unwrap();
    symlink(outside.path().join("secret.jpg"), at("ant/outside.jpg")).unwrap();
    symlink("circle.jpg", at("ant/circle.jpg")).unwrap();
    symlink("..", at("ant/up")).unwrap();
    symlink("nowhere.jpg", at("bee/broken.jpg")).unwrap();
    symlink("ant", at("cat")).unwrap();
    let set = SampleSet::open(folder.path()).unwrap();
    assert_eq!(set.labels, ["ant", "bee"]);
    assert_eq!(set.counts(), [2, 1]);
    let found = skipped(&set);
    for (name, reason) in [
        ("ant/circle.jpg", "leads nowhere or in a circle"),
        ("ant/outside.jpg", "leaves the folder"),
        ("ant/up", "a link to a folder"),
        ("bee/broken.jpg", "leads nowhere"),
        ("cat", "a link to a folder"),
    ] {
        let entry = found.iter().find(|(skipped, _)| skipped == name);
        assert!(
            entry.is_some_and(|(_, why)| why.contains(reason)),
            "{name}: {found:?}"
        );
    }
    assert_eq!(found.len(), 5);
}

/// Set for the copy of this program that runs without the rights of root.
const FOLDER_VARIABLE: &str = "FIELDTUNE_TEST_LOCKED_FOLDER";

#[cfg(unix)]
#[test]
fn a_class_folder_without_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if let Some(path) = std::env::var_os(FOLDER_VARIABLE) {
        let line = refusal(Path::new(&path));
        assert!(
            line.contains("bee: may not be read (permission denied)"),
            "{line}"
        );
        return;
    }
    let folder = folder(&["ant/1.jpg", "bee/1.jpg"]);
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let locked = folder.path().join("bee");
    mode(folder.path(), 0o755);
    mode(&locked, 0o000);
    if fs::read_dir(&locked).is_err() {
        let line = refusal(folder.path());
        assert!(
            line.contains("bee: may not be read (permission denied)"),
            "{line}"
        );
    } else {
        // Root may read everything: a copy of this test runs as nobody.
        let program = folder.path().join("copy-of-this-test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        mode(&program, 0o755);
        let result = std::process::Command::new(&program)
            .args(["--exact", "a_class_folder_without_permission_is_named"])
            .env(FOLDER_VARIABLE, folder.path())
            .current_dir("/")
            .uid(65534)
            .gid(65534)
            .output();
        match result {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(
                    output.status.success() && text.contains("1 passed"),
                    "{text}"
                );
            }
            Err(error) => println!("NOT TESTED: running as root and not as nobody ({error})"),
        }
    }
    mode(&locked, 0o755);
}

#[test]
fn lists_are_read_in_both_formats() {
    let folder = folder(&["a.jpg", "sub/b.jpg", "c.jpg"]);
    let absolute = folder.path().join("c.jpg");
    let csv = format!(
        "\u{feff}path, label,group\r\nsub/../a.jpg,wasp,p1\r\n\"sub/b.jpg\",bee,\r\n{},wasp,p2\r\ngone.jpg,bee,p3\r\n",
        absolute.display()
    );
    let json = format!(
        "\u{feff}{{\"path\":\"sub/../a.jpg\",\"label\":\"wasp\",\"group\":\"p1\"}}\n\n{}\n{}\n{}\n",
        "{\"label\":\"bee\",\"path\":\"sub/b.jpg\"}",
        format_args!(
            "{{\"path\":{:?},\"label\":\"wasp\",\"group\":\"p2\"}}",
            absolute
        ),
        "{\"path\":\"gone.jpg\",\"label\":\"bee\",\"group\":\"p3\"}",
    );
    for (name, text) in [("list.csv", csv), ("list.JSONL", json)] {
        let source = folder.path().join(name);
        fs::write(&source, text).unwrap();
        let set = SampleSet::open(&source).unwrap();
        assert_eq!(set.labels, ["bee", "wasp"]);
        let found: Vec<_> = set
            .samples
            .iter()
            .map(|sample| (sample.label, sample.group.as_deref()))
            .collect();
        assert_eq!(
            found,
            [(1, Some("p1")), (0, None), (1, Some("p2"))],
            "{name}"
        );
        assert!(set.samples.iter().all(|sample| sample.path.is_file()));
        assert_eq!(set.skipped.len(), 1);
        assert!(set.skipped[0].path.ends_with("gone.jpg"));
        assert!(set.skipped[0].reason.contains("does not exist"));
    }
}

#[test]
fn a_wrong_list_names_its_line() {
    let folder = folder(&["a.jpg", "in/a.jpg"]);
    let cases: [(&str, &[u8], &str); 13] = [
        (
            "1.csv",
            b"path,label\na.jpg,x\n../a.jpg,y\n",
            "line 3: the path leaves the folder",
        ),
        (
            "2.csv",
            b"path,label\na.jpg\n",
            "line 2: has 1 columns, the first line has 2",
        ),
        ("3.csv", b"a.jpg,x\n", "line 1: unknown column \"a.jpg\""),
        (
            "4.csv",
            b"path;label\na.jpg;x\n",
            "line 1: unknown column \"path;label\"",
        ),
        ("5.csv", b"path,label\n", "lists no samples"),
        (
            "6.csv",
            b"path,label\na.jpg,\n",
            "line 2: the label is empty",
        ),
        (
            "7.csv",
            b"path,label\na.jpg,\"x\ny\"\n",
            "line 2: the label \"x\\ny\" holds a line break",
        ),
        (
            "8.csv",
            b"\xff\xfep\0a\0",
            "is UTF-16 text; save it as UTF-8",
        ),
        (
            "9.csv",
            b"path,label\na.jpg,caf\xe9\n",
            "line 2: is not UTF-8 text",
        ),
        (
            "1.jsonl",
            b"{\"path\":\"a.jpg\",\"label\":\"x\"}\n{\"path\":\n",
            "line 2: EOF",
        ),
        (
            "2.jsonl",
            b"{\"path\":\"a.jpg\"}",
            "line 1: missing field `label`",
        ),
        (
            "3.jsonl",
            b"{\"path\":\"a.jpg\",\"label\":\"x\",\"grp\":\"y\"}",
            "line 1: unknown field `grp`",
        ),
        ("4.jsonl", b"", "lists no samples"),
    ];
    for (name, bytes, wanted) in cases {
        let source = folder.path().join("in").join(name);
        fs::write(&source, bytes).unwrap();
        let line = refusal(&source);
        assert!(
            line.contains(name) && line.contains(wanted),
            "{line} lacks {wanted}"
        );
    }
}
