//! Promise: real motions of a body, 5 files each of four kinds, are told apart. The data is
//! that of the set BasicMotions, which is not part of the repository: the bench `motion`
//! writes it into the build folder.

use std::fs;

use fieldtune_tests::{fieldtune, not_tested, repository, run};
use tempfile::tempdir;

#[test]
fn motions_are_told_apart() {
    let data = repository().join("target/motion/data/BasicMotions");
    if !data.exists() {
        not_tested("target/motion/data is absent; `cargo bench --bench motion` writes it");
        return;
    }
    let folder = tempdir().expect("a folder");
    let list = folder.path().join("list.csv");
    let mut lines = String::from("path,label\n");
    for class in fs::read_dir(data.join("train")).expect("classes") {
        let class = class.expect("a class");
        let files = fs::read_dir(class.path()).expect("files");
        let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        files.sort();
        let label = class.file_name();
        for file in files.iter().take(5) {
            lines += &format!("{},{}\n", file.display(), label.display());
        }
    }
    fs::write(&list, lines).expect("written");
    let head = folder.path().join("motions.head");
    let mut command = fieldtune();
    command
        .args(["train", "--json"])
        .arg(&list)
        .arg("-o")
        .arg(&head);
    assert_eq!(run(&mut command).json()["samples"], 20);
    let mut command = fieldtune();
    let measured = run(command
        .args(["eval", "--json"])
        .arg(&head)
        .arg(data.join("test")))
    .json();
    println!("accuracy {}", measured["accuracy"]);
    assert_eq!(measured["n"], 40, "{measured}");
    // Chance is 0.25.
    assert!(measured["accuracy"].as_f64() >= Some(0.95), "{measured}");
}
