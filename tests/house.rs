//! Promise: the house stands as it was drawn. Rooms depend on lower rooms only
//! (kernels <- core <- runtime <- cli), unsafe code and tract stay in their
//! room, and the top level holds what it should and nothing else.
//!
//! Not here: what the code computes.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fieldtune_tests::not_tested;
use serde_json::Value;

type Outcome = Result<(), Box<dyn Error>>;

/// The rooms from the lowest to the highest. Each may use those before it.
const ROOMS: [&str; 4] = [
    "fieldtune-kernels",
    "fieldtune-core",
    "fieldtune",
    "fieldtune-cli",
];

/// Programs for boards below `targets/`, with the rooms and programs that each may use:
/// nothing that needs an operating system. No room may use them.
const PROGRAMS: [(&str, &[&str]); 3] = [
    ("fieldtune-reproducible", &["fieldtune-core"]),
    ("fieldtune-firmware", &["fieldtune-core"]),
    (
        "fieldtune-cortex-m",
        &["fieldtune-core", "fieldtune-reproducible"],
    ),
];

/// Packages that may use every room. Nothing may use them.
const ONLOOKERS: [&str; 2] = ["fieldtune-tests", "fieldtune-benches"];

const TOP_LEVEL: [&str; 8] = [
    "Cargo.toml",
    "README.md",
    "benches",
    "crates",
    "fuzz",
    "models",
    "targets",
    "tests",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The workspace's packages, as cargo describes them.
fn packages() -> Result<Vec<Value>, Box<dyn Error>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root())
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    Ok(packages.clone())
}

fn package(name: &str) -> Result<Value, Box<dyn Error>> {
    packages()?
        .into_iter()
        .find(|package| package["name"] == name)
        .ok_or_else(|| format!("no package {name} in the workspace").into())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Dependencies of every kind: normal, development and build.
fn dependencies(package: &Value) -> impl Iterator<Item = &Value> {
    package["dependencies"].as_array().into_iter().flatten()
}

/// What `name` may use of this workspace; `None` when the house has no such room.
fn allowed(name: &str) -> Option<&'static [&'static str]> {
    if ONLOOKERS.contains(&name) {
        return Some(&ROOMS);
    }
    if let Some((_, used)) = PROGRAMS.iter().find(|(program, _)| *program == name) {
        return Some(used);
    }
    let room = ROOMS.iter().position(|room| *room == name)?;
    ROOMS.get(..room)
}

/// All `.rs` files of the workspace, relative to its root.
fn sources() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let root = root();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["crates", "tests", "benches", "targets", "fuzz"]
        .map(|folder| root.join(folder))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(&root)?.to_path_buf());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The identifiers of one line. Texts in quotes and comments after code count
/// too: telling them apart takes a parser, and a wrong guess would hide code.
fn identifiers(line: &str) -> impl Iterator<Item = &str> {
    let code = if line.trim_start().starts_with("//") {
        ""
    } else {
        line
    };
    // A hyphen joins: a page's 'unsafe-inline' is no Rust. As a sign it comes first.
    code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-')
        .map(|word| word.trim_start_matches('-'))
}

/// Files with an identifier that `wanted` accepts, without those that `may`.
fn offenders(
    wanted: impl Fn(&str) -> bool,
    may: impl Fn(&Path) -> bool,
) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for source in sources()? {
        let code = fs::read_to_string(root().join(&source))?;
        // This file must name what it forbids.
        let judged = source != Path::new("tests/house.rs") && !may(&source);
        if judged && code.lines().flat_map(identifiers).any(&wanted) {
            found.push(source);
        }
    }
    Ok(found)
}

#[test]
fn dependencies_point_down_only() -> Outcome {
    let packages = packages()?;
    let names: Vec<&str> = packages.iter().map(|it| text(it, "name")).collect();
    let programs = PROGRAMS.iter().map(|(program, _)| program);
    for room in ROOMS.iter().chain(&ONLOOKERS).chain(programs) {
        assert!(names.contains(room), "{room} is not in the workspace");
    }
    for package in &packages {
        let name = text(package, "name");
        let allowed = allowed(name).ok_or_else(|| {
            format!("{name} has no room: say in tests/house.rs what it may depend on")
        })?;
        for dependency in dependencies(package) {
            let used = text(dependency, "name");
            if names.contains(&used) {
                assert!(allowed.contains(&used), "{name} must not use {used}");
            }
        }
    }
    Ok(())
}

#[test]
fn unsafe_code_is_in_kernels_only() -> Outcome {
    // Asking an allocator to count takes `unsafe impl GlobalAlloc`; registers of a
    // microcontroller and symbols of its linker have no safe form.
    let may = |file: &Path| {
        let others = [
            "tests/no_allocation.rs",
            "tests/images.rs",
            "targets/cortex-m/firmware/src/board.rs",
        ];
        file.starts_with("crates/kernels") || others.iter().any(|it| file == Path::new(it))
    };
    let found = offenders(|word| word == "unsafe", may)?;
    assert!(found.is_empty(), "unsafe code outside kernels: {found:?}");
    for crate_root in [
        "crates/core/src/lib.rs",
        "crates/runtime/src/lib.rs",
        "crates/cli/src/main.rs",
        "targets/reproducible/src/lib.rs",
    ] {
        let code = fs::read_to_string(root().join(crate_root))?;
        assert!(
            code.lines().any(|line| line == "#![forbid(unsafe_code)]"),
            "{crate_root} does not forbid unsafe_code"
        );
    }
    Ok(())
}

#[test]
fn one_file_names_tract() -> Outcome {
    let may = |file: &Path| {
        file.starts_with("crates/runtime/src/backbone")
            || file == Path::new("crates/runtime/src/backbone.rs")
    };
    let found = offenders(|word| word.starts_with("tract_"), may)?;
    assert!(
        found.is_empty(),
        "tract outside backbone.rs and its modules: {found:?}"
    );
    for package in packages()? {
        let name = text(&package, "name");
        let tract = dependencies(&package).any(|it| text(it, "name").starts_with("tract"));
        assert_eq!(
            tract,
            name == "fieldtune",
            "{name}: depends on tract: {tract}"
        );
    }
    Ok(())
}

#[test]
fn core_and_kernels_run_without_an_operating_system() -> Outcome {
    for file in [
        "crates/core/src/lib.rs",
        "crates/kernels/src/lib.rs",
        "targets/reproducible/src/lib.rs",
    ] {
        let code = fs::read_to_string(root().join(file))?;
        let no_std = code.lines().any(|line| line == "#![no_std]");
        assert!(no_std, "{file} has no #![no_std]");
    }
    let core = package("fieldtune-core")?;
    let features = core["features"].as_object().ok_or("no features table")?;
    assert!(features.is_empty(), "core has features: {features:?}");
    for dependency in dependencies(&package("fieldtune-kernels")?) {
        let name = text(dependency, "name");
        let harmless = dependency["optional"] == true || dependency["kind"] == "dev";
        assert!(harmless, "kernels requires {name}");
    }
    Ok(())
}

#[test]
fn top_level_holds_what_it_should() -> Outcome {
    for name in TOP_LEVEL {
        assert!(root().join(name).exists(), "{name} is missing");
    }
    // Only what is committed counts: a user's own folders may lie beside it.
    let listing = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output();
    let Some(listing) = listing.ok().filter(|output| output.status.success()) else {
        not_tested("what else the top level holds; this is no git checkout");
        return Ok(());
    };
    for file in String::from_utf8(listing.stdout)?.split_terminator('\0') {
        let name = file.split('/').next().unwrap_or(file);
        let expected = TOP_LEVEL.contains(&name)
            || name == "Cargo.lock"
            || name.starts_with("LICENSE-")
            || name.starts_with('.');
        assert!(expected, "{name} does not belong at the top level");
    }
    Ok(())
}
