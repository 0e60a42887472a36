//! Pieces of HTML: text made harmless, tables, sections, the frame of the page. What a
//! report says is not here.

use crate::error::escaped;

/// Looks of the page, light and dark.
const STYLE: &str = include_str!("style.css");

/// Longest text from outside that is shown whole, in characters.
const LONGEST: usize = 200;

/// Most rows of a list of files.
const MOST_ROWS: usize = 100;

/// Any text as HTML text or the value of a quoted attribute; control characters are
/// shown as escapes.
pub(super) fn text(raw: &str) -> String {
    let mut html = String::with_capacity(raw.len());
    for character in escaped(raw).chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            _ => html.push(character),
        }
    }
    html
}

/// As [`text`], with the middle left out when it is long: names have no upper bound,
/// the page has one.
pub(super) fn name(raw: &str) -> String {
    let count = raw.chars().count();
    if count <= LONGEST {
        return text(raw);
    }
    let head: String = raw.chars().take(LONGEST / 2).collect();
    let tail: String = raw.chars().skip(count - LONGEST / 2).collect();
    format!("{}…{}", text(&head), text(&tail))
}

/// A share, 0 to 1, in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// "1 sample", "2 samples".
pub(super) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Bytes in the largest unit of which there is one.
pub(super) fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.iter().find(|(_, shift)| bytes >> shift > 0);
    match unit {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes} bytes"),
    }
}

/// A part of the page; `body` is HTML.
pub(super) fn section(title: &str, body: &str) -> String {
    format!("<section>\n<h2>{}</h2>\n{body}</section>\n", text(title))
}

/// A table of HTML cells. A row is marked when its flag is set. `class` is "words" for
/// text, "" for numbers.
pub(super) fn table(class: &str, head: &[&str], rows: &[(bool, Vec<String>)]) -> String {
    let head: String = head
        .iter()
        .map(|cell| format!("<th>{}</th>", text(cell)))
        .collect();
    let row = |(marked, cells): &(bool, Vec<String>)| {
        let cells: String = cells
            .iter()
            .map(|cell| format!("<td>{cell}</td>"))
            .collect();
        let mark = if *marked { " class=\"chosen\"" } else { "" };
        format!("<tr{mark}>{cells}</tr>\n")
    };
    let rows: String = rows.iter().map(row).collect();
    format!(
        "<div class=\"wide\"><table class=\"{class}\">\n<thead><tr>{head}</tr></thead>\n\
         <tbody>\n{rows}</tbody></table></div>\n"
    )
}

/// A table of two columns of text from outside, cut off when it is long.
pub(super) fn listing(head: [&str; 2], rows: impl ExactSizeIterator<Item = [String; 2]>) -> String {
    let all = rows.len();
    let rows: Vec<_> = rows
        .take(MOST_ROWS)
        .map(|cells| (false, cells.iter().map(|cell| name(cell)).collect()))
        .collect();
    let mut html = table("words", &head, &rows);
    if all > MOST_ROWS {
        html += &format!("<p>and {} more</p>\n", all - MOST_ROWS);
    }
    html
}

/// The whole file around `body`. The policy keeps a browser from loading or running
/// anything, whatever a name from outside may hold.
pub(super) fn page(title: &str, body: &str) -> String {
    let title = name(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>{title}</h1>\n{body}</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_leave_its_place() {
        let found = text("<script>alert(1)</script> & \"x\" 'y'\n\u{1b}[31m\u{202e}");
        assert_eq!(
            found,
            "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;x&quot; &#39;y&#39;\
             \\n\\u{1b}[31m\\u{202e}"
        );
    }

    #[test]
    fn long_names_lose_their_middle() {
        let found = name(&format!("a{}z", "<".repeat(100_000)));
        assert!(
            found.starts_with("a&lt;") && found.ends_with("&lt;z"),
            "{found}"
        );
        assert!(found.len() < 1000 && found.contains('…'));
        assert_eq!(name("é<"), "é&lt;");
    }

    #[test]
    fn sizes_and_counts_are_for_people() {
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(50 << 20), "50.0 MiB");
        assert_eq!(
            (count(1, "file"), count(0, "file")),
            ("1 file".into(), "0 files".into())
        );
    }

    #[test]
    fn long_lists_say_how_much_is_left_out() {
        let html = listing(
            ["a", "b"],
            (0..250).map(|row| [row.to_string(), "<i>".into()]),
        );
        assert!(html.contains("and 150 more") && !html.contains("<i>"));
        assert_eq!(html.matches("<tr>").count(), 101);
    }
}
