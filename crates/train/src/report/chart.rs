//! Charts as SVG that takes its colours from the page.

use super::html::escape;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 22.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 34.0;

/// One line of a chart.
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    /// x and y; points whose y is not finite are left out.
    pub(super) points: Vec<(f64, f64)>,
}

/// A line chart of one or two series over whole numbers such as epochs; `mark` is a vertical line.
pub(super) fn lines(title: &str, x_label: &str, series: &[Series<'_>], mark: Option<(f64, &str)>) -> String {
    let finite = |series: &Series<'_>| -> Vec<(f64, f64)> {
        series.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    };
    let cleaned: Vec<(&str, Vec<(f64, f64)>)> =
        series.iter().map(|series| (series.name, finite(series))).collect();
    let all = || cleaned.iter().flat_map(|(_, points)| points.iter().copied());
    let fold =
        |start: f64, pick: fn(f64, f64) -> f64, get: fn((f64, f64)) -> f64| all().map(get).fold(start, pick);
    let (low_x, high_x) =
        (fold(f64::INFINITY, f64::min, |p| p.0), fold(f64::NEG_INFINITY, f64::max, |p| p.0));
    let (low_y, high_y) =
        (fold(f64::INFINITY, f64::min, |p| p.1), fold(f64::NEG_INFINITY, f64::max, |p| p.1));
    if !low_x.is_finite() || !low_y.is_finite() {
        return String::new();
    }
    let ticks = ticks(low_y, high_y);
    let (low_y, high_y) = (ticks[0].min(low_y), ticks[ticks.len() - 1].max(high_y));
    let scale = Scale { x: (low_x, high_x), y: (low_y, high_y) };
    let mut svg = open(title);
    for tick in &ticks {
        let y = scale.y_at(*tick);
        svg += &format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            WIDTH - RIGHT
        );
        svg += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            short(*tick)
        );
    }
    for tick in whole_ticks(low_x, high_x) {
        let x = scale.x_at(tick);
        svg += &format!(
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM + 16.0,
            short(tick)
        );
    }
    if let Some((at, label)) = mark {
        let x = scale.x_at(at);
        svg += &format!(
            "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"><title>{}</title></line>",
            HEIGHT - BOTTOM,
            escape(label)
        );
    }
    for (index, (name, points)) in cleaned.iter().enumerate() {
        let class = if index == 0 { "first" } else { "second" };
        let path: Vec<String> =
            points.iter().map(|&(x, y)| format!("{:.1},{:.1}", scale.x_at(x), scale.y_at(y))).collect();
        svg += &format!("<polyline class=\"line {class}\" points=\"{}\"/>", path.join(" "));
        // A dot shows a single epoch too, and carries the number for whoever points at it.
        if points.len() <= 60 {
            for &(x, y) in points {
                svg += &format!(
                    "<circle class=\"{class}-fill\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.4\"><title>{}, {} {}: {}</title></circle>",
                    scale.x_at(x),
                    scale.y_at(y),
                    escape(name),
                    escape(x_label),
                    short(x),
                    precise(y)
                );
            }
        }
        let x = LEFT + 110.0 * index as f64;
        svg += &format!(
            "<rect class=\"{class}-fill\" x=\"{x}\" y=\"9\" width=\"10\" height=\"4\" rx=\"2\"/><text x=\"{}\" y=\"15\">{}</text>",
            x + 15.0,
            escape(name)
        );
    }
    svg += &format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text></svg>",
        WIDTH - RIGHT,
        HEIGHT - 4.0,
        escape(x_label)
    );
    svg
}

/// The reliability curve: confidence against accuracy, with the share of samples as bars behind it.
pub(super) fn reliability(bins: &[crate::evaluate::Bin]) -> String {
    let total: u64 = bins.iter().map(|bin| bin.count).sum();
    let scale = Scale { x: (0.0, 1.0), y: (0.0, 1.0) };
    let mut svg = open("Confidence against accuracy");
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (x, y) = (scale.x_at(tick), scale.y_at(tick));
        svg += &format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            WIDTH - RIGHT
        );
        svg += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.0} %</text>",
            LEFT - 6.0,
            y + 4.0,
            tick * 100.0
        );
        svg += &format!(
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0} %</text>",
            HEIGHT - BOTTOM + 16.0,
            tick * 100.0
        );
    }
    for bin in bins.iter().filter(|bin| bin.count > 0) {
        let share = bin.count as f64 / total.max(1) as f64;
        let (left, right, top) = (scale.x_at(bin.low), scale.x_at(bin.high), scale.y_at(share));
        svg += &format!(
            "<rect class=\"first-fill\" opacity=\"0.16\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{} samples</title></rect>",
            left + 1.0,
            (right - left - 2.0).max(1.0),
            scale.y_at(0.0) - top,
            bin.count
        );
    }
    let at = |x: f64, y: f64| format!("{:.1},{:.1}", scale.x_at(x), scale.y_at(y));
    svg += &format!("<polyline class=\"ideal\" points=\"{} {}\"/>", at(0.0, 0.0), at(1.0, 1.0));
    let filled: Vec<_> = bins.iter().filter(|bin| bin.count > 0).collect();
    let path: Vec<String> = filled.iter().map(|bin| at(bin.confidence, bin.accuracy)).collect();
    svg += &format!("<polyline class=\"line second\" points=\"{}\"/>", path.join(" "));
    for bin in filled {
        svg += &format!(
            "<circle class=\"second-fill\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>said {:.1} %, right in {:.1} % of {}</title></circle>",
            scale.x_at(bin.confidence),
            scale.y_at(bin.accuracy),
            bin.confidence * 100.0,
            bin.accuracy * 100.0,
            bin.count
        );
    }
    svg += &format!(
        "<text x=\"{LEFT}\" y=\"15\">share that is right</text><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">probability that was told</text></svg>",
        WIDTH - RIGHT,
        HEIGHT - 4.0
    );
    svg
}

fn open(title: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escape(title))
}

struct Scale {
    x: (f64, f64),
    y: (f64, f64),
}

impl Scale {
    fn x_at(&self, value: f64) -> f64 {
        LEFT + share(value, self.x) * (WIDTH - LEFT - RIGHT)
    }

    fn y_at(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - share(value, self.y) * (HEIGHT - TOP - BOTTOM)
    }
}

/// Where a value stands between two ends; the middle when they are the same.
fn share(value: f64, (low, high): (f64, f64)) -> f64 {
    if high > low { (value - low) / (high - low) } else { 0.5 }
}

/// Four to eight round numbers that span the values.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let span = if high > low { high - low } else { low.abs().max(1.0) };
    let rough = span / 4.0;
    let magnitude = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|m| m * magnitude)
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let first = (low / step).floor();
    let count = (((high / step).ceil() - first) as usize).clamp(1, 12);
    (0..=count).map(|index| (first + index as f64) * step).collect()
}

/// Whole numbers, at most eight of them.
fn whole_ticks(low: f64, high: f64) -> Vec<f64> {
    let step = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
    let step = step.into_iter().find(|step| (high - low) / step <= 8.0).unwrap_or((high - low) / 8.0);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last).take(12).map(|index| index as f64 * step).collect()
}

/// Three significant digits, without zeros at the end.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor();
    if !(-4.0..7.0).contains(&magnitude) {
        return format!("{value:.1e}");
    }
    let digits = (2.0 - magnitude).max(0.0) as usize;
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn precise(value: f64) -> String {
    format!("{value:.5}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_span_the_values() {
        assert_eq!(ticks(0.0, 1.0), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(ticks(0.03, 2.31), [0.0, 1.0, 2.0, 3.0]);
        for (low, high) in [(0.0, 0.0), (5.0, 5.0), (-3.0, 1e9), (0.991, 0.9925)] {
            let ticks = ticks(low, high);
            assert!(ticks[0] <= low && *ticks.last().unwrap() >= high && ticks.len() <= 13, "{ticks:?}");
        }
    }

    #[test]
    fn labels_of_ticks_differ() {
        let cases = [
            (0.0, "0"),
            (0.0015, "0.0015"),
            (0.002, "0.002"),
            (0.25, "0.25"),
            (2.5, "2.5"),
            (20.0, "20"),
            (1250.0, "1250"),
            (1e-7, "1.0e-7"),
            (3e9, "3.0e9"),
            (-0.5, "-0.5"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn odd_values_draw_nothing_bad() {
        let series = |points| [Series { name: "<b>", points }];
        assert_eq!(lines("t", "epoch", &series(vec![]), None), "");
        assert_eq!(lines("t", "epoch", &series(vec![(1.0, f64::NAN)]), None), "");
        let one = lines("t", "epoch", &series(vec![(1.0, 0.5), (2.0, f64::INFINITY)]), Some((1.0, "best")));
        assert!(one.contains("&lt;b&gt;") && !one.contains("NaN") && !one.contains("inf"), "{one}");
    }
}
