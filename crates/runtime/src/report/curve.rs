//! "Enough samples?": the learning curve as a sentence, a picture and a table. How it is
//! measured is `crate::curve`'s.

use crate::curve::{Curve, NoCurve, Range};

use super::page::{percent, section, table, text};

/// Places at which the curve is drawn.
const PLACES: usize = 17;
/// Frame of the picture in its own units.
const LEFT: f64 = 40.0;
const RIGHT: f64 = 310.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 180.0;

/// The section of the report.
pub(super) fn enough(curve: &Result<Curve, NoCurve>) -> String {
    let body = match curve {
        Ok(curve) => format!(
            "<p>{}.</p>\n{}{}<p class=\"faint\">Dots: heads of parts of these samples, judged on \
             the others. Line and band: the accuracy to expect on new samples, and where {:.0} in \
             100 heads should lie, if new samples are of the same kind. Beyond the last dot it is \
             a forecast.</p>\n",
            text(&sentence(curve)),
            plot(curve),
            forecasts(curve),
            100.0 * curve.confidence,
        ),
        Err(reason) => format!("<p>{}.</p>\n", text(&sentence_of(&reason.to_string()))),
    };
    section("Enough samples?", &body)
}

fn sentence(curve: &Curve) -> String {
    sentence_of(&curve.sentence())
}

/// With a capital letter.
fn sentence_of(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn forecasts(curve: &Curve) -> String {
    let rows: Vec<_> = curve
        .forecasts
        .iter()
        .map(|forecast| {
            let more = match forecast.more_a_class {
                0 => "none".into(),
                more => more.to_string(),
            };
            let Range {
                low,
                expected,
                high,
            } = forecast.accuracy;
            let cells = vec![
                more,
                percent(expected),
                format!("{} to {}", percent(low), percent(high)),
            ];
            (false, cells)
        })
        .collect();
    table("", &["More a class", "Accuracy", "Interval"], &rows)
}

/// Accuracy against samples a class, these evenly in their logarithm.
fn plot(curve: &Curve) -> String {
    let most = curve.forecasts.last().map_or(0, |last| last.more_a_class);
    let last = curve.samples_a_class + most as f64;
    let first = curve
        .points
        .first()
        .map_or(1.0, |point| point.samples_a_class);
    let first = first.clamp(0.1, 0.5 * last.max(0.4));
    let places = (0..PLACES).map(|place| {
        let n = first * (last / first).powf(place as f64 / (PLACES - 1) as f64);
        (n, curve.accuracy(n))
    });
    let places: Vec<(f64, Range)> = places.collect();
    let lowest = curve.points.iter().map(|point| point.accuracy);
    let lowest = places
        .iter()
        .map(|(_, range)| range.low)
        .chain(lowest)
        .fold(1.0, f64::min);
    // A whole tenth below, so that the grid is even.
    let floor = ((10.0 * lowest).floor() / 10.0).clamp(0.0, 0.9);
    let x = |n: f64| LEFT + (RIGHT - LEFT) * (n / first).ln() / (last / first).ln();
    let y = |share: f64| BOTTOM - (BOTTOM - TOP) * (share - floor) / (1.0 - floor);
    let line = |of: &dyn Fn(&Range) -> f64, back: bool| -> String {
        let at = |(n, range): &(f64, Range)| format!("{:.1} {:.1}", x(*n), y(of(range)));
        let mut all: Vec<String> = places.iter().map(at).collect();
        if back {
            all.reverse();
        }
        all.join("L")
    };
    let dots = curve.points.iter().map(|point| {
        format!(
            "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"><title>{:.1} samples a class: \
             {}</title></circle>\n",
            x(point.samples_a_class),
            y(point.accuracy),
            point.samples_a_class,
            percent(point.accuracy)
        )
    });
    format!(
        "<svg viewBox=\"0 0 320 214\" role=\"img\" aria-label=\"learning curve\">\n{}\
         <path class=\"band\" d=\"M{}L{}Z\"/>\n\
         <path d=\"M{}\" fill=\"none\" stroke=\"currentColor\"/>\n\
         <path d=\"M{here:.1} {TOP}V{BOTTOM}\" stroke=\"currentColor\" stroke-dasharray=\"4 4\"/>\n\
         {}<text x=\"175\" y=\"210\" text-anchor=\"middle\">training samples a class</text>\n</svg>\n",
        grid(curve, first, floor, &x, &y),
        line(&|range| range.high, false),
        line(&|range| range.low, true),
        line(&|range| range.expected, false),
        dots.collect::<String>(),
        here = x(curve.samples_a_class),
    )
}

/// Three accuracies in whole percents, and the numbers of samples that the text speaks of.
fn grid(
    curve: &Curve,
    first: f64,
    floor: f64,
    x: &dyn Fn(f64) -> f64,
    y: &dyn Fn(f64) -> f64,
) -> String {
    let shares = [0.0, 0.5, 1.0].map(|part| floor + part * (1.0 - floor));
    let across = shares.map(|share| {
        format!(
            "<path class=\"line\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/><text x=\"34\" y=\"{text_y:.1}\" \
             text-anchor=\"end\">{:.0}</text>\n",
            100.0 * share,
            y = y(share),
            text_y = y(share) + 4.0,
        )
    });
    let here = curve.samples_a_class;
    let more = curve
        .forecasts
        .iter()
        .map(|one| here + one.more_a_class as f64);
    let mut ends = vec![first];
    for n in more {
        // Numbers closer than this would overlap.
        if ends.last().is_none_or(|last| x(n) - x(*last) > 24.0) {
            ends.push(n);
        }
    }
    let below = ends.into_iter().map(|n| {
        format!(
            "<text x=\"{:.1}\" y=\"195\" text-anchor=\"middle\">{n:.0}</text>\n",
            x(n)
        )
    });
    across.into_iter().chain(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::measure::Tally;

    fn curve(label: &str, wrong: [usize; 4]) -> Curve {
        let tally = |(trained, wrong): (usize, usize)| Tally {
            trained,
            heads: 4,
            judged: vec![50, 50],
            wrong: vec![wrong, 0],
        };
        let sizes = [10, 20, 30, 32].into_iter().zip(wrong);
        let tallies: Vec<Tally> = sizes.map(tally).collect();
        Curve::new(&tallies, 40, &[label.into(), "bee".into()])
    }

    #[test]
    fn the_section_shows_every_size_and_forecast_and_escapes_names() {
        let html = enough(&Ok(curve("<b>ant", [30, 20, 15, 14])));
        assert!(
            html.contains("With 10 more samples a class expect"),
            "{html}"
        );
        assert!(html.contains("&lt;b&gt;ant") && !html.contains("<b>ant"));
        assert_eq!(html.matches("<circle").count(), 4);
        assert_eq!(html.matches("<tr>").count(), 1 + 4);
        // 70 % right with 5 a class, at the left end of the axis.
        assert!(html.contains("<circle class=\"dot\" cx=\"40.0\""), "{html}");
        assert!(!html.contains("NaN") && !html.contains("inf"));
    }

    #[test]
    fn odd_curves_are_drawn_too_and_none_says_why() {
        for wrong in [[0; 4], [50; 4]] {
            let html = enough(&Ok(curve("ant", wrong)));
            assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        }
        let html = enough(&Err(NoCurve::NotEnoughTime));
        assert!(html.contains("raise --time") && !html.contains("<svg"));
    }
}
