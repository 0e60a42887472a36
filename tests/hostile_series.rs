//! Promise: a sensor file that is damaged, absurd or a bomb is told in one line that names
//! it, the line of it and what to do; nothing panics or takes memory that the file's size
//! does not explain; a file that is read has as many finite values in each channel.

use std::path::Path;

use fieldtune::error::ErrorKind;
use fieldtune::series::resample::on_grid;
use fieldtune::series::table::{Table, parse};
use proptest::prelude::*;

const PATH: &str = "farm/x.csv";

fn read(bytes: &[u8]) -> fieldtune::error::Result<Table> {
    parse(bytes, Path::new(PATH))
}

#[test]
fn each_fault_is_told_with_its_line() {
    let cases: [(&[u8], &str); 24] = [
        (b"", "is empty"),
        (b" \r\n\n", "is empty"),
        (b"x,y\n", "has a first line but no rows"),
        (b"1,2\n3,4\n", "line 1: has a number where the name"),
        (b"x,x\n1,2\n", "line 1: two columns are named \"x\""),
        (b"x,\n1,2\n", "line 1: column 2 has no name"),
        (b"time\n1\n", "line 1: names 0 channels"),
        (b"t,time,x\n1,2,3\n", "line 1: two columns are times"),
        (b"a\x07b,y\n1,2\n", "line 1: \"a"),
        (
            b"x,y\n1,2\n3\n",
            "line 3: has 1 columns, the first line has 2",
        ),
        (b"x,y\n1,2\n\n3,4,5\n", "line 4: has 3 columns"),
        (
            b"x,y\n1,2\n3,warm\n",
            "line 3: column \"y\": \"warm\" is not a number",
        ),
        (b"x,y\n1,\n", "line 2: column \"y\": the cell is empty"),
        (
            b"x,y\n1,NaN\n",
            "line 2: column \"y\": \"NaN\" is not a finite number",
        ),
        (
            b"x,y\ninf,1\n",
            "line 2: column \"x\": \"inf\" is not a finite number",
        ),
        (b"x,y\n1e39,1\n", "\"1e39\" is not a finite number"),
        (b"x\n1;2\n", "\"1;2\" is not a number"),
        (b"x;y\n1,5;2\n", "\"1,5\" is not a number"),
        (
            b"t,x\n1,0\n0.5,0\n",
            "line 3: the time 0.5 s does not come after 1 s",
        ),
        (
            b"t,x\n1,0\n1,0\n",
            "line 3: the time 1 s does not come after 1 s",
        ),
        (
            b"time_ms,x\n2020-01-01,0\n",
            "\"2020-01-01\" is not a number",
        ),
        (b"x,y\n1,\xff\n", "line 2: is not UTF-8 text"),
        (b"\xff\xfex\0\n\0", "is UTF-16 text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\x0d", "line 1: is not UTF-8 text"),
    ];
    for (bytes, wanted) in cases {
        let error = read(bytes).expect_err(wanted);
        assert_eq!(error.kind(), ErrorKind::BadInput, "{wanted}");
        let line = error.to_string();
        assert!(line.starts_with("farm/x.csv: "), "{line}");
        assert!(line.contains(wanted), "{line} lacks {wanted}");
        let remedy = line.rsplit_once("; ").map_or("", |(_, remedy)| remedy);
        assert!(remedy.len() > 5, "no remedy: {line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

#[test]
fn columns_and_times_without_end_are_refused() {
    let names: String = (0..2000).map(|i| format!("c{i},")).collect();
    let line = read(format!("{names}last\n").as_bytes())
        .expect_err("refused")
        .to_string();
    assert!(line.contains("names 2001 channels"), "{line}");
    let long = "x".repeat(5000);
    let line = read(format!("{long}\n1\n").as_bytes())
        .expect_err("refused")
        .to_string();
    assert!(line.len() < 300, "{line}");
    let bomb = read(b"t,x\n0,1\n0.001,1\n1e15,1\n").expect("a table");
    let line = on_grid(bomb, 0.001, Path::new(PATH))
        .expect_err("refused")
        .to_string();
    assert!(line.contains("farm/x.csv: its times span "), "{line}");
}

/// A number as a sensor might write it.
fn written() -> impl Strategy<Value = f32> {
    prop_oneof![
        -100.0f32..100.0,
        Just(0.0),
        any::<f32>().prop_filter("finite", |value| value.is_finite()),
    ]
}

fn well_formed(table: &Table) -> bool {
    let rows = table.rows();
    let rising = |times: &Vec<f64>| times.windows(2).all(|pair| pair[0] < pair[1]);
    rows > 0
        && table.values.len() == table.channels.len()
        && table.values.iter().all(|values| values.len() == rows)
        && table.values.iter().flatten().all(|value| value.is_finite())
        && table
            .times
            .as_ref()
            .is_none_or(|times| times.len() == rows && rising(times))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// What is written comes back, whatever stands between the columns and ends the lines.
    #[test]
    fn what_is_written_is_read(
        rows in prop::collection::vec(prop::collection::vec(written(), 3), 1..30),
        timed in any::<bool>(),
        between in prop::sample::select(vec![",", ";", "\t", " , "]),
        end in prop::sample::select(vec!["\n", "\r\n"]),
    ) {
        let mut text = if timed { format!("Time{between}") } else { String::new() };
        text += &["x", "y", "z"].join(between);
        text += end;
        for (index, row) in rows.iter().enumerate() {
            let time = timed.then(|| (0.25 * index as f32).to_string());
            let cells = time.into_iter().chain(row.iter().map(f32::to_string));
            text += &cells.collect::<Vec<_>>().join(between);
            text += end;
        }
        let table = read(text.as_bytes()).expect("sound");
        prop_assert!(well_formed(&table));
        prop_assert_eq!(&table.channels, &["x", "y", "z"]);
        prop_assert_eq!(table.times.is_some(), timed);
        for (index, row) in rows.iter().enumerate() {
            let found: Vec<f32> = table.values.iter().map(|values| values[index]).collect();
            prop_assert_eq!(&found, row);
        }
    }

    /// Any bytes, and sound files with changed bytes, are refused or well formed.
    #[test]
    fn changed_bytes_are_refused_or_read(
        changes in prop::collection::vec((any::<u16>(), any::<u8>()), 0..6),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = b"time,x,y\n0,1,2\n0.1,3,-4e2\n0.25,\"5\",6\n1,7,8\n".to_vec();
        for (place, value) in changes {
            let length = bytes.len();
            bytes[usize::from(place) % length] = value;
        }
        for bytes in [bytes, noise] {
            match read(&bytes) {
                Ok(table) => prop_assert!(well_formed(&table), "{table:?}"),
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::BadInput, "{}", error),
            }
        }
    }

    /// A grid holds nothing outside of what was measured, and about as many points as periods.
    #[test]
    fn a_grid_stays_between_the_values(
        steps in prop::collection::vec(0.001f64..3.0, 1..40),
        period_seconds in 0.01f64..2.0,
    ) {
        let mut time = -5.0;
        let times: Vec<f64> = steps.iter().map(|step| { time += step; time }).collect();
        let values: Vec<f32> = (0..times.len()).map(|i| ((i * 37) % 11) as f32).collect();
        let span = times[times.len() - 1] - times[0];
        let table = Table {
            channels: vec!["x".into()],
            times: Some(times.clone()),
            values: vec![values.clone()],
        };
        let found = on_grid(table, period_seconds, Path::new(PATH)).expect("short").remove(0);
        let most = values.iter().copied().fold(0.0, f32::max);
        prop_assert!(found.iter().all(|value| (0.0..=most).contains(value)));
        prop_assert_eq!(found[0], values[0]);
        let points = span / period_seconds + 1.0;
        // Times that are on the grid already keep their own number.
        prop_assert!((found.len() as f64 - points).abs() <= 1.1, "{} {points}", found.len());
    }
}
