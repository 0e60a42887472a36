//! Promise: `watch` labels what a camera, a microphone or a serial line gives, as it comes:
//! with its time, how long the answer took, and how fast answers come. A label is told when
//! enough answers agree. What is not there, ends or vanishes is said. Programs that it started
//! end with it, however it ends.
#![cfg(unix)]

use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use fieldtune_tests::running::{Running, gone};
use fieldtune_tests::sounds::{glide, glides, silence, wav};
use fieldtune_tests::without_pictures::train;
use fieldtune_tests::{demo_head, demo_samples, fieldtune, not_tested, run, scratch};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

fn photograph(class: &str) -> Vec<u8> {
    let path = demo_samples().join("../test").join(class).join("01.jpg");
    fs::read(path).expect("the demo has test photographs")
}

/// Photographs of these classes one behind the other.
fn stream(classes: &[&str]) -> Vec<u8> {
    classes.iter().flat_map(|class| photograph(class)).collect()
}

/// `watch --json`, with the head and more flags.
fn watch(head: &Path, flags: &[&str]) -> Command {
    let mut command = fieldtune();
    command.arg("watch").arg(head).arg("--json").args(flags);
    command
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain")
}

fn labels(documents: &[Value]) -> Vec<&str> {
    let labels = documents.iter().map(|document| document["label"].as_str());
    labels.map(|label| label.expect("a label")).collect()
}

/// A head of recordings that rise or fall.
fn sound_head() -> &'static Path {
    static HEAD: OnceLock<PathBuf> = OnceLock::new();
    HEAD.get_or_init(|| {
        let folder = scratch().join("sound");
        glides(&folder.join("samples"), 8);
        run(&mut train(&folder, "sound.head")).succeeded();
        folder.join("sound.head")
    })
}

/// Rows of two channels, 50 a second: circles of 1 turn a second or 4.
fn motion(quick: bool, rows: std::ops::Range<usize>) -> String {
    let turns = if quick { 4.0 } else { 1.0 };
    let mut text = String::new();
    for row in rows {
        let phase = TAU * turns * 0.02 * row as f64;
        let wild = 0.3 * (row as f64 * 12.9898).sin();
        let (x, y) = (phase.sin() + wild, 30.0 + 0.1 * phase.cos());
        writeln!(text, "{},{x:.4},{y:.5}", 20 * row).expect("written");
    }
    text
}

/// A head of sensor files of a second.
fn motion_head() -> &'static Path {
    static HEAD: OnceLock<PathBuf> = OnceLock::new();
    HEAD.get_or_init(|| {
        let folder = scratch().join("motion");
        for (class, quick) in [("quick", true), ("slow", false)] {
            let class = folder.join("samples").join(class);
            fs::create_dir_all(&class).expect("a folder");
            for number in 0..8 {
                let rows = motion(quick, 37 * number..37 * number + 50);
                let file = class.join(format!("{number}.csv"));
                fs::write(file, format!("time_ms,x,y\n{rows}")).expect("written");
            }
        }
        run(&mut train(&folder, "motion.head")).succeeded();
        folder.join("motion.head")
    })
}

#[test]
fn pictures_of_a_stream_are_labelled_with_their_times() {
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("camera.mjpeg");
    fs::write(&file, stream(&["brick", "grass", "gravel"])).expect("written");
    let command = &mut watch(demo_head(), &["--camera", text(&file)]);
    let (code, documents, errors) = Running::start(command, place.path()).ended();
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(labels(&documents), ["brick", "grass", "gravel"]);
    assert_eq!(errors, format!("fieldtune: {}: ended\n", file.display()));
    for document in &documents {
        assert_eq!(document["file"].as_str(), file.to_str());
        let time = document["time"].as_str().expect("a time");
        assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'));
        assert!(document["latency_ms"].as_f64().expect("a number") > 0.0);
        assert!(document["probabilities"]["grass"].is_number());
    }
    assert!(documents[0]["per_second"].is_null());
    assert!(documents[2]["per_second"].as_f64().expect("a number") > 0.0);
    // For people.
    let mut command = fieldtune();
    command
        .arg("watch")
        .arg(demo_head())
        .args(["--camera", text(&file)]);
    let said = run(&mut command).stdout;
    assert!(said.lines().all(|line| line.ends_with(" ms)")), "{said}");
    assert!(said.contains("mjpeg: brick "), "{said}");
}

#[test]
fn a_picture_has_its_turn_while_the_camera_goes_on() {
    let place = tempfile::tempdir().expect("a folder");
    let pipe = place.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("runs");
    assert!(made.success());
    let flags = ["--camera", text(&pipe), "--interval", "20ms"];
    let mut watching = Running::start(&mut watch(demo_head(), &flags), place.path());
    let mut camera = OpenOptions::new().write(true).open(&pipe).expect("read");
    for (count, class) in ["grass", "brick", "gravel"].into_iter().enumerate() {
        camera.write_all(&photograph(class)).expect("read");
        let said = watching.documents(count + 1);
        assert_eq!(labels(&said).last(), Some(&class));
    }
    // Half a picture is none.
    let picture = photograph("brick");
    let half = &picture[..picture.len() / 2];
    camera.write_all(half).expect("read");
    drop(camera);
    let (code, documents, errors) = watching.ended();
    assert_eq!((code, documents.len()), (Some(0), 3), "{errors}");
}

#[test]
fn a_label_is_told_when_enough_answers_agree() {
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("camera.mjpeg");
    let classes = [
        "brick", "brick", "brick", "brick", "grass", "brick", "grass", "grass", "grass", "brick",
    ];
    fs::write(&file, stream(&classes)).expect("written");
    let flags = ["--camera", text(&file), "--agree", "3"];
    let (code, documents, errors) =
        Running::start(&mut watch(demo_head(), &flags), place.path()).ended();
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(labels(&documents), ["brick", "grass"]);
}

/// A tone that rises, a second of silence, one that falls.
fn sounds() -> Vec<f32> {
    let second = |rises| [silence(0.1), glide(rises, 3, 0.7), silence(0.2)].concat();
    [second(true), silence(1.0), second(false)].concat()
}

#[test]
fn windows_of_sound_are_labelled_and_silence_is_not() {
    let place = tempfile::tempdir().expect("a folder");
    let [whole, bare] = ["sound.wav", "sound.raw"].map(|name| place.path().join(name));
    fs::write(&whole, wav(&sounds())).expect("written");
    fs::write(&bare, &wav(&sounds())[44..]).expect("written");
    let command = format!("cat {}", whole.display());
    for source in [
        ["--microphone", text(&whole)],
        ["--microphone", text(&bare)],
        ["--microphone-command", &command],
    ] {
        let flags = [source[0], source[1], "--window", "1s", "--hop", "1s"];
        let (code, documents, errors) =
            Running::start(&mut watch(sound_head(), &flags), place.path()).ended();
        assert_eq!(code, Some(0), "{errors}");
        assert_eq!(labels(&documents), ["rising", "falling"], "{source:?}");
    }
}

/// A sound card that is a file: ALSA reads it from there.
#[test]
fn a_microphone_is_heard_through_alsa() {
    if Command::new("arecord").arg("--version").output().is_err() {
        return not_tested("a microphone; .ci/install-packages installs arecord (alsa-utils)");
    }
    let place = tempfile::tempdir().expect("a folder");
    let (bare, config) = (
        place.path().join("sound.raw"),
        place.path().join("asound.conf"),
    );
    // It begins anew at its end.
    fs::write(&bare, &wav(&sounds())[44..]).expect("written");
    let card = format!(
        "pcm.card {{ type file slave.pcm {{ type null }} file /dev/null infile \"{}\" format raw }}\n",
        bare.display()
    );
    fs::write(&config, card).expect("written");
    let flags = ["--microphone", "card", "--window", "1s", "--hop", "1s"];
    let mut command = watch(sound_head(), &flags);
    let mut watching = Running::start(command.env("ALSA_CONFIG_PATH", &config), place.path());
    let documents = watching.documents(2);
    assert_eq!(labels(&documents)[0], "rising", "{documents:?}");
    watching.signal("-TERM");
    let (code, _, errors) = watching.ended();
    assert_eq!(code, Some(0), "{errors}");
    // Another card is none, and it is said what ALSA says.
    let flags = ["--microphone", "no-such-card"];
    let mut command = watch(sound_head(), &flags);
    let refused = run(command.env("ALSA_CONFIG_PATH", &config));
    let line = refused.refused(3, "no-such-card: arecord ended");
    assert!(line.contains("here"), "{line}");
}

/// A line whose other end a test holds, at a path that stays the same.
fn serial_port(path: &Path) -> File {
    // What the test starts must not hold the line too.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let line = openpt(flags).expect("a terminal");
    grantpt(&line).expect("granted");
    unlockpt(&line).expect("unlocked");
    let name = ptsname(&line, Vec::new()).expect("a name");
    let _ = fs::remove_file(path);
    symlink(name.to_str().expect("plain"), path).expect("linked");
    File::from(line)
}

#[test]
fn a_sensor_is_labelled_and_found_again_when_it_was_gone() {
    let place = tempfile::tempdir().expect("a folder");
    let port = place.path().join("ttyACM0");
    let mut device = serial_port(&port);
    let flags = ["--serial", text(&port), "--baud", "9600"];
    let mut watching = Running::start(&mut watch(motion_head(), &flags), place.path());
    let opened = || {
        let name = fs::canonicalize(&port).expect("there");
        fs::read_dir("/proc")
            .expect("processes")
            .flatten()
            .any(|process| {
                let files = fs::read_dir(process.path().join("fd")).into_iter();
                files
                    .flatten()
                    .flatten()
                    .any(|file| fs::read_link(file.path()).is_ok_and(|it| it == name))
            })
    };
    let wait = || {
        while !opened() {
            std::thread::sleep(std::time::Duration::from_millis(10))
        }
    };
    wait();
    // Opening the port empties it: what is sent comes a moment later.
    let send = |device: &mut File, text: String| {
        for line in text.lines() {
            writeln!(device, "{line}").expect("the line holds");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    };
    std::thread::sleep(std::time::Duration::from_millis(300));
    send(
        &mut device,
        format!("time_ms,x,y\n{}", motion(true, 0..120)),
    );
    let said = watching.documents(2);
    assert_eq!(labels(&said)[..2], ["quick", "quick"]);
    drop(device);
    watching.says("trying again in 1 s");
    let mut device = serial_port(&port);
    wait();
    std::thread::sleep(std::time::Duration::from_millis(300));
    // It was not switched off: it does not name its columns again.
    send(&mut device, motion(false, 900..960));
    let said = watching.documents(3);
    assert_eq!(labels(&said)[2], "slow");
    watching.signal("-INT");
    let (code, documents, errors) = watching.ended();
    assert_eq!((code, documents.len()), (Some(0), 3), "{errors}");
    assert!(errors.contains("is gone"), "{errors}");
}

#[test]
fn lines_of_a_file_are_read_to_their_end_and_others_refused() {
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("log.csv");
    let rows = motion(true, 0..50) + &motion(false, 50..100);
    fs::write(&file, format!("time_ms,x,y\nnoise\n{rows}")).expect("written");
    let flags = ["--serial", text(&file)];
    let (code, documents, errors) =
        Running::start(&mut watch(motion_head(), &flags), place.path()).ended();
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(labels(&documents), ["quick", "slow"]);
    assert!(errors.contains("a line is passed over"), "{errors}");
    fs::write(&file, "time_ms,x,z\n1,2,3\n").expect("written");
    let other = run(&mut watch(motion_head(), &flags));
    other.refused(5, "has the columns time_ms,x,z");
    let flags = ["--serial", text(&file), "--columns", "a,b"];
    run(&mut watch(motion_head(), &flags)).refused(5, "the head was trained on x, y");
}

#[test]
fn a_source_of_another_kind_is_a_mismatch() {
    for (head, flags, wanted) in [
        (demo_head(), ["--microphone", "default"], "give --camera"),
        (
            sound_head(),
            ["--camera", "/dev/video9"],
            "give --microphone",
        ),
        (motion_head(), ["--camera-command", "cat"], "give --serial"),
    ] {
        run(&mut watch(head, &flags)).refused(5, wanted);
    }
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    for (head, flags) in [
        (demo_head(), ["--camera", "/dev/video99"]),
        (motion_head(), ["--serial", "/dev/ttyUSB99"]),
        (sound_head(), ["--microphone", "/nowhere/sound"]),
    ] {
        let refused = run(&mut watch(head, &flags));
        let line = refused.refused(3, "does not exist; ");
        assert!(line.contains(" here"), "{line}");
    }
    for (head, flags, package) in [
        (
            demo_head(),
            ["--camera", "pi"],
            "Debian package rpicam-apps",
        ),
        (
            sound_head(),
            ["--microphone", "default"],
            "Debian package alsa-utils",
        ),
        (
            demo_head(),
            ["--camera-command", "no-such-program -x"],
            "is no program here",
        ),
    ] {
        run(watch(head, &flags).env("PATH", "/nowhere")).refused(1, package);
    }
    let flags = ["--camera-command", "false"];
    run(&mut watch(demo_head(), &flags)).refused(3, "false ended (exit status: 1)");
    // Exactly one source.
    run(&mut watch(demo_head(), &[])).refused(2, "required");
    let both = ["--camera", "pi", "--serial", "x"];
    run(&mut watch(demo_head(), &both)).refused(2, "cannot be used with");
    let both = ["folder", "--agree", "3"];
    run(&mut watch(demo_head(), &both)).refused(2, "cannot be used with");
}

/// A program that writes a picture and its number as a process, and goes on.
fn camera_that_goes_on(place: &Path, after: &str) -> String {
    let (picture, script) = (place.join("picture"), place.join("camera.sh"));
    fs::write(&picture, photograph("brick")).expect("written");
    let text = format!(
        "echo $$ > {pid}\ncat {picture}\n{after}\n",
        pid = place.join("pid").display(),
        picture = picture.display()
    );
    fs::write(&script, text).expect("written");
    format!("sh {}", script.display())
}

#[test]
fn programs_end_with_the_watch_however_it_ends() {
    for signal in ["-TERM", "-KILL"] {
        let place = tempfile::tempdir().expect("a folder");
        let camera = camera_that_goes_on(place.path(), "exec sleep 1000");
        let flags = ["--camera-command", camera.as_str()];
        let mut watching = Running::start(&mut watch(demo_head(), &flags), place.path());
        watching.documents(1);
        let process = fs::read_to_string(place.path().join("pid")).expect("a number");
        let process = process.trim().parse().expect("a number");
        // What looks at the pictures can gain no rights.
        let status = fs::read_to_string(format!("/proc/{}/status", watching.child.id()));
        assert!(status.expect("at work").contains("NoNewPrivs:\t1"));
        watching.signal(signal);
        let (code, _, errors) = watching.ended();
        assert_eq!(code, (signal == "-TERM").then_some(0), "{errors}");
        assert_eq!(errors, "");
        gone(process);
    }
}

#[test]
fn a_program_that_fails_later_is_started_again() {
    let place = tempfile::tempdir().expect("a folder");
    let camera = camera_that_goes_on(place.path(), "echo unplugged >&2; exit 7");
    let flags = ["--camera-command", camera.as_str(), "--interval", "1ms"];
    let mut watching = Running::start(&mut watch(demo_head(), &flags), place.path());
    assert_eq!(labels(&watching.documents(2)), ["brick", "brick"]);
    watching.says("sh ended (exit status: 7): unplugged; trying again in 1 s");
    watching.signal("-TERM");
    assert_eq!(watching.ended().0, Some(0));
}
