//! Round numbers along an axis, and how numbers are written there.

/// What the numbers of an axis count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    Number,
    /// A share, written as per cent.
    Percent,
    /// Bytes, in decimal units.
    Bytes,
    /// Microseconds, written in the unit that fits.
    Microseconds,
    /// A count, in thousands, millions and so on.
    Count,
}

impl Unit {
    /// A number beside an axis whose neighbouring numbers are `step` away.
    pub(super) fn tick(self, value: f64, step: f64) -> String {
        match self {
            Self::Number => short(value),
            Self::Percent => format!("{} %", decimals(100.0 * value, 100.0 * step)),
            Self::Bytes => scaled(value, 1000.0, &["B", "kB", "MB", "GB", "TB"]),
            Self::Microseconds => scaled(value, 1000.0, &["µs", "ms", "s"]),
            Self::Count => scaled(value, 1000.0, &["", "k", "M", "G", "T"]).trim_end().to_owned(),
        }
    }
}

/// With as many decimals as tell one step from the next.
fn decimals(value: f64, step: f64) -> String {
    let digits = (0..4).find(|&digits| {
        let scaled = step * 10f64.powi(digits);
        scaled >= 0.999 && (scaled - scaled.round()).abs() < 1e-6
    });
    format!("{value:.*}", usize::try_from(digits.unwrap_or(4)).unwrap_or(4))
}

fn scaled(value: f64, base: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    while value.abs() >= base * 0.9995 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{} {}", short(value), units[unit])
}

/// Four to eight round numbers that span the values.
pub(super) fn ticks(low: f64, high: f64) -> Vec<f64> {
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
pub(super) fn whole_ticks(low: f64, high: f64) -> Vec<f64> {
    let step = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
    let step = step.into_iter().find(|step| (high - low) / step <= 8.0).unwrap_or((high - low) / 8.0);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last).take(12).map(|index| index as f64 * step).collect()
}

/// One, two and five times powers of ten between two numbers above 0; powers of ten alone where those are many.
pub(super) fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let of = |factors: &[f64], every: usize| -> Vec<f64> {
        (first..=last)
            .step_by(every)
            .flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)))
            .filter(|tick| (low..=high).contains(tick))
            .collect()
    };
    let fine = of(&[1.0, 2.0, 5.0], 1);
    if fine.len() <= 7 {
        return fine;
    }
    of(&[1.0], usize::try_from((last - first) / 7 + 1).unwrap_or(1))
}

/// Three significant digits, without zeros at the end.
pub(super) fn short(value: f64) -> String {
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

pub(super) fn precise(value: f64) -> String {
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
    fn logarithmic_ticks_are_few_and_within() {
        let close = |a: &[f64], b: &[f64]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a / b - 1.0).abs() < 1e-9)
        };
        assert!(close(&log_ticks(3.0, 40.0), &[5.0, 10.0, 20.0]));
        assert!(close(&log_ticks(900.0, 2e6), &[1e3, 1e4, 1e5, 1e6]));
        for (low, high) in [(1e-9, 1e12), (1.0, 1.5), (2e3, 2e5)] {
            let ticks = log_ticks(low, high);
            assert!(ticks.len() <= 9, "{ticks:?}");
            assert!(ticks.iter().all(|tick| (low..=high).contains(tick)), "{ticks:?}");
        }
    }

    #[test]
    fn numbers_stand_in_their_unit() {
        let cases = [
            (Unit::Number, 0.25, 0.25, "0.25"),
            (Unit::Percent, 0.98, 0.01, "98 %"),
            (Unit::Percent, 0.985, 0.005, "98.5 %"),
            (Unit::Percent, 0.9825, 0.0025, "98.25 %"),
            (Unit::Percent, 1.0, 0.0025, "100.00 %"),
            (Unit::Bytes, 0.0, 1e5, "0 B"),
            (Unit::Bytes, 2e5, 1e5, "200 kB"),
            (Unit::Bytes, 2.5e6, 1e5, "2.5 MB"),
            (Unit::Microseconds, 50.0, 10.0, "50 µs"),
            (Unit::Microseconds, 1500.0, 10.0, "1.5 ms"),
            (Unit::Count, 5e5, 1e5, "500 k"),
            (Unit::Count, 0.0, 1e5, "0"),
            (Unit::Count, 4.1e7, 1e7, "41 M"),
        ];
        for (unit, value, step, text) in cases {
            assert_eq!(unit.tick(value, step), text);
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
}
