//! The box that a chart is drawn in: where values stand, grid lines, and the numbers beside them.

use super::html::escape;

/// One direction: the values at its two ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    pub(super) fn linear(low: f64, high: f64) -> Self {
        Self { low, high, log: false }
    }

    /// Both ends are above 0.
    pub(super) fn log(low: f64, high: f64) -> Self {
        Self { low, high, log: true }
    }

    /// Where a value stands between the ends; the middle when they are the same.
    fn share(&self, value: f64) -> f64 {
        let of = |value: f64| if self.log { value.ln() } else { value };
        let (low, high) = (of(self.low), of(self.high));
        if high > low { (of(value) - low) / (high - low) } else { 0.5 }
    }
}

/// Sizes are in the units of the drawing, which the page scales to the place that there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
    pub(super) x: Axis,
    pub(super) y: Axis,
}

impl Frame {
    /// The usual size.
    pub(super) fn new(x: Axis, y: Axis) -> Self {
        Self { width: 480.0, height: 250.0, left: 52.0, right: 22.0, top: 26.0, bottom: 34.0, x, y }
    }

    pub(super) fn open(&self, title: &str) -> String {
        let (width, height) = (self.width, self.height);
        format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">", escape(title))
    }

    pub(super) fn x_at(&self, value: f64) -> f64 {
        self.left + self.x.share(value) * (self.width - self.left - self.right)
    }

    pub(super) fn y_at(&self, value: f64) -> f64 {
        self.floor() - self.y.share(value) * (self.floor() - self.top)
    }

    /// The lower edge of what is drawn.
    pub(super) fn floor(&self) -> f64 {
        self.height - self.bottom
    }

    /// Lines across, with numbers to their left.
    pub(super) fn y_grid(&self, ticks: &[f64], text: impl Fn(f64) -> String) -> String {
        let (left, right) = (self.left, self.width - self.right);
        let line = |&tick: &f64| {
            let y = self.y_at(tick);
            format!(
                "<line class=\"grid\" x1=\"{left}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 6.0,
                y + 4.0,
                escape(&text(tick))
            )
        };
        ticks.iter().map(line).collect()
    }

    /// Numbers below.
    pub(super) fn x_numbers(&self, ticks: &[f64], text: impl Fn(f64) -> String) -> String {
        let y = self.floor() + 16.0;
        let number = |&tick: &f64| {
            format!(
                "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
                self.x_at(tick),
                escape(&text(tick))
            )
        };
        ticks.iter().map(number).collect()
    }

    /// What stands below the numbers, and the end of the drawing.
    pub(super) fn close(&self, x_label: &str) -> String {
        format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text></svg>",
            self.width - self.right,
            self.height - 4.0,
            escape(x_label)
        )
    }
}
