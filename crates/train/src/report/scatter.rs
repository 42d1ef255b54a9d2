//! Points with names: a score against a cost, for models that are compared.

use super::chart::range;
use super::frame::{Axis, Frame};
use super::html::escape;
use super::ticks::{Unit, log_ticks, ticks};

/// How a point looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// What the others are compared with.
    Reference,
    /// One of the others.
    Other,
    /// One that was tried and not taken.
    Hollow,
}

/// One point; its number is its place in the list, from 1 on.
#[derive(Clone, Debug)]
pub struct Point<'a> {
    /// What it is; written beside the point where there is room.
    pub name: &'a str,
    /// How it looks.
    pub mark: Mark,
    /// Where it stands; what is not finite is not drawn.
    pub x: f64,
    /// Where it stands.
    pub y: f64,
    /// Between which values `y` may be.
    pub interval: Option<[f64; 2]>,
}

/// What the axes say.
#[derive(Clone, Copy, Debug)]
pub struct Scatter<'a> {
    /// For those who do not see the chart.
    pub title: &'a str,
    /// What x is, and in which unit.
    pub x: (&'a str, Unit),
    /// What y is, and in which unit.
    pub y: (&'a str, Unit),
}

/// Costs that differ by more than this factor are drawn on a logarithmic axis.
const LINEAR: f64 = 6.0;
/// The radius of a point, which holds a number.
const RADIUS: f64 = 8.0;
/// How wide a letter of a name is, about.
const LETTER: f64 = 6.4;
/// Longer names are cut beside a point; the table has them in full.
const NAME: usize = 22;

/// A chart of points with names and intervals. x is drawn from 0 on, or as a logarithm where the values differ much.
/// Points that would cover one another are moved apart sideways.
#[must_use]
pub fn scatter(axes: &Scatter<'_>, points: &[Point<'_>]) -> String {
    let drawn: Vec<(usize, &Point<'_>)> = points
        .iter()
        .enumerate()
        .filter(|(_, point)| point.x.is_finite() && point.x >= 0.0 && point.y.is_finite())
        .collect();
    let ends = |point: &Point<'_>| point.interval.filter(|ends| ends.iter().all(|end| end.is_finite()));
    let heights = drawn
        .iter()
        .flat_map(|(_, point)| [Some(point.y), ends(point).map(|e| e[0]), ends(point).map(|e| e[1])]);
    let (Some((low_x, high_x)), Some((low_y, high_y))) =
        (range(drawn.iter().map(|(_, point)| point.x)), range(heights.flatten()))
    else {
        return String::new();
    };
    let log = low_x > 0.0 && high_x / low_x > LINEAR;
    let (x, x_ticks) = if log {
        let (low, high) = (low_x / 1.25, high_x * 1.25);
        (Axis::log(low, high), log_ticks(low, high))
    } else {
        let high = if high_x > 0.0 { high_x * 1.12 } else { 1.0 };
        let ticks = ticks(0.0, high).into_iter().filter(|tick| *tick <= high).collect();
        (Axis::linear(0.0, high), ticks)
    };
    let y_ticks = ticks(low_y, high_y);
    let step = y_ticks[1] - y_ticks[0];
    let y = Axis::linear(y_ticks[0].min(low_y), y_ticks[y_ticks.len() - 1].max(high_y));
    let frame = Frame { width: 400.0, height: 270.0, left: 56.0, right: 22.0, ..Frame::new(x, y) };

    let mut svg = frame.open(axes.title);
    svg += &frame.y_grid(&y_ticks, |tick| axes.y.1.tick(tick, step));
    svg += &frame.x_numbers(&x_ticks, |tick| axes.x.1.tick(tick, tick));
    svg += &format!("<text x=\"4\" y=\"13\">{}</text>", escape(axes.y.0));
    let centres = apart(&frame, drawn.iter().map(|(_, point)| (frame.x_at(point.x), frame.y_at(point.y))));
    let mut taken: Vec<Place> = Vec::new();
    let mut whiskers: Vec<Place> = Vec::new();
    for ((_, point), &(x, y)) in drawn.iter().zip(&centres) {
        taken.push(Place::around(x, y, RADIUS));
        if let Some([low, high]) = ends(point) {
            let (top, bottom) = (frame.y_at(high), frame.y_at(low));
            whiskers.push(Place { left: x - 4.0, right: x + 4.0, top, bottom });
            svg += &format!(
                "<path class=\"whisker {}\" d=\"M{x:.1} {top:.1}V{bottom:.1}M{:.1} {top:.1}h8M{:.1} {bottom:.1}h8\"/>",
                class(point.mark),
                x - 4.0,
                x - 4.0
            );
        }
    }
    // The first are drawn last, so that nothing hides the reference.
    for ((index, point), (x, y)) in drawn.iter().zip(&centres).rev() {
        svg += &format!(
            "<g class=\"point {}\"><title>{}: {}, {}</title><circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{RADIUS}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text></g>",
            class(point.mark),
            escape(point.name),
            escape(&axes.y.1.tick(point.y, step / 10.0)),
            escape(&axes.x.1.tick(point.x, point.x)),
            y + 3.6,
            index + 1
        );
    }
    for ((_, point), &at) in drawn.iter().zip(&centres) {
        let name = cut(point.name);
        if let Some(label) = free(&frame, &name, at, &taken, &whiskers) {
            svg += &format!(
                "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                label.left,
                label.bottom - 3.0,
                escape(&name)
            );
            taken.push(label);
        }
    }
    let scale = if log { ", logarithmic" } else { "" };
    svg + &frame.close(&format!("{}{scale}", axes.x.0))
}

fn class(mark: Mark) -> &'static str {
    match mark {
        Mark::Reference => "first",
        Mark::Other => "second",
        Mark::Hollow => "second hollow",
    }
}

fn cut(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    let kept: String = name.chars().take(NAME - 1).collect();
    format!("{kept}…")
}

/// Where points are drawn: where they stand, or beside those before them that they would cover.
fn apart(frame: &Frame, places: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let gap = 2.0 * RADIUS + 1.0;
    let mut centres: Vec<(f64, f64)> = Vec::new();
    for (x, y) in places {
        let covered = |at: f64| {
            centres.iter().any(|&(other, level)| (at - other).abs() < gap && (y - level).abs() < gap)
        };
        let inside = |at: &f64| (frame.left + RADIUS..=frame.width - RADIUS).contains(at);
        let steps = (0..16).flat_map(|step| [0.5 * f64::from(step), -0.5 * f64::from(step)]);
        let moved = steps.map(|step| x + step * gap).filter(inside).find(|&at| !covered(at));
        centres.push((moved.unwrap_or(x), y));
    }
    centres
}

/// A rectangle of the drawing.
#[derive(Clone, Copy, Debug)]
struct Place {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Place {
    fn around(x: f64, y: f64, radius: f64) -> Self {
        Self { left: x - radius, right: x + radius, top: y - radius, bottom: y + radius }
    }

    fn meets(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

/// Where the name of a point can stand without covering another name, a point or, if possible, an interval.
fn free(frame: &Frame, name: &str, (x, y): (f64, f64), taken: &[Place], whiskers: &[Place]) -> Option<Place> {
    let width = LETTER * name.chars().count() as f64;
    let (beside, above, below) = (RADIUS + 4.0, -RADIUS - 9.0, RADIUS + 9.0);
    let starts = [
        (x + beside, 0.0),
        (x - beside - width, 0.0),
        (x + 7.0, above),
        (x + 7.0, below),
        (x - 7.0 - width, above),
        (x - 7.0 - width, below),
        (x - width / 2.0, above - 3.0),
        (x - width / 2.0, below + 3.0),
        (x + 7.0, above - 14.0),
        (x + 7.0, below + 14.0),
        (x - 7.0 - width, above - 14.0),
        (x - 7.0 - width, below + 14.0),
    ];
    let places = starts.map(|(left, shift)| Place {
        left,
        right: left + width,
        top: y + shift - 7.0,
        bottom: y + shift + 7.0,
    });
    let inside = |place: &Place| {
        place.left >= frame.left
            && place.right <= frame.width - 2.0
            && place.top >= 14.0
            && place.bottom <= frame.floor()
    };
    let open = |place: &&Place| inside(place) && !taken.iter().any(|other| place.meets(other));
    let clear = |place: &&Place| open(place) && !whiskers.iter().any(|other| place.meets(other));
    places.iter().find(clear).or_else(|| places.iter().find(open)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AXES: Scatter<'static> =
        Scatter { title: "accuracy against size", x: ("bytes", Unit::Bytes), y: ("accuracy", Unit::Percent) };

    fn point(name: &str, x: f64, y: f64) -> Point<'_> {
        Point { name, mark: Mark::Other, x, y, interval: Some([y - 0.01, y + 0.01]) }
    }

    #[test]
    fn every_point_is_drawn_with_its_number_and_name() {
        let points = [point("a<b@1", 4e5, 0.98), point("b@2", 1e5, 0.975), point("none", f64::NAN, 0.9)];
        let svg = scatter(&AXES, &points);
        assert_eq!((svg.matches("<circle").count(), svg.matches("class=\"whisker").count()), (2, 2));
        for part in
            [">1</text>", ">2</text>", "a&lt;b@1: 98", ">b@2</text>", ">98 %</text>", ">400 kB</text>"]
        {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("logarithmic"), "{svg}");
    }

    #[test]
    fn sizes_far_apart_stand_on_a_logarithmic_axis() {
        let svg = scatter(&AXES, &[point("a@1", 1e6, 0.98), point("b@2", 7e3, 0.975)]);
        assert!(svg.contains("bytes, logarithmic") && svg.contains(">100 kB<"), "{svg}");
    }

    #[test]
    fn odd_values_draw_nothing_bad() {
        assert_eq!(scatter(&AXES, &[]), "");
        assert_eq!(scatter(&AXES, &[point("x", f64::INFINITY, 1.0), point("y", 1.0, f64::NAN)]), "");
        for (x, y) in [(0.0, 0.0), (1.0, 1.0), (1e300, -1e300), (1e-300, 1e-300)] {
            let alone = scatter(&AXES, &[Point { interval: Some([f64::NAN, 1.0]), ..point("x", x, y) }]);
            assert!(alone.matches("<circle").count() == 1, "{alone}");
            assert!(!alone.contains("NaN") && !alone.contains("inf"), "{x} {y}: {alone}");
        }
    }

    #[test]
    fn points_do_not_cover_one_another() {
        let frame = Frame::new(Axis::linear(0.0, 1.0), Axis::linear(0.0, 1.0));
        let centres =
            apart(&frame, [(100.0, 100.0), (100.0, 101.0), (103.0, 99.0), (100.0, 150.0)].into_iter());
        assert_eq!((centres[0], centres[3]), ((100.0, 100.0), (100.0, 150.0)));
        for (index, a) in centres.iter().enumerate() {
            for b in &centres[index + 1..] {
                assert!((a.0 - b.0).abs() >= 16.0 || (a.1 - b.1).abs() >= 16.0, "{centres:?}");
            }
        }
        assert!(centres.iter().all(|centre| (centre.0 - 100.0).abs() < 40.0), "{centres:?}");
    }

    /// Names that would cover one another are left out; the number stays.
    #[test]
    fn names_do_not_cover_one_another() {
        let names: Vec<String> = (0..30).map(|index| format!("a-long-name@{index}")).collect();
        let points: Vec<Point<'_>> =
            names.iter().map(|name| Point { interval: None, ..point(name, 1e5, 0.98) }).collect();
        let svg = scatter(&AXES, &points);
        let shown = svg.matches("class=\"name\"").count();
        assert_eq!(svg.matches("<circle").count(), 30);
        assert!((1..=24).contains(&shown), "{shown}");
    }
}
