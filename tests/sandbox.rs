//! Promise: files from strangers reach neither other files, nor the terminal, nor the
//! network. Links and `..` stay in the folder unless a flag says so; names in them are shown
//! as text; the program holds no network code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use fieldtune::error::is_hostile;
use fieldtune::head::Head;
use fieldtune_tests::small_heads::small_head;
use fieldtune_tests::{
    Ran, demo_samples, fieldtune, not_tested, program, repository, run, solid, two_classes,
    write_files,
};

/// A name that clears the screen, turns text around and ends a tag.
const HOSTILE: &str = "a\u{1b}[2J\u{9b}31m\u{202e}<img src=x onerror=alert(1)>\"'&.png";

fn harmless(ran: &Ran) {
    let text = format!("{}{}", ran.stdout, ran.stderr);
    let bad = text.chars().find(|c| *c != '\n' && is_hostile(*c));
    assert_eq!(bad, None, "{text:?}");
}

fn train(samples: &Path, head: &Path, more: &[&str]) -> Ran {
    let mut command = fieldtune();
    command.arg("train").arg(samples).arg("-o").arg(head);
    command.args(["--head", "linear", "--epochs", "2", "--time", "1s"]);
    run(command.args(more))
}

#[cfg(unix)]
#[test]
fn hostile_names_are_shown_as_text() {
    let samples = two_classes();
    let below = samples.path().join("plain").join(HOSTILE);
    fs::write(&below, solid(77)).expect("written");
    fs::write(samples.path().join("stripes").join(HOSTILE), "text").expect("written");
    let head = samples
        .path()
        .join(HOSTILE.replace('/', "").replace("png", "head"));
    let report = samples.path().join("report.html");
    let report_flag = ["--report", report.to_str().expect("plain")];
    let ran = train(samples.path(), &head, &report_flag);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    harmless(&ran);
    assert!(ran.stderr.contains("\\u{1b}[2J"), "{ran:?}");
    let page = fs::read_to_string(&report).expect("a report");
    assert!(!page.contains("<img src=x") && !page.contains('\u{1b}'));
    harmless(&train(samples.path(), &head, &["--json"]));
    for json in [&[][..], &["--json"]] {
        let predicted = run(fieldtune().arg("predict").arg(&head).arg(&below).args(json));
        assert_eq!(predicted.code, Some(0), "{predicted:?}");
        harmless(&predicted);
        let checked = run(fieldtune().arg("check").arg(samples.path()).args(json));
        assert_eq!(checked.code, Some(0), "{checked:?}");
        harmless(&checked);
        let listed = run(fieldtune()
            .args(["head", "rollback", "--list"])
            .arg(&head)
            .args(json));
        harmless(&listed);
    }
    // The escapes of JSON stand for the very name.
    let predicted = run(fieldtune()
        .arg("predict")
        .arg(&head)
        .arg(&below)
        .arg("--json"));
    let file = predicted.json()["file"].clone();
    assert_eq!(file.as_str(), below.to_str());
}

#[test]
fn a_strangers_head_is_shown_as_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.head");
    let mut head = small_head(1);
    let hostile = format!("x\n{HOSTILE}");
    head.backbone.name.clone_from(&hostile);
    head.backbone.cut.clone_from(&hostile);
    head.backbone.preprocessing.clone_from(&hostile);
    head.trained.recipe.clone_from(&hostile);
    head.trained.program.clone_from(&hostile);
    head.save(&path).expect("written");
    head.trained.seed += 1;
    head.save(&path).expect("written");
    assert_eq!(Head::load(&path).expect("sound"), head);
    let show = |json: &[&str]| run(fieldtune().args(["head", "show"]).arg(&path).args(json));
    let shown = show(&[]);
    harmless(shown.succeeded());
    assert!(shown.stdout.contains("x\\na\\u{1b}[2J"), "{shown:?}");
    harmless(&show(&["--json"]));
    assert_eq!(
        show(&["--json"]).json()["trained"]["recipe"].as_str(),
        Some(hostile.as_str())
    );
    for json in [&[][..], &["--json"]] {
        let mut command = fieldtune();
        let listed = run(command
            .args(["head", "rollback", "--list"])
            .arg(&path)
            .args(json));
        harmless(listed.succeeded());
        if json.is_empty() {
            assert_eq!(listed.stdout.lines().count(), 1, "{listed:?}");
        }
    }
    // It belongs to no backbone: refused in one line.
    let photo = demo_samples().join("brick");
    let photo = fs::read_dir(photo).expect("a folder").next();
    let photo = photo.expect("a file").expect("a name").path();
    run(fieldtune().arg("predict").arg(&path).arg(photo)).refused(5, "was trained on");
}

#[cfg(unix)]
#[test]
fn links_and_dots_leave_the_folder_only_when_allowed() {
    use std::os::unix::fs::symlink;
    let (outside, samples) = (tempfile::tempdir().expect("a folder"), two_classes());
    write_files(outside.path(), &[("secret.png", &solid(123))]);
    let secret = outside.path().join("secret.png");
    symlink(&secret, samples.path().join("plain/link.png")).expect("linked");
    let head = outside.path().join("a.head");
    let ran = train(samples.path(), &head, &["--json"]);
    assert!(
        ran.stderr.contains("link that leaves the folder"),
        "{ran:?}"
    );
    let count = |ran: &Ran| {
        let parsed: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
        parsed["samples"].as_u64()
    };
    assert_eq!(count(&ran), Some(4));
    let ran = train(samples.path(), &head, &["--json", "--follow-outside"]);
    assert_eq!(count(&ran), Some(5), "{ran:?}");

    let inner = samples.path().join("lists");
    fs::create_dir(&inner).expect("made");
    symlink(&secret, inner.join("link.png")).expect("linked");
    fs::copy(samples.path().join("plain/1.png"), inner.join("a.png")).expect("copied");
    let list = |name: &str, first: &str| {
        let path = inner.join(name);
        let text = format!("path,label\n{first},x\na.png,x\na.png,y\n");
        fs::write(&path, text).expect("written");
        path
    };
    let dots = list("dots.csv", "../plain/2.png");
    train(&dots, &head, &[]).refused(3, "leaves the folder of the list");
    let ran = train(&dots, &head, &["--json", "--follow-outside"]);
    assert_eq!(count(&ran), Some(3), "{ran:?}");
    let link = list("link.csv", "link.png");
    let ran = train(&link, &head, &["--json"]);
    assert!(
        ran.stderr.contains("link that leaves the folder"),
        "{ran:?}"
    );
    assert_eq!(count(&ran), Some(2), "{ran:?}");
    // An absolute path was named by the user.
    let absolute = list("absolute.csv", secret.to_str().expect("plain"));
    assert_eq!(count(&train(&absolute, &head, &["--json"])), Some(3));
}

/// Crates that open sockets, or exist only to.
const NETWORK: [&str; 22] = [
    "actix-web",
    "async-std",
    "attohttpc",
    "axum",
    "curl",
    "curl-sys",
    "h2",
    "hyper",
    "isahc",
    "mio",
    "minreq",
    "native-tls",
    "openssl",
    "openssl-sys",
    "quinn",
    "reqwest",
    "rustls",
    "smol",
    "socket2",
    "tokio",
    "tungstenite",
    "ureq",
];

#[test]
fn no_network_code_is_in_the_program() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", "fieldtune-cli"])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8(tree.stdout).expect("text");
    let crates: BTreeSet<&str> = tree.lines().filter_map(|l| l.split(' ').next()).collect();
    assert!(
        crates.contains("tract-core") && crates.len() > 50,
        "{crates:?}"
    );
    let found: Vec<_> = NETWORK
        .iter()
        .filter(|name| crates.contains(*name))
        .collect();
    assert!(found.is_empty(), "crates that open sockets: {found:?}");
    let mut folders = vec![repository().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("a name").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let code = fs::read_to_string(&path).expect("text");
                for word in [
                    "std::net",
                    "TcpStream",
                    "TcpListener",
                    "UdpSocket",
                    "UnixStream",
                ] {
                    assert!(!code.contains(word), "{} names {word}", path.display());
                }
            }
        }
    }
}

/// Whatever the names of crates: the program does not ask the system's library for sockets.
#[test]
fn the_program_imports_no_socket_function() {
    let bytes = fs::read(program()).expect("the program");
    let has = |name: &str| {
        let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
        bytes.windows(wanted.len()).any(|part| part == wanted)
    };
    if !cfg!(target_os = "linux") || !has("openat64") && !has("open64") && !has("open") {
        not_tested("which functions the program imports; it is not linked dynamically");
        return;
    }
    for name in [
        "socket",
        "connect",
        "bind",
        "listen",
        "accept4",
        "getaddrinfo",
        "sendto",
    ] {
        assert!(!has(name), "the program imports {name}");
    }
}
