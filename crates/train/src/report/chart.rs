//! Charts as SVG that takes its colours from the page.

use super::frame::{Axis, Frame};
use super::html::escape;
pub use super::scatter::{Mark, Point, Scatter, scatter};
pub use super::ticks::Unit;
use super::ticks::{precise, short, ticks, whole_ticks};

/// One line of a chart.
pub struct Series<'a> {
    /// What it shows.
    pub name: &'a str,
    /// x and y; points whose y is not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// A line chart of one or two series over whole numbers such as epochs; `mark` is a vertical line.
#[must_use]
pub fn lines(title: &str, x_label: &str, series: &[Series<'_>], mark: Option<(f64, &str)>) -> String {
    let cleaned: Vec<(&str, Vec<(f64, f64)>)> =
        series.iter().map(|series| (series.name, finite(&series.points))).collect();
    let all = || cleaned.iter().flat_map(|(_, points)| points.iter());
    let (Some((low_x, high_x)), Some((low_y, high_y))) =
        (range(all().map(|point| point.0)), range(all().map(|point| point.1)))
    else {
        return String::new();
    };
    let ticks = ticks(low_y, high_y);
    let (low_y, high_y) = (ticks[0].min(low_y), ticks[ticks.len() - 1].max(high_y));
    let frame = Frame::new(Axis::linear(low_x, high_x), Axis::linear(low_y, high_y));
    let mut svg = frame.open(title);
    svg += &frame.y_grid(&ticks, short);
    svg += &frame.x_numbers(&whole_ticks(low_x, high_x), short);
    if let Some((at, label)) = mark {
        let x = frame.x_at(at);
        svg += &format!(
            "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{:.1}\"><title>{}</title></line>",
            frame.top,
            frame.floor(),
            escape(label)
        );
    }
    for (index, (name, points)) in cleaned.iter().enumerate() {
        let class = if index == 0 { "first" } else { "second" };
        svg += &line(&frame, class, points);
        // A dot shows a single epoch too, and carries the number for whoever points at it.
        if points.len() <= 60 {
            for &(x, y) in points {
                svg += &format!(
                    "<circle class=\"{class}-fill\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.4\"><title>{}, {} {}: {}</title></circle>",
                    frame.x_at(x),
                    frame.y_at(y),
                    escape(name),
                    escape(x_label),
                    short(x),
                    precise(y)
                );
            }
        }
        let x = frame.left + 110.0 * index as f64;
        svg += &format!(
            "<rect class=\"{class}-fill\" x=\"{x}\" y=\"9\" width=\"10\" height=\"4\" rx=\"2\"/><text x=\"{}\" y=\"15\">{}</text>",
            x + 15.0,
            escape(name)
        );
    }
    svg + &frame.close(x_label)
}

/// A small line chart over shares from 0 to 1, one of several that are read side by side: all of them have the
/// same `y` ends. `level` is a dashed line across.
#[must_use]
pub fn small(
    title: &str,
    points: &[(f64, f64)],
    y: (f64, f64),
    y_unit: Unit,
    level: Option<f64>,
    x_label: &str,
) -> String {
    let points = finite(points);
    if points.is_empty() || !y.0.is_finite() || !y.1.is_finite() {
        return String::new();
    }
    let ticks = ticks(y.0, y.1);
    let step = ticks[1] - ticks[0];
    let y_axis = Axis::linear(ticks[0].min(y.0), ticks[ticks.len() - 1].max(y.1));
    let frame = Frame {
        width: 260.0,
        height: 160.0,
        left: 50.0,
        right: 20.0,
        top: 10.0,
        ..Frame::new(Axis::linear(0.0, 1.0), y_axis)
    };
    let mut svg = frame.open(title);
    svg += &frame.y_grid(&ticks, |tick| y_unit.tick(tick, step));
    svg += &frame.x_numbers(&[0.0, 0.25, 0.5, 0.75, 1.0], |tick| Unit::Percent.tick(tick, 0.25));
    if let Some(level) = level.filter(|level| (y.0..=y.1).contains(level)) {
        svg += &line(&frame, "ideal", &[(0.0, level), (1.0, level)]);
    }
    svg += &line(&frame, "second", &points);
    for &(x, y) in &points {
        svg += &format!(
            "<circle class=\"second-fill\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\"><title>{:.0} %: {}</title></circle>",
            frame.x_at(x),
            frame.y_at(y),
            100.0 * x,
            precise(y)
        );
    }
    svg + &frame.close(x_label)
}

/// The reliability curve: confidence against accuracy, with the share of samples as bars behind it.
pub(super) fn reliability(bins: &[crate::evaluate::Bin]) -> String {
    let total: u64 = bins.iter().map(|bin| bin.count).sum();
    let frame = Frame::new(Axis::linear(0.0, 1.0), Axis::linear(0.0, 1.0));
    let quarters = [0.0, 0.25, 0.5, 0.75, 1.0];
    let percent = |tick| Unit::Percent.tick(tick, 0.25);
    let mut svg = frame.open("Confidence against accuracy");
    svg += &frame.y_grid(&quarters, percent);
    svg += &frame.x_numbers(&quarters, percent);
    for bin in bins.iter().filter(|bin| bin.count > 0) {
        let share = bin.count as f64 / total.max(1) as f64;
        let (left, right, top) = (frame.x_at(bin.low), frame.x_at(bin.high), frame.y_at(share));
        svg += &format!(
            "<rect class=\"first-fill\" opacity=\"0.16\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{} samples</title></rect>",
            left + 1.0,
            (right - left - 2.0).max(1.0),
            frame.floor() - top,
            bin.count
        );
    }
    svg += &line(&frame, "ideal", &[(0.0, 0.0), (1.0, 1.0)]);
    let filled: Vec<_> = bins.iter().filter(|bin| bin.count > 0).collect();
    let path: Vec<(f64, f64)> = filled.iter().map(|bin| (bin.confidence, bin.accuracy)).collect();
    svg += &line(&frame, "second", &path);
    for bin in filled {
        svg += &format!(
            "<circle class=\"second-fill\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>said {:.1} %, right in {:.1} % of {}</title></circle>",
            frame.x_at(bin.confidence),
            frame.y_at(bin.accuracy),
            bin.confidence * 100.0,
            bin.accuracy * 100.0,
            bin.count
        );
    }
    svg += &format!("<text x=\"{}\" y=\"15\">share that is right</text>", frame.left);
    svg + &frame.close("probability that was told")
}

/// A line through points; `class` gives its colour.
fn line(frame: &Frame, class: &str, points: &[(f64, f64)]) -> String {
    let path: Vec<String> =
        points.iter().map(|&(x, y)| format!("{:.1},{:.1}", frame.x_at(x), frame.y_at(y))).collect();
    format!("<polyline class=\"line {class}\" points=\"{}\"/>", path.join(" "))
}

fn finite(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
}

/// The smallest and the largest; nothing of nothing.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_values_draw_nothing_bad() {
        let series = |points| [Series { name: "<b>", points }];
        assert_eq!(lines("t", "epoch", &series(vec![]), None), "");
        assert_eq!(lines("t", "epoch", &series(vec![(1.0, f64::NAN)]), None), "");
        let one = lines("t", "epoch", &series(vec![(1.0, 0.5), (2.0, f64::INFINITY)]), Some((1.0, "best")));
        assert!(one.contains("&lt;b&gt;") && !one.contains("NaN") && !one.contains("inf"), "{one}");

        let small =
            |points: &[(f64, f64)]| small("<b>", points, (0.9, 0.99), Unit::Percent, Some(0.99), "kept");
        assert_eq!(small(&[]), "");
        assert_eq!(small(&[(f64::NAN, 1.0)]), "");
        let one = small(&[(0.5, 0.9), (1.0, f64::NAN)]);
        assert!(one.contains("&lt;b&gt;") && !one.contains("NaN"), "{one}");
        assert!(one.contains(">50 %<") && one.matches("<circle").count() == 1, "{one}");
    }
}
