//! Figures of an evaluation as inline SVG and as shaded tables.

use crate::evaluation::Evaluation;
use crate::session::Judged;

use super::page::{count, name, percent, table, text};
use super::probability;

/// Bins of the calibration plot, equally wide.
const BINS: usize = 10;

/// With more classes than this the matrix would not be readable.
const MOST_CLASSES: usize = 40;

/// Confusions listed in place of a matrix.
const MOST_CONFUSIONS: usize = 20;

/// One line a figure: name, accuracy, lower and upper end of its interval.
pub(super) fn intervals(lines: &[(&str, &Evaluation)]) -> String {
    let x = |share: f64| 10.0 + 300.0 * share.clamp(0.0, 1.0);
    let bottom = 18 + 34 * lines.len();
    let grid = [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| {
        format!(
            "<path class=\"line\" d=\"M{x:.1} 8V{bottom}\"/><text x=\"{x:.1}\" y=\"{y}\" \
             text-anchor=\"middle\">{label:.0}</text>\n",
            x = x(share),
            y = bottom + 14,
            label = 100.0 * share
        )
    });
    let line = |(index, (title, figures)): (usize, &(&str, &Evaluation))| {
        let y = 24 + 34 * index;
        format!(
            "<text x=\"12\" y=\"{y}\">{}: {} ({} to {})</text>\n\
             <rect class=\"band\" x=\"{:.1}\" y=\"{}\" width=\"{:.1}\" height=\"10\"/>\n\
             <circle class=\"dot\" cx=\"{:.1}\" cy=\"{}\" r=\"5\"/>\n",
            text(title),
            percent(figures.accuracy),
            percent(figures.low),
            percent(figures.high),
            x(figures.low),
            y + 6,
            x(figures.high) - x(figures.low),
            x(figures.accuracy),
            y + 11,
        )
    };
    let lines: String = lines.iter().enumerate().map(line).collect();
    format!(
        "<svg viewBox=\"0 0 320 {}\" role=\"img\" aria-label=\"accuracy with interval\">\n\
         {}{lines}</svg>\n<p class=\"faint\">Accuracy in percent; the band is the 95 % interval.</p>\n",
        bottom + 20,
        grid.concat()
    )
}

/// Which class was taken for which.
pub(super) fn confusion(figures: &Evaluation) -> String {
    if figures.labels.len() > MOST_CLASSES {
        return confusions(figures);
    }
    let head: String = figures
        .labels
        .iter()
        .map(|label| format!("<th><div>{}</div></th>", name(label)))
        .collect();
    let row = |(class, counts): (usize, &Vec<usize>)| {
        let all = counts.iter().sum::<usize>().max(1) as f64;
        let cell = |(called, count): (usize, &usize)| {
            let colour = if called == class { "right" } else { "wrong" };
            let share = *count as f64 / all;
            // Rare errors must still be seen.
            let shade = if *count == 0 { 0.0 } else { 0.12 + 0.5 * share };
            format!("<td style=\"background:rgb(var(--{colour}) / {shade:.2})\">{count}</td>")
        };
        let cells: String = counts.iter().enumerate().map(cell).collect();
        format!("<tr><th>{}</th>{cells}</tr>\n", label(figures, class))
    };
    let rows: String = figures.confusion.iter().enumerate().map(row).collect();
    format!(
        "<p class=\"faint\">Rows: what a sample is. Columns: what it was called.</p>\n\
         <div class=\"wide\"><table class=\"matrix\">\n<thead><tr><th></th>{head}</tr></thead>\n\
         <tbody>\n{rows}</tbody></table></div>\n"
    )
}

/// The most frequent confusions, for many classes.
fn confusions(figures: &Evaluation) -> String {
    let rows = figures.confusion.iter().enumerate();
    let cells = rows.flat_map(|(class, counts)| {
        let counts = counts.iter().enumerate();
        counts.map(move |(called, count)| (class, called, *count))
    });
    let mut wrong: Vec<_> = cells
        .filter(|(class, called, count)| class != called && *count > 0)
        .collect();
    wrong.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
    let rows: Vec<_> = wrong
        .iter()
        .take(MOST_CONFUSIONS)
        .map(|(class, called, count)| {
            let cells = vec![
                label(figures, *class),
                label(figures, *called),
                count.to_string(),
            ];
            (false, cells)
        })
        .collect();
    let lead = format!(
        "<p class=\"faint\">{} classes: the most frequent of {} kinds of confusion.</p>\n",
        figures.labels.len(),
        wrong.len()
    );
    lead + &table("words", &["Is", "Was called", "Samples"], &rows)
}

fn label(figures: &Evaluation, class: usize) -> String {
    figures
        .labels
        .get(class)
        .map_or_else(String::new, |label| name(label))
}

/// Precision, recall, F1 and samples of every class.
pub(super) fn per_class(figures: &Evaluation) -> String {
    let rows: Vec<_> = figures
        .per_class
        .iter()
        .map(|class| {
            let cells = vec![
                name(&class.label),
                percent(class.precision),
                percent(class.recall),
                percent(class.f1),
                class.samples.to_string(),
            ];
            (false, cells)
        })
        .collect();
    let lead = "<p class=\"faint\">Precision: of those called so, the part that is. \
                Recall: of those that are, the part called so.</p>\n";
    lead.to_owned()
        + &table(
            "",
            &["Class", "Precision", "Recall", "F1", "Samples"],
            &rows,
        )
}

/// Samples, right ones and summed probability of a bin.
type Bin = (usize, usize, f64);

/// How often the head is right where it says that it is so sure.
pub(super) fn calibration(judged: &[Judged]) -> String {
    let mut bins: [Bin; BINS] = Default::default();
    for judged in judged {
        let said = probability(judged);
        let index = ((said * BINS as f64) as usize).min(BINS - 1);
        if let Some((samples, right, sum)) = bins.get_mut(index) {
            *samples += 1;
            *right += usize::from(judged.prediction.label == judged.truth);
            *sum += said;
        }
    }
    let (x, y) = (
        |share: f64| 44.0 + 250.0 * share,
        |share: f64| 262.0 - 250.0 * share,
    );
    let grid = [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| {
        format!(
            "<path class=\"line\" d=\"M{x:.1} 12V262M44 {y:.1}H294\"/>\
             <text x=\"{x:.1}\" y=\"276\" text-anchor=\"middle\">{label:.0}</text>\
             <text x=\"38\" y=\"{text_y:.1}\" text-anchor=\"end\">{label:.0}</text>\n",
            x = x(share),
            y = y(share),
            text_y = y(share) + 4.0,
            label = 100.0 * share
        )
    });
    let dot = |(samples, right, sum): &Bin| {
        let (said, true_share) = (sum / *samples as f64, *right as f64 / *samples as f64);
        let radius = 3.0 + 9.0 * (*samples as f64 / judged.len() as f64).sqrt();
        format!(
            "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\"><title>{}: said {}, \
             right {}</title></circle>\n",
            x(said),
            y(true_share),
            count(*samples, "sample"),
            percent(said),
            percent(true_share)
        )
    };
    let dots: String = bins.iter().filter(|bin| bin.0 > 0).map(dot).collect();
    format!(
        "<svg viewBox=\"0 0 310 300\" role=\"img\" aria-label=\"calibration\">\n{}\
         <path d=\"M44 262L294 12\" stroke=\"currentColor\" stroke-dasharray=\"4 4\"/>\n{dots}\
         <text x=\"169\" y=\"294\" text-anchor=\"middle\">how sure it said it was, %</text>\n\
         <text transform=\"translate(11 137) rotate(-90)\" text-anchor=\"middle\">how often it was right, %</text>\n\
         </svg>\n",
        grid.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::evaluate;
    use crate::head::Prediction;

    fn judged(said: f32, right: bool) -> Judged {
        Judged {
            path: "x".into(),
            truth: usize::from(!right),
            prediction: Prediction {
                label: 0,
                probabilities: vec![said, 1.0 - said],
                unknown: false,
                unknown_score: None,
                windows: Vec::new(),
            },
        }
    }

    #[test]
    fn calibration_puts_a_dot_where_the_bin_is() {
        // Nine of ten right at 0.95: x = 44 + 250 * 0.95, y = 262 - 250 * 0.9.
        let all: Vec<Judged> = (0..10).map(|index| judged(0.95, index > 0)).collect();
        let svg = calibration(&all);
        assert!(svg.contains("cx=\"281.5\" cy=\"37.0\" r=\"12.0\""), "{svg}");
        assert!(
            svg.contains("10 samples: said 95.0 %, right 90.0 %"),
            "{svg}"
        );
        assert_eq!(svg.matches("<circle").count(), 1);
        let odd = [judged(f32::NAN, true), judged(2.0, true), judged(1.0, true)];
        let svg = calibration(&odd);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(!svg.contains("NaN") && !calibration(&[]).contains("NaN"));
    }

    #[test]
    fn many_classes_get_a_list_in_place_of_a_matrix() {
        let labels: Vec<String> = (0..41).map(|class| format!("class {class}")).collect();
        let mut row = [0.0_f32; 41];
        row[40] = 1.0;
        let html = confusion(&evaluate(&labels, &[3, 3, 40], &row.repeat(3)));
        assert!(!html.contains("class=\"matrix\""));
        assert!(
            html.contains("<td>class 3</td><td>class 40</td><td>2</td>"),
            "{html}"
        );
        let few = evaluate(&labels[..2], &[0, 1, 1], &[0.9, 0.1].repeat(3));
        let html = confusion(&few);
        assert!(html.contains("(--right) / 0.62)\">1</td>"), "{html}");
        assert!(html.contains("(--wrong) / 0.62)\">2</td>"), "{html}");
    }
}
