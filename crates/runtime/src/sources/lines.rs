//! Windows of a sensor's values out of lines: a line that names the columns, then a row a
//! point in time. Each window becomes a `.csv` file. A line that is no row is passed over;
//! rows without a time get that of their arrival where times are wanted.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::splitter::{Found, Splitter};
use crate::error::{Error, ErrorKind, Result};
use crate::series::table;

/// Longest line, in bytes; more of it is passed over.
pub const MAX_LINE_BYTES: usize = 16 << 10;
/// Largest window, in bytes.
pub const MAX_WINDOW_BYTES: usize = 16 << 20;
/// Lines of numbers without one that names the columns before it.
const MAX_NAMELESS: usize = 20;
/// How a column of times of arrival is called.
const TIME: &str = "time";

/// How long a window is and how far one lies from the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Extent {
    /// In rows: there are no times.
    Rows {
        /// Of a window.
        window: usize,
        /// From one to the next.
        hop: usize,
    },
    /// In time.
    Seconds {
        /// From the first row of a window to its last.
        window: f64,
        /// From one to the next.
        hop: f64,
        /// How much longer or shorter a window may be, since times are uneven.
        slack: f64,
    },
}

/// What a head was trained on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Names, without that of times.
    pub channels: Vec<String>,
    /// Whether there is a column of times.
    pub timed: bool,
}

/// What windows are wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Their length and distance.
    pub extent: Extent,
    /// The line that names the columns, where the stream has none.
    pub header: Option<String>,
    /// The columns that a head needs; `None` for any.
    pub columns: Option<Columns>,
}

/// What the stream's columns are.
#[derive(Debug)]
struct Header {
    line: String,
    delimiter: char,
    cells: usize,
    /// The column of times and its unit in seconds.
    time: Option<(usize, f64)>,
}

/// A row of the window.
#[derive(Debug)]
struct Row {
    seconds: f64,
    line: String,
}

/// Cuts rows into windows.
pub struct Lines {
    /// For messages.
    name: PathBuf,
    wanted: Wanted,
    header: Option<Header>,
    /// The start of a line whose end did not come yet.
    partial: Vec<u8>,
    /// Whether its rest is passed over: it is too long, or its start was not seen.
    skipping: bool,
    /// Lines of numbers before a header.
    nameless: usize,
    /// Whether the last line was passed over too: that is told once.
    told: bool,
    rows: VecDeque<Row>,
    rows_bytes: usize,
    /// When the first row came since the stream began or was cleared.
    start_seconds: f64,
    /// Seconds or rows at the end of the last window.
    last_end: Option<f64>,
    /// Rows so far.
    count: usize,
    /// Times of arrival count from here.
    epoch: Instant,
    /// The last of them.
    arrived_seconds: f64,
}

impl Lines {
    /// For a stream of this name.
    ///
    /// # Errors
    /// `Usage` when the given header names no columns; `Mismatch` when they are not the
    /// head's.
    pub fn new(name: PathBuf, wanted: Wanted) -> Result<Self> {
        let mut lines = Self {
            name,
            header: None,
            partial: Vec::new(),
            skipping: false,
            nameless: 0,
            told: false,
            rows: VecDeque::new(),
            rows_bytes: 0,
            start_seconds: 0.0,
            last_end: None,
            count: 0,
            epoch: Instant::now(),
            arrived_seconds: 0.0,
            wanted,
        };
        if let Some(header) = lines.wanted.header.clone() {
            let path = Path::new("--columns");
            let header =
                Header::of(&header, path).map_err(|error| Error::new(ErrorKind::Usage, error))?;
            lines.require(&header)?;
            lines.header = Some(header);
        }
        Ok(lines)
    }

    /// Whether the columns are those that the head was trained on.
    fn require(&self, header: &Header) -> Result<()> {
        let Some(wanted) = &self.wanted.columns else {
            return Ok(());
        };
        let mut found = header.channels();
        let mut channels: Vec<&str> = wanted.channels.iter().map(String::as_str).collect();
        found.sort_unstable();
        channels.sort_unstable();
        let remedy = "send the same columns, or give another head";
        if found != channels {
            let what = format_args!(
                "has the columns {}, the head was trained on {}",
                header.line,
                wanted.channels.join(", ")
            );
            return Err(Error::at(ErrorKind::Mismatch, &self.name, what, remedy));
        }
        if header.time.is_some() && !wanted.timed {
            let what = "has a column of times, the files that the head was trained on had none";
            return Err(Error::at(ErrorKind::Mismatch, &self.name, what, remedy));
        }
        Ok(())
    }

    /// Whether rows get the time of their arrival.
    fn stamps(&self, header: &Header) -> bool {
        header.time.is_none() && matches!(self.wanted.extent, Extent::Seconds { .. })
    }

    /// Takes a whole line, which came at `arrived` seconds.
    fn line(&mut self, line: &str, arrived: f64, found: &mut dyn FnMut(Found)) -> Result<()> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(());
        }
        let Some(header) = &self.header else {
            return self.first_line(line, found);
        };
        match header.row(line) {
            Ok(seconds) => {
                let stamped = self.stamps(header);
                let (seconds, line) = match (seconds, stamped) {
                    (_, true) => (arrived, format!("{arrived:.6}{}{line}", header.delimiter)),
                    (Some(seconds), _) => (seconds, line.to_string()),
                    (None, _) => (self.count as f64, line.to_string()),
                };
                self.told = false;
                self.row(Row { seconds, line }, found);
            }
            // A device that was restarted says its header again.
            Err(_) if header.line == line => self.clear(),
            Err(reason) => self.pass_over(&reason, found),
        }
        Ok(())
    }

    fn first_line(&mut self, line: &str, found: &mut dyn FnMut(Found)) -> Result<()> {
        match Header::of(line, &self.name) {
            Ok(header) => {
                self.require(&header)?;
                self.header = Some(header);
                Ok(())
            }
            Err(error) => {
                self.nameless += 1;
                if self.nameless > MAX_NAMELESS {
                    let what = format_args!("none of {MAX_NAMELESS} lines names the columns");
                    let remedy = "give --columns, such as --columns time_ms,x,y,z";
                    return Err(Error::at(ErrorKind::BadInput, &self.name, what, remedy));
                }
                self.pass_over(&error.to_string(), found);
                Ok(())
            }
        }
    }

    /// Says once why lines are passed over; again only after a good one.
    fn pass_over(&mut self, reason: &str, found: &mut dyn FnMut(Found)) {
        if !std::mem::replace(&mut self.told, true) && self.header.is_some() {
            let name = self.name.display();
            found(Found::Note(format!(
                "{name}: a line is passed over: {reason}"
            )));
        }
    }

    /// Adds a row, and gives the window that it completes.
    fn row(&mut self, row: Row, found: &mut dyn FnMut(Found)) {
        let (window, hop, slack) = match self.wanted.extent {
            Extent::Rows { window, hop } => (window as f64 - 1.0, hop as f64, 0.5),
            Extent::Seconds { window, hop, slack } => (window, hop, slack),
        };
        // A device that was restarted counts from 0 again; a long gap is no part of a window.
        let fits = |last: &Row| (0.0..=window).contains(&(row.seconds - last.seconds));
        if self.rows.back().is_some_and(|last| !fits(last)) {
            self.clear();
        }
        if self.rows.is_empty() && self.last_end.is_none() {
            self.start_seconds = row.seconds;
        }
        let now = row.seconds;
        self.count += 1;
        self.rows_bytes += row.line.len() + 1;
        self.rows.push_back(row);
        if self.rows_bytes > MAX_WINDOW_BYTES {
            let name = self.name.display();
            let most = MAX_WINDOW_BYTES >> 20;
            found(Found::Note(format!(
                "{name}: a window of these rows has more than {most} MB and is passed over"
            )));
            self.clear();
            return;
        }
        while self
            .rows
            .front()
            .is_some_and(|first| first.seconds < now - window - slack)
        {
            let gone = self.rows.pop_front();
            self.rows_bytes -= gone.map_or(0, |row| row.line.len() + 1);
        }
        let whole = now - self.start_seconds >= window - slack;
        let due = self.last_end.is_none_or(|end| now - end >= hop - slack);
        if whole && due {
            self.last_end = Some(now);
            found(Found::Sample(self.file()));
        }
    }

    fn file(&self) -> Vec<u8> {
        let mut file = String::with_capacity(self.rows_bytes + 200);
        if let Some(header) = &self.header {
            if self.stamps(header) {
                file += TIME;
                file.push(header.delimiter);
            }
            file += &header.line;
        }
        file.push('\n');
        for row in &self.rows {
            file += &row.line;
            file.push('\n');
        }
        file.into_bytes()
    }
}

impl Header {
    /// A line that names columns, by the rules for files.
    fn of(line: &str, path: &Path) -> Result<Self> {
        let delimiter = char::from(table::delimiter(line));
        let cells = line.split(delimiter).count();
        let row = vec!["0"; cells].join(&delimiter.to_string());
        table::parse(format!("{line}\n{row}\n").as_bytes(), path)?;
        let mut names = line.split(delimiter).map(str::trim).enumerate();
        let time = names.find_map(|(place, name)| Some((place, table::time_unit(name)?)));
        Ok(Self {
            line: line.into(),
            delimiter,
            cells,
            time,
        })
    }

    /// Names of the channels.
    fn channels(&self) -> Vec<&str> {
        let names = self.line.split(self.delimiter).map(str::trim).enumerate();
        let time = self.time.map(|(place, _)| place);
        names
            .filter(|(place, _)| Some(*place) != time)
            .map(|(_, name)| name)
            .collect()
    }

    /// The time of a row in seconds, where it has one, or why the line is none.
    fn row(&self, line: &str) -> std::result::Result<Option<f64>, String> {
        let (mut cells, mut seconds) = (0, None);
        for cell in line.split(self.delimiter) {
            let number = table::number(cell.trim())?;
            match self.time {
                Some((place, unit)) if place == cells => seconds = Some(number * unit),
                _ => {}
            }
            cells += 1;
        }
        match cells == self.cells {
            true => Ok(seconds),
            false => Err(format!("it has {cells} columns, not {}", self.cells)),
        }
    }
}

impl Splitter for Lines {
    fn push(&mut self, bytes: &[u8], found: &mut dyn FnMut(Found)) -> Result<()> {
        let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
        // Lines that come together were sent one after the other since the last ones came.
        let before = self.arrived_seconds;
        let now = self
            .epoch
            .elapsed()
            .as_secs_f64()
            .max(before + 1e-6 * ends as f64);
        let mut whole = 0;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = piece.strip_suffix(b"\n");
            let start = line.unwrap_or(piece);
            if !self.skipping {
                self.partial.extend_from_slice(start);
                if self.partial.len() > MAX_LINE_BYTES {
                    self.skipping = true;
                    self.partial.clear();
                    self.pass_over("it is too long", found);
                }
            }
            if line.is_none() {
                break;
            }
            whole += 1;
            let arrived = before + (now - before) * whole as f64 / ends as f64;
            let skipped = std::mem::replace(&mut self.skipping, false);
            let partial = std::mem::take(&mut self.partial);
            if skipped {
                continue;
            }
            match std::str::from_utf8(&partial) {
                Ok(text) => self.line(text, arrived, found)?,
                Err(_) => self.pass_over("it is no text", found),
            }
        }
        if ends > 0 {
            self.arrived_seconds = now;
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.partial.clear();
        self.skipping = false;
        self.clear();
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.rows_bytes = 0;
        self.last_end = None;
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(extent: Extent, header: Option<&str>) -> Lines {
        let wanted = Wanted {
            extent,
            header: header.map(str::to_string),
            columns: None,
        };
        Lines::new("port".into(), wanted).unwrap()
    }

    /// Windows, and what was told.
    fn pushed(lines: &mut Lines, text: &str, chunk: usize) -> Result<(Vec<String>, Vec<String>)> {
        let (mut windows, mut notes) = (Vec::new(), Vec::new());
        for bytes in text.as_bytes().chunks(chunk) {
            let mut keep = |found| match found {
                Found::Sample(file) => windows.push(String::from_utf8(file).unwrap()),
                Found::Note(note) => notes.push(note),
            };
            lines.push(bytes, &mut keep)?;
        }
        Ok((windows, notes))
    }

    const ROWS: Extent = Extent::Rows { window: 3, hop: 2 };

    #[test]
    fn rows_become_overlapping_windows() {
        let text = "x,y\r\n1,1\r\n2,1\n\n3,1\n4,1\n5,1\n6,1\n";
        for chunk in [1, 5, 100] {
            let (windows, notes) = pushed(&mut lines(ROWS, None), text, chunk).unwrap();
            assert_eq!(windows, ["x,y\n1,1\n2,1\n3,1\n", "x,y\n3,1\n4,1\n5,1\n"]);
            assert_eq!(notes, [""; 0]);
        }
    }

    #[test]
    fn windows_go_by_the_times_of_rows() {
        let extent = Extent::Seconds {
            window: 0.04,
            hop: 0.04,
            slack: 0.0004,
        };
        let row = |i: usize| format!("{},{i}\n", 1000 + 20 * i);
        let text: String = (0..8).map(row).collect();
        let mut splitter = lines(extent, Some("time_ms,x"));
        let (windows, _) = pushed(&mut splitter, &text, 9).unwrap();
        let firsts = ["time_ms,x\n1000,0\n1020,1\n1040,2\n", "time_ms,x\n1040,2\n"];
        assert_eq!(windows.len(), 3);
        assert_eq!(windows[0], firsts[0]);
        assert!(windows[1].starts_with(firsts[1]), "{windows:?}");
        // The clock of a device that was restarted: no window holds rows from before.
        let (windows, _) = pushed(&mut splitter, "20,1\n40,2\n60,3\n", 100).unwrap();
        assert_eq!(windows, ["time_ms,x\n20,1\n40,2\n60,3\n"]);
        // No window has a gap as long as itself.
        let (windows, _) = pushed(&mut splitter, "9000,3\n9020,4\n", 100).unwrap();
        assert_eq!(windows, [""; 0]);
        let (windows, _) = pushed(&mut splitter, "9040,5\n9060,6\n", 100).unwrap();
        assert_eq!(windows, ["time_ms,x\n9000,3\n9020,4\n9040,5\n"]);
    }

    #[test]
    fn rows_without_a_time_get_that_of_their_arrival() {
        let extent = Extent::Seconds {
            window: 0.02,
            hop: 0.02,
            slack: 0.0,
        };
        let mut splitter = lines(extent, None);
        pushed(&mut splitter, "x\n", 100).unwrap();
        // Rows that come at once are spread over the time since the last ones, so that one
        // lies 0.5 ms from the next, or up to 40 times as far on a busy machine.
        std::thread::sleep(std::time::Duration::from_millis(100));
        let rows: String = (0..200).map(|row| format!("{row}\n")).collect();
        let (windows, _) = pushed(&mut splitter, &rows, 10_000).unwrap();
        assert!((1..=200).contains(&windows.len()), "{}", windows.len());
        for window in &windows {
            assert!(window.starts_with("time,x\n"), "{window}");
            let table = table::parse(window.as_bytes(), Path::new("a")).unwrap();
            let times = table.times.unwrap();
            assert!(times.is_sorted() && times[times.len() - 1] - times[0] <= 0.021);
            let steps = table.values[0].windows(2);
            assert!(steps.clone().all(|pair| pair[1] == pair[0] + 1.0));
        }
    }

    #[test]
    fn what_is_no_row_is_passed_over_and_told_once() {
        let mut splitter = lines(ROWS, None);
        let (windows, notes) =
            pushed(&mut splitter, "5,\nx,y\n1,1\n2\n2,?\n2,1\n3,1\n", 4).unwrap();
        assert_eq!(windows, ["x,y\n1,1\n2,1\n3,1\n"]);
        assert_eq!(
            notes,
            ["port: a line is passed over: it has 1 columns, not 2"]
        );
        let long = "7".repeat(40 << 10) + ",1\n4,1\n5,1\n";
        let (windows, notes) = pushed(&mut splitter, &long, 1000).unwrap();
        assert_eq!(windows.len(), 1);
        assert_eq!(notes.len(), 1);
        // The header again: the device was restarted.
        let (windows, _) = pushed(&mut splitter, "6,1\nx,y\n7,1\n8,1\n", 1000).unwrap();
        assert_eq!(windows, [""; 0]);
    }

    #[test]
    fn columns_are_needed_and_have_to_be_the_head_s() {
        let numbers = "1,2\n".repeat(30);
        let refused = pushed(&mut lines(ROWS, None), &numbers, 64).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::BadInput);
        assert!(refused.to_string().contains("--columns"), "{refused}");
        let wanted = |header: Option<&str>| Wanted {
            extent: ROWS,
            header: header.map(str::to_string),
            columns: Some(Columns {
                channels: vec!["x".into(), "y".into()],
                timed: false,
            }),
        };
        for (header, kind) in [
            ("x,z", ErrorKind::Mismatch),
            ("t,x,y", ErrorKind::Mismatch),
            ("x,x", ErrorKind::Usage),
        ] {
            let refused = Lines::new("a".into(), wanted(Some(header))).map(drop);
            assert_eq!(refused.unwrap_err().kind(), kind, "{header}");
        }
        let mut lines = Lines::new("a".into(), wanted(None)).unwrap();
        assert!(pushed(&mut lines, "y;x\n", 9).is_ok());
    }
}
