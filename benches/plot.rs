//! Curves with error bars as SVG, both axes logarithmic.

/// One curve.
pub struct Series {
    /// Stands in the legend.
    pub name: String,
    /// In the order of x.
    pub points: Vec<Point>,
}

/// A point and its error bar.
pub struct Point {
    /// Above 0.
    pub x: f64,
    /// Above 0.
    pub y: f64,
    /// Half the length of the error bar.
    pub half: f64,
}

/// What stands beside the curves.
pub struct Captions<'a> {
    /// Above.
    pub title: &'a str,
    /// Below.
    pub x: &'a str,
    /// At the left.
    pub y: &'a str,
}

/// Colours that people with any colour vision tell apart (Okabe and Ito, 2008).
const COLOURS: [&str; 7] = [
    "#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
];
const LEFT: f64 = 60.0;
const RIGHT: f64 = 560.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 380.0;

/// Maps values to positions, logarithmically.
struct Axis {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64> + Clone, start: f64, end: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(0.0, f64::max);
        let (low, high) = (low.max(1e-9) / 1.08, high.max(2e-9) * 1.08);
        Self {
            low,
            high,
            start,
            end,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        self.start + share.min(1.0) * (self.end - self.start)
    }

    /// 1, 2 and 5 times the powers of ten on the axis.
    fn ticks(&self) -> Vec<f64> {
        let powers = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let ticks = powers.flat_map(|p| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(p)));
        ticks
            .filter(|tick| (self.low..=self.high).contains(tick))
            .collect()
    }
}

/// The picture as one SVG document. Error bars that would reach 0 are cut at the axis.
pub fn svg(captions: &Captions<'_>, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|series| &series.points);
    let x = Axis::new(points().map(|p| p.x), LEFT, RIGHT);
    let ends = points().flat_map(|p| [p.y, p.y + p.half, (p.y - p.half).max(0.7 * p.y)]);
    let y = Axis::new(ends, BOTTOM, TOP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 430\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"760\" height=\"430\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"14\">{}</text>\n\
         <text x=\"310\" y=\"420\" text-anchor=\"middle\">{}</text>\n\
         <text transform=\"translate(16 210) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
        escape(captions.title),
        escape(captions.x),
        escape(captions.y)
    );
    out += &grid(&x, &y);
    for (index, series) in series.iter().enumerate() {
        out += &curve(index, series, &x, &y);
    }
    out + "</svg>\n"
}

fn grid(x: &Axis, y: &Axis) -> String {
    let vertical = x.ticks().into_iter().map(|tick| {
        let at = x.at(tick);
        format!(
            "<path d=\"M{at:.1} {TOP}V{BOTTOM}\" stroke=\"#dddddd\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>\n",
            BOTTOM + 16.0
        )
    });
    let horizontal = y.ticks().into_iter().map(|tick| {
        let at = y.at(tick);
        format!(
            "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"#dddddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>\n",
            LEFT - 6.0,
            at + 4.0
        )
    });
    vertical.chain(horizontal).collect()
}

fn curve(index: usize, series: &Series, x: &Axis, y: &Axis) -> String {
    let colour = COLOURS[index % COLOURS.len()];
    // Bars of curves that share an N stand side by side.
    let aside = 2.5 * index as f64;
    let mut line = String::new();
    let mut marks = String::new();
    for point in &series.points {
        let (left, top) = (x.at(point.x) + aside, y.at(point.y));
        let join = if line.is_empty() { 'M' } else { 'L' };
        line += &format!("{join}{left:.1} {top:.1}");
        let [low, high] = [point.y - point.half, point.y + point.half].map(|end| y.at(end));
        marks += &format!(
            "<path d=\"M{left:.1} {low:.1}V{high:.1}\" stroke=\"{colour}\"/>\
             <circle cx=\"{left:.1}\" cy=\"{top:.1}\" r=\"3\" fill=\"{colour}\"/>\n"
        );
    }
    let row = TOP + 14.0 + 20.0 * index as f64;
    format!(
        "<path d=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n{marks}\
         <path d=\"M572 {row}H592\" stroke=\"{colour}\" stroke-width=\"3\"/>\
         <text x=\"598\" y=\"{}\">{}</text>\n",
        row + 4.0,
        escape(&series.name)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_logarithmic() {
        let axis = Axis::new([10.0, 1000.0].into_iter(), 0.0, 100.0);
        assert!((axis.at(100.0) - 50.0).abs() < 1e-9);
        assert_eq!(
            axis.ticks(),
            [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]
        );
    }

    #[test]
    fn every_point_is_drawn_inside_the_frame() {
        let point = |x, y| Point { x, y, half: 1.0 };
        let series = [Series {
            name: "a < b".into(),
            points: vec![point(100.0, 20.0), point(1000.0, 1.5)],
        }];
        let captions = Captions {
            title: "t",
            x: "N",
            y: "error",
        };
        let svg = svg(&captions, &series);
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
        let marks: Vec<&str> = svg.split("cy=\"").skip(1).collect();
        assert_eq!(marks.len(), 2);
        for mark in marks {
            let y: f64 = mark
                .split('"')
                .next()
                .and_then(|y| y.parse().ok())
                .expect("a number");
            assert!((TOP..=BOTTOM).contains(&y), "{y}");
        }
    }
}
