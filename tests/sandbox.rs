//! Promise: files from strangers reach neither other files, nor the terminal, nor the
//! network. Links and `..` stay in the folder unless a flag says so; names in them are shown
//! as text; the program holds no network code. `watch` is kept from other files by the kernel,
//! and does not stay root.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fieldtune::error::is_hostile;
use fieldtune::head::Head;
use fieldtune::sandbox::{self, Held, Needs};
use fieldtune_tests::small_heads::small_head;
use fieldtune_tests::{
    Ran, demo_head, demo_samples, fieldtune, not_tested, program, repository, run, solid,
    two_classes, write_files,
};

/// Far more than a label takes, even emulated on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

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

/// Whether this kernel can keep a process from files; says so where it cannot.
fn landlock() -> bool {
    let possible = sandbox::possible() != Held::NotAtAll;
    if !possible {
        not_tested("what watch cannot reach; this needs a kernel from 5.13 on with Landlock");
    }
    possible
}

#[test]
fn a_confined_thread_reaches_what_it_needs_and_nothing_else() {
    if !landlock() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    for name in ["read", "write", "other"] {
        fs::create_dir(place(name)).expect("made");
        fs::write(place(name).join("a"), name).expect("written");
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let confined = |read_all: bool| {
        let (read, write, other) = (place("read"), place("write"), place("other"));
        let needs = Needs {
            read: &[&read],
            write: &[&write],
            read_all,
            network: false,
        };
        sandbox::confine(needs).expect("possible");
        assert!(fs::read(read.join("a")).is_ok());
        assert!(fs::write(read.join("a"), "x").is_err());
        assert!(fs::write(write.join("b"), "x").is_ok());
        assert!(fs::rename(write.join("b"), write.join("c")).is_ok());
        assert!(fs::remove_file(write.join("c")).is_ok());
        assert_eq!(fs::read(other.join("a")).is_ok(), read_all);
        assert!(fs::write(other.join("a"), "x").is_err());
        assert!(fs::remove_file(other.join("a")).is_err());
        assert!(Command::new("/bin/true").status().is_err() || read_all);
        // Threads that it starts are held too.
        let inner = std::thread::spawn(move || fs::write(other.join("a"), "x").is_err());
        assert!(inner.join().expect("ends"));
        TcpStream::connect(address).err().map(|error| error.kind())
    };
    std::thread::scope(|scope| {
        for read_all in [false, true] {
            let said = scope.spawn(move || confined(read_all)).join();
            let said = said.expect("holds");
            // Kernels before 6.7 do not know of networks.
            let held = sandbox::possible() == Held::Wholly;
            assert!(
                !held || said == Some(ErrorKind::PermissionDenied),
                "{said:?}"
            );
        }
    });
}

/// A `watch` at work, killed at the end of the test.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Watching {
    fn start(folder: &Path, out: &Path, flags: &[&str]) -> Self {
        let mut command = fieldtune();
        command.arg("watch").arg(demo_head()).arg(folder);
        command.args(["--json", "--interval", "20ms", "--threads", "2"]);
        command.args(flags).stdin(Stdio::null());
        command.stdout(File::create(out).expect("a file"));
        Self(command.spawn().expect("the command starts"))
    }

    /// What it said of files, once there are so many lines.
    fn said(&mut self, out: &Path, lines: usize) -> String {
        let start = Instant::now();
        loop {
            let text = fs::read_to_string(out).expect("the output");
            if text.matches('\n').count() >= lines {
                return text;
            }
            let ended = self.0.try_wait().expect("a child can be waited for");
            assert!(ended.is_none() && start.elapsed() < PATIENCE, "{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A field of each thread's status.
    fn of_threads(&self, field: &str) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).expect("threads");
        let of = |task: std::io::Result<fs::DirEntry>| {
            // A thread may end meanwhile.
            let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            Some(line.trim().to_string())
        };
        tasks.filter_map(of).collect()
    }
}

#[test]
fn watch_does_not_follow_a_link_out_of_its_folder_unless_told() {
    if !landlock() {
        return;
    }
    let place = tempfile::tempdir().expect("a folder");
    let [folder, secret] = ["incoming", "secret"].map(|name| place.path().join(name));
    for made in [&folder, &secret] {
        fs::create_dir(made).expect("made");
    }
    fs::write(secret.join("outside.png"), solid(9)).expect("written");
    fs::write(folder.join("inside.png"), solid(9)).expect("written");
    std::os::unix::fs::symlink(secret.join("outside.png"), folder.join("link.png"))
        .expect("linked");
    for (flags, lines) in [(&[][..], 1), (&["--follow-outside"], 2)] {
        let out = place.path().join("out");
        let record = folder.join(".fieldtune-watch");
        let _ = fs::remove_file(record);
        let mut watching = Watching::start(&folder, &out, flags);
        let said = watching.said(&out, lines);
        assert!(said.contains("inside.png"), "{said}");
        for status in watching.of_threads("NoNewPrivs:") {
            assert_eq!(status, "1");
        }
        // One more file and it is known that the link had its turn before.
        fs::write(folder.join("z.png"), solid(7)).expect("written");
        let said = watching.said(&out, lines + 1);
        assert_eq!(said.contains("link.png"), lines == 2, "{said}");
        fs::remove_file(folder.join("z.png")).expect("removed");
    }
}

#[test]
fn watch_of_root_goes_on_as_the_owner_of_the_folder() {
    const NOBODY: u32 = 65_534;
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("incoming");
    fs::create_dir(&folder).expect("made");
    if chown(&folder, Some(NOBODY), Some(NOBODY)).is_err() {
        return not_tested("whether watch gives up root's rights; run the tests as root");
    }
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(place.path(), open).expect("changed");
    let out = place.path().join("out");
    for (flags, user) in [(&[][..], NOBODY), (&["--keep-root"], 0)] {
        let name = format!("{user}.png");
        fs::write(folder.join(&name), solid(9)).expect("written");
        let _ = fs::remove_file(folder.join(".fieldtune-watch"));
        let mut watching = Watching::start(&folder, &out, flags);
        let said = watching.said(&out, 1);
        assert!(said.contains(&name), "{said}");
        for users in watching.of_threads("Uid:") {
            let all = users.split_whitespace().all(|it| it == user.to_string());
            assert!(all, "{users}");
        }
        drop(watching);
        let record = fs::metadata(folder.join(".fieldtune-watch")).expect("a record");
        assert_eq!(record.uid(), user);
    }
}
