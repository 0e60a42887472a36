//! A `.csv` file of a sensor: a first line with the names of the columns, then a row a point
//! in time. One column may be the time; all others are channels. Whatever is wrong is told
//! with its line.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result, is_hostile};

/// Most rows of a file.
pub const MAX_ROWS: usize = 1 << 22;
/// Most channels.
pub const MAX_CHANNELS: usize = 1024;
/// Longest name of a column, in bytes.
pub const MAX_NAME_BYTES: usize = 100;
/// Most values of a file.
pub const MAX_VALUES: usize = 1 << 24;
/// Longest piece of a file that a message quotes, in characters.
const QUOTED: usize = 20;

/// Names of a column of times, in lower case, and how long their unit is in seconds.
const TIMES: [(&str, f64); 10] = [
    ("time", 1.0),
    ("t", 1.0),
    ("timestamp", 1.0),
    ("seconds", 1.0),
    ("time_s", 1.0),
    ("time_ms", 1e-3),
    ("milliseconds", 1e-3),
    ("ms", 1e-3),
    ("time_us", 1e-6),
    ("microseconds", 1e-6),
];

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Names of the channels, in the file's order.
    pub channels: Vec<String>,
    /// Times of the rows in seconds, rising; `None` without a column of times.
    pub times: Option<Vec<f64>>,
    /// Values of each channel, all of as many rows.
    pub values: Vec<Vec<f32>>,
}

impl Table {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }

    /// The channels of these names, in this order.
    ///
    /// # Errors
    /// `BadInput`, naming `path`, when the file has others.
    pub fn in_order(mut self, names: &[String], path: &Path) -> Result<Self> {
        if self.channels == names {
            return Ok(self);
        }
        let place = |name: &String| self.channels.iter().position(|known| known == name);
        let places: Option<Vec<usize>> = names.iter().map(place).collect();
        let Some(places) = places.filter(|_| names.len() == self.channels.len()) else {
            let what = format_args!(
                "line 1: has the channels {}, the others have {}",
                listed(&self.channels),
                listed(names)
            );
            return Err(bad(path, what, "give files with the same columns"));
        };
        let mut taken = places.into_iter();
        let mut values: Vec<Vec<f32>> = Vec::with_capacity(names.len());
        // Names differ from each other, so no place comes twice.
        values.extend(
            taken
                .by_ref()
                .map(|place| std::mem::take(&mut self.values[place])),
        );
        Ok(Self {
            channels: names.to_vec(),
            values,
            times: self.times,
        })
    }
}

/// "x, y, z", or the first few and how many more.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 6;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn bad(path: &Path, what: impl std::fmt::Display, remedy: &str) -> Error {
    Error::at(ErrorKind::BadInput, path, what, remedy)
}

/// Reads a file's bytes; `path` is for messages.
///
/// # Errors
/// `BadInput`, naming the file, the line and what to do: no text, no header, no rows, columns
/// without or with the same name, a cell that is no finite number, a row of another number of
/// cells, times that do not rise, more than [`MAX_ROWS`], [`MAX_CHANNELS`] or [`MAX_VALUES`].
pub fn parse(bytes: &[u8], path: &Path) -> Result<Table> {
    let text = text_of(bytes, path)?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(text))
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let header = reader
        .headers()
        .map_err(|error| bad(path, format_args!("line 1: {error}"), "correct that line"))?
        .clone();
    let mut columns = Columns::of(&header, path)?;
    let mut record = csv::StringRecord::new();
    loop {
        let more = reader.read_record(&mut record).map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            bad(
                path,
                format_args!("line {line}: {error}"),
                "correct that line",
            )
        })?;
        if !more {
            break;
        }
        let line = record.position().map_or(0, |start| line(text, start));
        columns.take(&record, line, path)?;
    }
    let table = columns.table;
    if table.rows() == 0 {
        let what = "has a first line but no rows";
        return Err(bad(path, what, "record it again or remove it"));
    }
    Ok(table)
}

/// The text without a byte order mark.
fn text_of<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a str> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(bad(path, "is empty", "record it again or remove it"));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(bad(path, "is UTF-16 text", "save it as UTF-8"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        let what = format_args!("line {line}: is not UTF-8 text");
        bad(
            path,
            what,
            "save it as UTF-8 with commas between the columns",
        )
    })
}

/// What stands between the columns, by the first line: a comma unless there is none.
pub(crate) fn delimiter(text: &str) -> u8 {
    let first = text.trim_start().lines().next().unwrap_or_default();
    let others = [b';', b'\t'];
    let other = others
        .into_iter()
        .find(|it| first.contains(char::from(*it)));
    match other {
        Some(other) if !first.contains(',') => other,
        _ => b',',
    }
}

/// The line of a record, whose start lies before the empty lines in front of it.
fn line(text: &str, start: &csv::Position) -> u64 {
    let from = usize::try_from(start.byte()).unwrap_or(usize::MAX);
    let rest = text.as_bytes().get(from..).unwrap_or_default();
    let ends = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    start.line() + ends.filter(|byte| **byte == b'\n').count() as u64
}

/// The start of a piece of a file, for a message.
fn quoted(text: &str) -> String {
    let start: String = text.chars().take(QUOTED).collect();
    let more = if text.chars().count() > QUOTED {
        "..."
    } else {
        ""
    };
    format!("\"{start}{more}\"")
}

/// The unit in seconds of a column of times; `None` for the name of a channel.
pub(crate) fn time_unit(name: &str) -> Option<f64> {
    let mut known = TIMES.iter();
    let known = known.find(|(time, _)| name.eq_ignore_ascii_case(time));
    known.map(|(_, unit)| *unit)
}

/// A table that grows.
struct Columns {
    /// The column of times, and its unit in seconds.
    time: Option<(usize, f64)>,
    names: Vec<String>,
    table: Table,
}

impl Columns {
    fn of(header: &csv::StringRecord, path: &Path) -> Result<Self> {
        const REMEDY: &str = "begin with a line that names each column, such as time,x,y,z";
        let wrong =
            |what: &dyn std::fmt::Display| bad(path, format_args!("line 1: {what}"), REMEDY);
        let names: Vec<String> = header.iter().map(str::to_string).collect();
        if names.iter().any(|name| name.parse::<f64>().is_ok()) {
            return Err(wrong(&"has a number where the name of a column should be"));
        }
        for (index, name) in names.iter().enumerate() {
            if name.is_empty() {
                return Err(wrong(&format_args!("column {} has no name", index + 1)));
            }
            if name.len() > MAX_NAME_BYTES || name.chars().any(is_hostile) {
                let what = format_args!("{} is no name for a column", quoted(name));
                return Err(wrong(&what));
            }
            if names[..index].contains(name) {
                return Err(wrong(&format_args!(
                    "two columns are named {}",
                    quoted(name)
                )));
            }
        }
        let time = names.iter().enumerate();
        let mut time = time.filter_map(|(index, name)| Some((index, time_unit(name)?)));
        let (time, second) = (time.next(), time.next());
        if second.is_some() {
            return Err(wrong(&"two columns are times"));
        }
        let is_channel = |index: &usize| time.is_none_or(|(time, _)| time != *index);
        let places: Vec<usize> = (0..names.len()).filter(is_channel).collect();
        if places.is_empty() || places.len() > MAX_CHANNELS {
            let what = format_args!(
                "names {} channels, must be 1 to {MAX_CHANNELS}",
                places.len()
            );
            return Err(wrong(&what));
        }
        let channels = places.iter().map(|place| names[*place].clone()).collect();
        Ok(Self {
            time,
            table: Table {
                channels,
                times: time.map(|_| Vec::new()),
                values: vec![Vec::new(); places.len()],
            },
            names,
        })
    }

    /// Adds a row.
    fn take(&mut self, record: &csv::StringRecord, line: u64, path: &Path) -> Result<()> {
        let wrong = |what: &dyn std::fmt::Display, remedy: &str| {
            bad(path, format_args!("line {line}: {what}"), remedy)
        };
        if record.len() != self.names.len() {
            let (have, need) = (record.len(), self.names.len());
            let what = format_args!("has {have} columns, the first line has {need}");
            return Err(wrong(&what, "correct that line"));
        }
        let rows = self.table.rows() + 1;
        if rows > MAX_ROWS || rows.saturating_mul(self.table.values.len()) > MAX_VALUES {
            let what = format_args!("is too long: at most {MAX_ROWS} rows and {MAX_VALUES} values");
            return Err(wrong(&what, "cut the file into several"));
        }
        let mut values = self.table.values.iter_mut();
        for (index, cell) in record.iter().enumerate() {
            let number = number(cell).map_err(|what| {
                let what = format_args!("column {}: {what}", quoted(&self.names[index]));
                wrong(&what, "correct that cell or remove the row")
            })?;
            match (self.time, &mut self.table.times) {
                (Some((place, unit)), Some(times)) if place == index => {
                    let time = number * unit;
                    if let Some(last) = times.last().filter(|last| **last >= time) {
                        let what = format_args!(
                            "the time {time} s does not come after {last} s of the row before"
                        );
                        return Err(wrong(&what, "sort the rows by time, each time once"));
                    }
                    times.push(time);
                }
                _ => {
                    if let Some(values) = values.next() {
                        values.push(number as f32);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The number in a cell, which f32 can hold, or what is wrong with it.
pub(crate) fn number(cell: &str) -> std::result::Result<f64, String> {
    if cell.is_empty() {
        return Err("the cell is empty".into());
    }
    let number: f64 = cell
        .parse()
        .map_err(|_| format!("{} is not a number", quoted(cell)))?;
    if !(number as f32).is_finite() {
        return Err(format!("{} is not a finite number", quoted(cell)));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> std::result::Result<Table, String> {
        parse(text.as_bytes(), Path::new("a.csv")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_table_is_read_with_or_without_times() {
        let table = read("x, Time_ms ,y\n1,0,4\n\n2,20,5e-1\n").unwrap();
        assert_eq!(table.channels, ["x", "y"]);
        assert_eq!(table.times, Some(vec![0.0, 0.02]));
        assert_eq!(table.values, [[1.0, 2.0], [4.0, 0.5]]);
        let table = read("\u{feff}x;y\r\n1;-2\r\n").unwrap();
        assert_eq!((table.times.clone(), table.rows()), (None, 1));
        let names = ["y".to_string(), "x".to_string()];
        let table = table.in_order(&names, Path::new("a.csv")).unwrap();
        assert_eq!(table.values, [[-2.0], [1.0]]);
        let other = ["y".to_string(), "z".to_string()];
        let line = table.in_order(&other, Path::new("a.csv")).unwrap_err();
        assert!(line.to_string().contains("the others have y, z"), "{line}");
    }

    #[test]
    fn columns_are_told_apart() {
        for wrong in [
            "x,x\n1,2\n",
            "x,\n1,2\n",
            "1,2\n3,4\n",
            "time\n1\n",
            "t,time,x\n1,2,3\n",
        ] {
            let line = read(wrong).unwrap_err();
            assert!(line.starts_with("a.csv: line 1: "), "{line}");
        }
    }
}
