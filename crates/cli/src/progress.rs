//! Progress: a live bar on a terminal, a line now and then otherwise, events with `--json`, nothing with
//! `--quiet`. All of it on stderr.

use std::fmt::Display;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;

use crate::output::{Format, Printer};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Bytes, shown as kB, MB or GB.
    Bytes,
    /// Things with a name for many of them: `images`, `rows`, `steps`.
    Count(&'static str),
}

/// A task under way. It may be advanced from several threads. Dropped without [`Progress::finish`], its bar
/// disappears.
#[derive(Debug)]
pub struct Progress {
    printer: Printer,
    task: String,
    meter: Meter,
    bar: Option<ProgressBar>,
    /// The last tenth for which a line was printed; without a total, the last count of five seconds.
    printed: Mutex<u64>,
    milestones_only: bool,
}

/// Counting and arithmetic, apart from printing.
#[derive(Debug)]
struct Meter {
    unit: Unit,
    total: Option<u64>,
    begun_with: u64,
    done: AtomicU64,
    started: Instant,
}

#[derive(Serialize)]
struct ProgressEvent<'a> {
    event: &'static str,
    task: &'a str,
    done: u64,
    total: Option<u64>,
    per_second: f64,
    eta_seconds: Option<f64>,
}

impl Printer {
    /// Begins to show a task of `total` units, as far as that is known.
    pub fn progress(&self, task: &str, unit: Unit, total: Option<u64>) -> Progress {
        self.progress_from(task, unit, 0, total)
    }

    /// As [`Printer::progress`], for a task of which `done` units were done in an earlier run: they count
    /// as done, and not as speed.
    pub fn progress_from(&self, task: &str, unit: Unit, done: u64, total: Option<u64>) -> Progress {
        let meter = Meter { unit, total, begun_with: done, done: done.into(), started: Instant::now() };
        let bar = self.is_live().then(|| self.bars.add(bar(task, unit, done, total)));
        Progress {
            printer: self.clone(),
            task: task.to_owned(),
            meter,
            bar,
            printed: Mutex::new(0),
            milestones_only: false,
        }
    }
}

fn bar(task: &str, unit: Unit, done: u64, total: Option<u64>) -> ProgressBar {
    let bar = ProgressBar::no_length().with_position(done).with_prefix(task.to_owned());
    let (count, rate) = match unit {
        Unit::Bytes => ("{bytes}/{total_bytes}", "{bytes_per_sec}".to_owned()),
        Unit::Count(name) => ("{human_pos}/{human_len}", format!("{{rate}} {name}/s")),
    };
    let template = match total {
        Some(total) => {
            bar.set_length(total);
            format!("{{prefix}} {{bar:24.cyan/dim}} {count}  {rate}  ETA {{eta}}  {{wide_msg}}")
        }
        None => format!("{{prefix}} {{spinner}} {{human_pos}}  {rate}  {{wide_msg}}"),
    };
    // A template that indicatif refused would be a mistake of ours; its default still shows progress.
    if let Ok(style) = ProgressStyle::with_template(&template) {
        let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Nothing can be done about a failed write into the line.
            let _ = out.write_str(&rounded(state.per_sec()));
        };
        bar.set_style(style.with_key("rate", rate).progress_chars("━━─"));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

impl Progress {
    /// Without a terminal, print milestones only and no line for each tenth.
    #[must_use]
    pub fn milestones_only(mut self) -> Self {
        self.milestones_only = true;
        self
    }

    /// `units` more are done.
    pub fn advance(&self, units: u64) {
        let done = self.meter.done.fetch_add(units, Ordering::Relaxed) + units;
        self.moved_to(done);
    }

    /// `done` units are done in all.
    pub fn set(&self, done: u64) {
        self.meter.done.store(done, Ordering::Relaxed);
        self.moved_to(done);
    }

    fn moved_to(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            return;
        }
        if self.printer.quiet || self.milestones_only {
            return;
        }
        let mark = self.meter.mark(self.meter.started.elapsed());
        // A poisoned lock means that another thread panicked while printing; progress goes on.
        let mut printed = self.printed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if mark > *printed {
            *printed = mark;
            match self.printer.format {
                Format::Human => {
                    self.printer.stderr(&self.meter.line(&self.task, self.meter.started.elapsed()))
                }
                Format::Json => {
                    self.printer.event(&self.meter.event(&self.task, self.meter.started.elapsed()))
                }
            }
        }
    }

    /// The words at the end of the live bar: the current loss, the file being read. Shown live only.
    pub fn message(&self, text: impl Into<String>) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.into());
        }
    }

    /// Something worth a line of its own: an epoch has ended. `human` is printed above the bar or as a
    /// plain line, `event` with `--json`; nothing with `--quiet`.
    pub fn milestone<T: Serialize, D: Display>(&self, event: &T, human: impl FnOnce() -> D) {
        self.printer.milestone(event, human);
    }

    /// Units per second since this run began.
    pub fn per_second(&self) -> f64 {
        self.meter.per_second(self.meter.started.elapsed())
    }

    /// The time that the rest takes at this speed.
    pub fn eta(&self) -> Option<Duration> {
        self.meter.eta(self.meter.started.elapsed())
    }

    /// The time since this run of the task began.
    pub fn elapsed(&self) -> Duration {
        self.meter.started.elapsed()
    }

    /// The task is over: removes the bar.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Meter {
    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn per_second(&self, elapsed: Duration) -> f64 {
        let done = self.done().saturating_sub(self.begun_with) as f64;
        if elapsed.is_zero() { 0.0 } else { done / elapsed.as_secs_f64() }
    }

    fn eta(&self, elapsed: Duration) -> Option<Duration> {
        let rest = self.total?.saturating_sub(self.done());
        let seconds = rest as f64 / self.per_second(elapsed);
        // Not finite before the first unit is done.
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Grows with every tenth of a known total, otherwise every five seconds; a line is due when it grew.
    fn mark(&self, elapsed: Duration) -> u64 {
        match self.total {
            Some(total) if total > 0 => (u128::from(self.done().min(total)) * 10 / u128::from(total)) as u64,
            _ => elapsed.as_secs() / 5,
        }
    }

    fn line(&self, task: &str, elapsed: Duration) -> String {
        let (done, rate) = (self.done(), self.per_second(elapsed));
        let show = |value: u64| match self.unit {
            Unit::Bytes => bytes(value),
            Unit::Count(_) => grouped(value),
        };
        let rate = match self.unit {
            Unit::Bytes => format!("{}/s", bytes(rate as u64)),
            Unit::Count(name) => format!("{} {name}/s", rounded(rate)),
        };
        match (self.total, self.eta(elapsed)) {
            (Some(total), _) if done >= total => format!("{task}: {} done, {rate}", show(total)),
            (Some(total), eta) => {
                let percent = u128::from(done) * 100 / u128::from(total.max(1));
                let eta = eta.map_or("?".to_owned(), duration);
                format!("{task}: {percent} % ({} of {}), {rate}, ETA {eta}", show(done), show(total))
            }
            (None, _) => format!("{task}: {}, {rate}", show(done)),
        }
    }

    fn event<'a>(&self, task: &'a str, elapsed: Duration) -> ProgressEvent<'a> {
        ProgressEvent {
            event: "progress",
            task,
            done: self.done(),
            total: self.total,
            per_second: self.per_second(elapsed),
            eta_seconds: self.eta(elapsed).map(|eta| eta.as_secs_f64()),
        }
    }
}

/// A count with separators: `60,000`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size in decimal units: `11.6 MB`.
pub fn bytes(value: u64) -> String {
    let mut scaled = value as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if scaled < 999.95 {
            return if unit == "B" { format!("{value} B") } else { format!("{scaled:.1} {unit}") };
        }
        scaled /= 1000.0;
    }
    format!("{scaled:.1} TB")
}

/// A time as a person says it: `320 ms`, `4.2 s`, `3 min 5 s`, `2 h 10 min`.
pub fn duration(value: Duration) -> String {
    let seconds = value.as_secs_f64();
    if seconds < 0.9995 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    if whole < 3600 {
        return format!("{} min {} s", whole / 60, whole % 60);
    }
    let minutes = (whole + 30) / 60;
    format!("{} h {} min", minutes / 60, minutes % 60)
}

/// A rate with about three digits.
fn rounded(rate: f64) -> String {
    if rate < 9.95 { format!("{rate:.1}") } else { grouped(rate.round() as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json_line;

    fn meter(unit: Unit, total: Option<u64>, begun_with: u64, done: u64) -> Meter {
        Meter { unit, total, begun_with, done: done.into(), started: Instant::now() }
    }

    #[test]
    fn lines_say_how_far_how_fast_and_how_long() {
        let second = Duration::from_secs(1);
        let cases = [
            (
                meter(Unit::Bytes, Some(11_600_000), 0, 5_800_000),
                "x: 50 % (5.8 MB of 11.6 MB), 2.9 MB/s, ETA 2.0 s",
            ),
            // What an earlier run fetched counts as done, not as speed.
            (meter(Unit::Bytes, Some(4000), 2000, 3000), "x: 75 % (3.0 kB of 4.0 kB), 500 B/s, ETA 2.0 s"),
            (meter(Unit::Count("images"), Some(60_000), 0, 60_000), "x: 60,000 done, 30,000 images/s"),
            (meter(Unit::Count("rows"), None, 0, 7), "x: 7, 3.5 rows/s"),
            (meter(Unit::Count("rows"), Some(9), 0, 0), "x: 0 % (0 of 9), 0.0 rows/s, ETA ?"),
            (meter(Unit::Count("rows"), Some(0), 0, 0), "x: 0 done, 0.0 rows/s"),
        ];
        for (meter, expected) in cases {
            assert_eq!(meter.line("x", 2 * second), expected);
        }
    }

    #[test]
    fn a_line_is_due_at_each_tenth_or_every_five_seconds() {
        let second = Duration::from_secs(1);
        assert_eq!(meter(Unit::Bytes, Some(u64::MAX), 0, u64::MAX / 2).mark(second), 4);
        assert_eq!(meter(Unit::Bytes, Some(10), 0, 12).mark(second), 10);
        assert_eq!(meter(Unit::Bytes, None, 0, 12).mark(11 * second), 2);
    }

    #[test]
    fn events_are_json() {
        let meter = meter(Unit::Count("images"), Some(100), 0, 25);
        let event = meter.event("train", Duration::from_secs(1));
        insta::assert_snapshot!(json_line(&event).unwrap(), @r#"{"json_version":1,"event":"progress","task":"train","done":25,"total":100,"per_second":25.0,"eta_seconds":3.0}"#);
    }

    #[test]
    fn quantities_read_well() {
        for (value, expected) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (u64::MAX, "18446744.1 TB")]
        {
            assert_eq!(bytes(value), expected);
        }
        for (value, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(value), expected);
        }
        for (millis, expected) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1.0 s"),
            (59_960, "1 min 0 s"),
            (185_000, "3 min 5 s"),
            (7_800_000, "2 h 10 min"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn quiet_and_hidden_progress_can_be_driven_from_threads() {
        let progress = Printer::new(Format::Human, true).progress("x", Unit::Count("steps"), Some(100));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..25).for_each(|_| progress.advance(1)));
            }
        });
        assert_eq!(progress.meter.done(), 100);
        progress.finish();
    }
}
