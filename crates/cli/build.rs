//! Lists the demo's samples, so that the program can carry them: `TRAIN` and `TEST`,
//! pairs of CLASS/FILE and content.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=demo");
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("demo");
    let mut source = String::new();
    for (name, folder) in [("TRAIN", "train"), ("TEST", "test")] {
        source += &format!("static {name}: &[Bundled] = &[\n");
        for (file, path) in images(&root.join(folder))? {
            source += &format!("    ({file:?}, include_bytes!({path:?})),\n");
        }
        source += "];\n";
    }
    fs::write(
        PathBuf::from(variable("OUT_DIR")?).join("demo_samples.rs"),
        source,
    )
}

fn variable(name: &str) -> io::Result<String> {
    std::env::var(name).map_err(io::Error::other)
}

/// Every image below `folder` as (CLASS/FILE, full path), in order.
fn images(folder: &Path) -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for class in fs::read_dir(folder)? {
        let class = class?;
        for file in fs::read_dir(class.path())? {
            let file = file?;
            let [class, name] =
                [class.file_name(), file.file_name()].map(|n| n.display().to_string());
            found.push((format!("{class}/{name}"), file.path().display().to_string()));
        }
    }
    found.sort();
    Ok(found)
}
