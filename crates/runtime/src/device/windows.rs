//! Windows of a sensor in `.csv` files: a column a channel, a row a point in time. A folder
//! has one sub-folder a class; longer recordings are cut into windows.

use std::path::Path;

use fieldtune_core::sensor::Window;

use crate::backbone::Identity;
use crate::error::{Error, ErrorKind, Result};
use crate::store;

/// Largest file read, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Labelled windows of one shape.
pub struct Windows {
    /// The shape of each.
    pub shape: Window,
    /// Names of the classes, sorted by bytes.
    pub labels: Vec<String>,
    /// Values `[channels, length]` and index of the label, in the order of the files.
    pub rows: Vec<(Vec<f32>, usize)>,
}

/// Whose features a window's are: the place of the backbone in a head file.
pub fn identity(shape: &Window) -> Identity {
    Identity {
        name: "sensor".into(),
        sha256: [0; 32],
        cut: "features".into(),
        features: shape.features(),
        preprocessing: shape.to_string(),
    }
}

/// Reads all windows below `folder`, of `length` values a channel.
///
/// # Errors
/// `BadInput`, naming the file, when one cannot be read or has other channels than the
/// first; `Usage` for a length that cannot be computed.
pub fn read_folder(folder: &Path, length: usize) -> Result<Windows> {
    let mut classes: Vec<_> = entries(folder)?
        .into_iter()
        .filter(|it| it.is_dir())
        .collect();
    classes.sort();
    let mut found: Option<Windows> = None;
    for class in &classes {
        let name = class.file_name().unwrap_or_default().to_string_lossy();
        let mut files = entries(class)?;
        files.retain(|file| {
            file.extension()
                .is_some_and(|it| it.eq_ignore_ascii_case("csv"))
        });
        files.sort();
        for (index, file) in files.iter().enumerate() {
            let (shape, windows) = read(file, length)?;
            let found = found.get_or_insert_with(|| Windows {
                shape,
                labels: Vec::new(),
                rows: Vec::new(),
            });
            require_channels(file, &shape, &found.shape)?;
            if index == 0 {
                found.labels.push(name.clone().into_owned());
            }
            let label = found.labels.len() - 1;
            found
                .rows
                .extend(windows.into_iter().map(|window| (window, label)));
        }
    }
    match found {
        Some(found) if found.labels.len() >= 2 => Ok(found),
        _ => {
            let what = "holds .csv files of fewer than two classes";
            let remedy = "give a folder with one sub-folder a class, holding .csv files";
            Err(Error::at(ErrorKind::BadInput, folder, what, remedy))
        }
    }
}

/// Whether `file` has the channels that are expected.
///
/// # Errors
/// `Mismatch` when not.
pub fn require_channels(file: &Path, found: &Window, wanted: &Window) -> Result<()> {
    if found.channels == wanted.channels {
        return Ok(());
    }
    let what = format_args!("has {} columns, not {}", found.channels, wanted.channels);
    let remedy = "give files with one column a channel, all of the same sensor";
    Err(Error::at(ErrorKind::Mismatch, file, what, remedy))
}

/// The windows of one file, one after another; what is left at its end is dropped.
///
/// # Errors
/// As [`read_folder`].
pub fn read(file: &Path, length: usize) -> Result<(Window, Vec<Vec<f32>>)> {
    let bytes = store::read(file, MAX_FILE_BYTES)?;
    let wrong = |what: &dyn std::fmt::Display| {
        let remedy = "write one row a point in time, numbers with commas between them";
        Error::at(ErrorKind::BadInput, file, what, remedy)
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_reader(bytes.as_slice());
    let mut times: Vec<Vec<f32>> = Vec::new();
    for (row, record) in reader.records().enumerate() {
        let record = record.map_err(|error| wrong(&error))?;
        let numbers = record.iter().map(str::parse::<f32>).collect();
        let numbers: std::result::Result<Vec<f32>, _> = numbers;
        match numbers {
            Ok(numbers) if numbers.iter().all(|number| number.is_finite()) => times.push(numbers),
            // The names of the columns.
            Err(_) if row == 0 => {}
            _ => return Err(wrong(&format_args!("row {} has no number", row + 1))),
        }
    }
    let channels = times.first().map_or(0, Vec::len);
    let shape = Window::new(channels, length).map_err(|_| {
        let what = format_args!(
            "{channels} channels of {length} values cannot be a window: 1 to 16 channels of 16, 32, 64, 128, 256 or 512 values can"
        );
        Error::at(ErrorKind::Usage, file, what, "choose another --window")
    })?;
    let windows: Vec<Vec<f32>> = times
        .chunks_exact(length)
        .map(|times| {
            let channel = |channel: usize| times.iter().map(move |values| values[channel]);
            (0..channels).flat_map(channel).collect()
        })
        .collect();
    if windows.is_empty() {
        return Err(wrong(&format_args!(
            "has {} rows, a window {length}",
            times.len()
        )));
    }
    Ok((shape, windows))
}

fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let failed = |error: std::io::Error| {
        let remedy = "give a folder with one sub-folder a class";
        Error::at(ErrorKind::BadInput, folder, error, remedy)
    };
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    entries
        .map(|entry| Ok(entry.map_err(failed)?.path()))
        .collect()
}
