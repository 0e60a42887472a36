//! Promise: what `watch` says is published to an MQTT broker too, and Home Assistant finds it;
//! a broker that is not there or goes away is tried again and loses nothing that is new; that
//! nobody publishes any more is told, however the program ends.
#![cfg(unix)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fieldtune_tests::running::{Running, gone};
use fieldtune_tests::{demo_head, demo_samples, fieldtune, not_tested, run};
use serde_json::Value;

/// Far more than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
const TOPIC: &str = "field/pond";
const AVAILABILITY: &str = "field/pond/availability";
const LABEL: &str = "homeassistant/sensor/fieldtune_field_pond/label/config";
const PROBABILITY: &str = "homeassistant/sensor/fieldtune_field_pond/probability/config";

/// Mosquitto; ended with this value.
struct Broker {
    child: Child,
    port: u16,
}

/// A port where nobody listens.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Whether the program can publish, and mosquitto and its clients are here.
fn there_is_mosquitto() -> bool {
    if !cfg!(feature = "mqtt") {
        not_tested(
            "MQTT is left out of the program: cargo test with --features fieldtune-tests/mqtt",
        );
        return false;
    }
    let found = program("mosquitto").is_some() && program("mosquitto_sub").is_some();
    if !found {
        not_tested("mosquitto is not installed: apt install mosquitto mosquitto-clients");
    }
    found
}

/// Where a program is; servers are not in everybody's path.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders
        .map(|folder| folder.join(name))
        .find(|it| it.is_file())
}

impl Broker {
    /// Starts one at this port, with more lines of settings.
    fn start(folder: &Path, port: u16, settings: &str) -> Self {
        let file = folder.join("mosquitto.conf");
        // Root's would become another user, who may not read the folder.
        let user = match rustix::process::geteuid().is_root() {
            true => "user root\n",
            false => "",
        };
        let text = format!("{user}listener {port} 127.0.0.1\npersistence false\n{settings}\n");
        fs::write(&file, text).expect("written");
        let mut command = Command::new(program("mosquitto").expect("looked for before"));
        command.arg("-c").arg(&file);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("mosquitto starts");
        let broker = Self { child, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < PATIENCE, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        broker
    }

    fn open(folder: &Path) -> Self {
        Self::start(folder, free_port(), "allow_anonymous true")
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Listens to everything. What was retained comes first.
    fn listener(&self, folder: &Path, flags: &[&str]) -> Listener {
        fs::create_dir_all(folder).expect("a folder");
        let mut command = Command::new("mosquitto_sub");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command.args(["-t", "#", "-q", "1"]).args(flags);
        command.args(["-F", r#"{"topic":"%t","retained":%r,"payload":"%x"}"#]);
        Listener(Running::start(&mut command, folder))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Listener(Running);

/// A message: its topic and its text.
type Message = (String, String);

impl Listener {
    /// The first so many messages.
    fn messages(&mut self, count: usize) -> Vec<Message> {
        let documents = self.0.documents(count);
        documents.iter().map(message).collect()
    }

    /// Those there are once one of them is this.
    fn until(&mut self, topic: &str, text: impl Fn(&str) -> bool) -> Vec<Message> {
        let mut count = 1;
        loop {
            let messages = self.messages(count);
            let is_it = |message: &Message| message.0 == topic && text(&message.1);
            if messages.iter().any(is_it) {
                return messages;
            }
            count = messages.len() + 1;
        }
    }
}

fn message(document: &Value) -> Message {
    let text = |name: &str| document[name].as_str().expect("text").to_string();
    let hex = text("payload");
    let bytes = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits"));
    let payload = String::from_utf8(bytes.collect()).expect("text");
    (text("topic"), payload)
}

fn photograph(class: &str) -> Vec<u8> {
    let path = demo_samples().join("../test").join(class).join("01.jpg");
    fs::read(path).expect("the demo has test photographs")
}

/// `watch --json` of the demo's head, published to this address.
fn watch(source: &[&str], address: &str) -> Command {
    let mut command = fieldtune();
    command
        .arg("watch")
        .arg(demo_head())
        .arg("--json")
        .args(source);
    command.args(["--mqtt", address, "--mqtt-topic", TOPIC]);
    command
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain")
}

/// The labels of the messages of answers.
fn labels(messages: &[Message]) -> Vec<String> {
    let answers = messages.iter().filter(|(topic, _)| topic == TOPIC);
    answers.map(|(_, answer)| label(answer)).collect()
}

fn label(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).expect("a JSON document");
    answer["label"].as_str().expect("a label").into()
}

/// A pipe that pictures can be put into, and the watch that reads it.
struct Watched {
    pipe: fs::File,
    watch: Running,
}

impl Watched {
    fn start(folder: &Path, address: &str) -> Self {
        let pipe = folder.join("camera.pipe");
        let made = Command::new("mkfifo").arg(&pipe).status().expect("runs");
        assert!(made.success());
        let watch = Running::start(&mut watch(&["--camera", text(&pipe)], address), folder);
        let pipe = OpenOptions::new().read(true).write(true).open(&pipe);
        Self {
            pipe: pipe.expect("opened"),
            watch,
        }
    }

    /// Lets it see a picture, and waits until it has had so many turns.
    fn see(&mut self, class: &str, turns: usize) {
        self.pipe.write_all(&photograph(class)).expect("written");
        self.watch.documents(turns);
    }

    /// The process that publishes.
    fn publisher(&self) -> u32 {
        let own = self.watch.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        let publishes = |process: &u32| {
            let flags = fs::read_to_string(format!("/proc/{process}/cmdline"));
            flags.is_ok_and(|flags| flags.contains("--publish"))
        };
        let children = children.expect("Linux tells children");
        let mut processes = children.split_whitespace().filter_map(|it| it.parse().ok());
        processes.find(publishes).expect("a publisher")
    }
}

#[test]
fn answers_are_published_and_home_assistant_is_told() {
    if !there_is_mosquitto() {
        return;
    }
    let place = tempfile::tempdir().expect("a folder");
    let broker = Broker::open(place.path());
    let mut listener = broker.listener(&place.path().join("listener"), &[]);
    let file = place.path().join("camera.mjpeg");
    fs::write(&file, ["brick", "grass"].map(photograph).concat()).expect("written");
    let command = &mut watch(&["--camera", text(&file)], &broker.address());
    let (code, said, errors) = Running::start(command, place.path()).ended();
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(errors, format!("fieldtune: {}: ended\n", file.display()));
    let messages = listener.until(AVAILABILITY, |text| text == "offline");
    let topics: Vec<&str> = messages.iter().map(|(topic, _)| topic.as_str()).collect();
    let wanted = [LABEL, PROBABILITY, AVAILABILITY, TOPIC, TOPIC, AVAILABILITY];
    assert_eq!(topics, wanted);
    assert_eq!(messages[2].1, "online");
    for ((_, published), said) in messages[3..5].iter().zip(&said) {
        assert_eq!(
            serde_json::from_str::<Value>(published).expect("JSON"),
            *said
        );
    }
    for (topic, text) in &messages[..2] {
        let told: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(told["state_topic"], TOPIC, "{topic}");
        assert_eq!(told["availability_topic"], AVAILABILITY, "{topic}");
        assert_eq!(
            told["device"]["identifiers"][0], "fieldtune_field_pond",
            "{topic}"
        );
        assert!(told["unique_id"].is_string() && told["value_template"].is_string());
    }
    let told: Value = serde_json::from_str(&messages[0].1).expect("JSON");
    let options = serde_json::json!(["brick", "grass", "gravel", "unknown"]);
    assert_eq!(told["options"], options);
    // Who asks later gets the newest of each.
    let mut later = broker.listener(&place.path().join("later"), &["--retained-only"]);
    let messages = later.messages(4);
    assert_eq!(labels(&messages), ["grass"]);
    assert!(messages.contains(&(AVAILABILITY.into(), "offline".into())));
}

#[test]
fn files_of_a_folder_are_published_without_discovery_where_it_is_off() {
    if !there_is_mosquitto() {
        return;
    }
    let place = tempfile::tempdir().expect("a folder");
    let broker = Broker::open(place.path());
    let mut listener = broker.listener(&place.path().join("listener"), &[]);
    let folder = place.path().join("pictures");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("1.jpg"), photograph("gravel")).expect("written");
    let source = [
        text(&folder),
        "--interval",
        "20ms",
        "--mqtt-discovery",
        "off",
    ];
    let command = &mut watch(&source, &broker.address());
    let watch = Running::start(command, place.path());
    let messages = listener.until(TOPIC, |_| true);
    assert_eq!(labels(&messages), ["gravel"]);
    assert!(messages.iter().all(|(topic, _)| topic.starts_with(TOPIC)));
    watch.signal("-TERM");
    listener.until(AVAILABILITY, |text| text == "offline");
    assert_eq!(watch.ended().0, Some(0));
}

#[test]
fn a_broker_is_found_again_and_gets_what_was_said_meanwhile() {
    if !there_is_mosquitto() {
        return;
    }
    let place = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let mut watched = Watched::start(place.path(), &format!("127.0.0.1:{port}"));
    watched.see("gravel", 1);
    watched.watch.says("it is tried again");
    for (turns, classes) in [(1, ["brick", "grass"]), (3, ["grass", "gravel"])] {
        for (turn, class) in classes.iter().enumerate() {
            watched.see(class, turns + turn + 1);
        }
        let folder = place.path().join(turns.to_string());
        fs::create_dir(&folder).expect("a folder");
        let log = folder.join("log");
        let settings = format!(
            "allow_anonymous true\nlog_type all\nlog_dest file {}",
            text(&log)
        );
        let broker = Broker::start(&folder, port, &settings);
        // Of each topic a broker keeps the newest, so the listener may see only that.
        let mut listener = broker.listener(&folder, &[]);
        let messages = listener.until(TOPIC, |answer| label(answer) == classes[1]);
        let is_there = |topic: &str| messages.iter().any(|message| message.0 == topic);
        assert!(is_there(LABEL) && is_there(PROBABILITY));
        assert!(messages.contains(&(AVAILABILITY.into(), "online".into())));
        // The broker got all of them.
        let log = fs::read_to_string(log).expect("a log");
        let came = log.lines().filter(|line| line.contains("Received PUBLISH"));
        let came = came
            .filter(|line| line.contains(&format!("'{TOPIC}'")))
            .count();
        assert_eq!(came, if turns == 1 { 3 } else { 2 }, "{log}");
    }
    let errors = watched.watch.errors();
    let found = format!("MQTT broker 127.0.0.1:{port}: connected");
    assert_eq!(errors.matches(&found).count(), 2, "{errors}");
    assert!(errors.lines().count() < 9, "{errors}");
}

#[test]
fn the_broker_tells_when_the_program_is_gone() {
    if !there_is_mosquitto() {
        return;
    }
    for whole_program in [true, false] {
        let place = tempfile::tempdir().expect("a folder");
        let broker = Broker::open(place.path());
        let mut listener = broker.listener(&place.path().join("listener"), &[]);
        let watched = Watched::start(place.path(), &broker.address());
        listener.until(AVAILABILITY, |text| text == "online");
        let publisher = watched.publisher();
        // As if the power were gone: the publisher says nothing any more.
        let killed = if whole_program {
            watched.watch.child.id()
        } else {
            publisher
        };
        let sent = Command::new("kill")
            .args(["-KILL", &killed.to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
        listener.until(AVAILABILITY, |text| text == "offline");
        drop(watched);
        gone(publisher);
    }
}

#[test]
fn a_broker_with_passwords_takes_the_right_one() {
    if !there_is_mosquitto() {
        return;
    }
    let place = tempfile::tempdir().expect("a folder");
    let passwords = place.path().join("passwords");
    let mut command = Command::new("mosquitto_passwd");
    command
        .args(["-b", "-c"])
        .arg(&passwords)
        .args(["pond", "frogs"]);
    assert!(command.status().expect("mosquitto_passwd runs").success());
    let settings = format!(
        "allow_anonymous false\npassword_file {}",
        passwords.display()
    );
    let broker = Broker::start(place.path(), free_port(), &settings);
    let login = ["-u", "pond", "-P", "frogs"];
    let mut listener = broker.listener(&place.path().join("listener"), &login);
    let pictures = place.path().join("pictures");
    fs::create_dir(&pictures).expect("a folder");
    let secret = place.path().join("secret");
    for (password, is_right) in [("toads", false), ("frogs", true)] {
        fs::write(&secret, format!("{password}\n")).expect("written");
        let folder = place.path().join(password);
        fs::create_dir(&folder).expect("a folder");
        let source = [
            text(&pictures),
            "--mqtt-user",
            "pond",
            "--mqtt-password",
            text(&secret),
        ];
        let mut watch = Running::start(&mut watch(&source, &broker.address()), &folder);
        match is_right {
            true => drop(listener.until(AVAILABILITY, |text| text == "online")),
            false => watch.says("check --mqtt-user and --mqtt-password"),
        }
        watch.signal("-TERM");
        assert_eq!(watch.ended().0, Some(0));
    }
}

#[test]
fn what_is_no_broker_is_refused_before_anything_is_watched() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = text(place.path());
    let missing = place.path().join("nowhere");
    for (flags, code, said) in [
        (&["--mqtt", "mqtt://pond"][..], 2, "give HOST or HOST:PORT"),
        (&["--mqtt", "pond:x"], 2, "give HOST or HOST:PORT"),
        (
            &["--mqtt", "pond", "--mqtt-topic", "a/#"],
            2,
            "--mqtt-topic",
        ),
        (&["--mqtt-topic", "a"], 2, "--mqtt"),
        (
            &[
                "--mqtt",
                "pond",
                "--mqtt-user",
                "a",
                "--mqtt-password",
                text(&missing),
            ],
            3,
            "nowhere",
        ),
    ] {
        let mut command = fieldtune();
        command
            .arg("watch")
            .arg(demo_head())
            .arg(folder)
            .args(flags);
        run(&mut command).refused(code, said);
    }
    if !cfg!(feature = "mqtt") {
        let mut command = fieldtune();
        command
            .arg("watch")
            .arg(demo_head())
            .args([folder, "--mqtt", "pond"]);
        run(&mut command).refused(2, "build it with `--features mqtt`");
    }
    assert_eq!(fs::read_dir(place.path()).expect("there").count(), 0);
}
