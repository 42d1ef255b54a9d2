//! What clients may change while the server runs, where the configuration lets them: what is logged and what is
//! traced, in the words of Triton's extensions.
//!
//! A trace is a line of the log with the times of one request, and spans where there is a collector for them
//! ([`crate::telemetry`]), whatever its sampler says; the rate says how many requests there are for each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};
use tracing::level_filters::LevelFilter;

use crate::error::{Kind, Result, ServeError, shown, suggestion};

/// The settings as they are now.
#[derive(Debug)]
pub struct Settings {
    log: Mutex<Log>,
    trace: Mutex<Traces>,
    /// Whether any model is traced: almost always none is, and then no request takes the lock.
    traces: AtomicBool,
    /// Whether a collector gets them too.
    exported: AtomicBool,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Log {
    info: bool,
    warning: bool,
    error: bool,
    verbose: u64,
}

/// What is traced: of every model, and of those that have settings of their own.
#[derive(Clone, Debug, Default)]
struct Traces {
    all: Counted,
    models: BTreeMap<String, Counted>,
}

/// What of a model is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trace {
    on: bool,
    rate: u64,
    /// How many traces are still to be written; nothing: no end.
    count: Option<u64>,
}

/// A setting, and how many requests it has seen since it was made.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    trace: Trace,
    seen: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self { on: false, rate: 1000, count: None }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let log = Log { info: true, warning: true, error: true, verbose: 0 };
        Self {
            log: Mutex::new(log),
            trace: Mutex::default(),
            traces: AtomicBool::new(false),
            exported: AtomicBool::new(false),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const LOG_KEYS: [&str; 6] =
    ["log_file", "log_info", "log_warning", "log_error", "log_verbose_level", "log_format"];
const TRACE_KEYS: [&str; 6] =
    ["trace_file", "trace_level", "trace_rate", "trace_count", "log_frequency", "trace_mode"];

impl Settings {
    /// Takes what the server was started with: the level that is logged, and whether a collector gets traces.
    pub fn begin(&self, level: LevelFilter, exported: bool) {
        let verbose = match level {
            LevelFilter::TRACE => 2,
            LevelFilter::DEBUG => 1,
            _ => 0,
        };
        *lock(&self.log) = Log {
            info: level >= LevelFilter::INFO,
            warning: level >= LevelFilter::WARN,
            error: level >= LevelFilter::ERROR,
            verbose,
        };
        self.exported.store(exported, Ordering::Release);
    }

    fn mode(&self) -> &'static str {
        if self.exported.load(Ordering::Acquire) { "opentelemetry" } else { "triton" }
    }

    /// What is logged, as `GET /v2/logging` tells it.
    #[must_use]
    pub fn log(&self) -> Value {
        let log = *lock(&self.log);
        json!({
            "log_file": "",
            "log_info": log.info,
            "log_warning": log.warning,
            "log_error": log.error,
            "log_verbose_level": log.verbose,
            "log_format": "default",
        })
    }

    /// Changes what is logged. Levels contain each other: information without warnings is both.
    ///
    /// # Errors
    /// 400 for a setting that there is not, or that cannot be changed while the server runs.
    pub fn change_log(&self, changes: &Map<String, Value>) -> Result<()> {
        // Held until it holds: of two changes at a time, none is lost, and what is told is what is so.
        let mut now = lock(&self.log);
        let mut next = *now;
        for (key, value) in changes {
            let flag = || value.as_bool().ok_or_else(|| refuse(key, value, "a boolean"));
            match key.as_str() {
                "log_info" => next.info = flag()?,
                "log_warning" => next.warning = flag()?,
                "log_error" => next.error = flag()?,
                "log_verbose_level" => {
                    next.verbose = value.as_u64().ok_or_else(|| refuse(key, value, "a number from 0 on"))?;
                }
                // Asking for what is so already changes nothing.
                "log_file" if value == "" => {}
                "log_format" if value == "default" => {}
                "log_file" | "log_format" => {
                    return Err(ServeError::invalid(format_args!(
                        "`{key}` is fixed: the log goes to the standard error of the server, in the format that it \
                         was started with"
                    )));
                }
                _ => return Err(unknown(key, &LOG_KEYS)),
            }
        }
        if next.verbose > 0 {
            next.info = true;
        }
        next.warning |= next.info;
        next.error |= next.warning;
        let level = match next {
            Log { verbose: 2.., .. } => cli::LogLevel::Trace,
            Log { verbose: 1, .. } => cli::LogLevel::Debug,
            Log { info: true, .. } => cli::LogLevel::Info,
            Log { warning: true, .. } => cli::LogLevel::Warn,
            Log { error: true, .. } => cli::LogLevel::Error,
            _ => cli::LogLevel::Off,
        };
        cli::set_log_level(level);
        *now = next;
        Ok(())
    }

    /// What is traced of a model, or of those without settings of their own.
    #[must_use]
    pub fn trace(&self, model: Option<&str>) -> Value {
        let trace = lock(&self.trace).of(model);
        let count = trace.count.map_or_else(|| "-1".to_owned(), |count| count.to_string());
        json!({
            "trace_file": "",
            "trace_level": [if trace.on { "TIMESTAMPS" } else { "OFF" }],
            "trace_rate": trace.rate.to_string(),
            "trace_count": count,
            "log_frequency": "0",
            "trace_mode": self.mode(),
        })
    }

    /// Changes what is traced of a model, or of those without settings of their own. `null` takes a setting back to
    /// what holds without it.
    ///
    /// # Errors
    /// 400 for a setting that there is not, or that cannot be changed.
    pub fn change_trace(&self, model: Option<&str>, changes: &Map<String, Value>) -> Result<()> {
        let mut traces = lock(&self.trace);
        let mut next = traces.of(model);
        let base = if model.is_some() { traces.all.trace } else { Trace::default() };
        for (key, value) in changes {
            // Clients write numbers as numbers, as strings, or as lists of one string.
            let value = match value {
                Value::Array(list) if key != "trace_level" && list.len() == 1 => {
                    list.first().unwrap_or(value)
                }
                value => value,
            };
            let number = || {
                value
                    .as_i64()
                    .or_else(|| value.as_str()?.trim().parse().ok())
                    .ok_or_else(|| refuse(key, value, "a whole number"))
            };
            match key.as_str() {
                "trace_level" if value.is_null() => next.on = base.on,
                "trace_level" => next.on = levels(value)?,
                "trace_rate" if value.is_null() => next.rate = base.rate,
                "trace_rate" => {
                    next.rate = u64::try_from(number()?)
                        .ok()
                        .filter(|rate| *rate > 0)
                        .ok_or_else(|| refuse(key, value, "a number from 1 on"))?;
                }
                "trace_count" if value.is_null() => next.count = base.count,
                "trace_count" => {
                    next.count = match number()? {
                        -1 => None,
                        count => Some(
                            u64::try_from(count).map_err(|_| refuse(key, value, "a number from -1 on"))?,
                        ),
                    };
                }
                "trace_file" if value.is_null() || value == "" => {}
                "log_frequency" if value.is_null() || number().is_ok_and(|count| count == 0) => {}
                "trace_mode" if value.is_null() || value == self.mode() => {}
                "trace_file" | "log_frequency" | "trace_mode" => {
                    return Err(ServeError::invalid(format_args!(
                        "`{key}` is fixed: traces are lines of the server's log, and go to its collector where it has one"
                    )));
                }
                _ => return Err(unknown(key, &TRACE_KEYS)),
            }
        }
        match model {
            None => traces.all = Counted { trace: next, seen: 0 },
            Some(model) if next == traces.all.trace => {
                traces.models.remove(model);
            }
            Some(model) => {
                traces.models.insert(model.to_owned(), Counted { trace: next, seen: 0 });
            }
        }
        let any = traces.all.trace.on || traces.models.values().any(|own| own.trace.on);
        self.traces.store(any, Ordering::Release);
        Ok(())
    }

    /// Whether this request of a model is one to be traced. It counts it.
    #[must_use]
    pub fn is_traced(&self, model: &str) -> bool {
        if !self.traces.load(Ordering::Acquire) {
            return false;
        }
        let mut traces = lock(&self.trace);
        let Counted { trace, seen } = match traces.models.get_mut(model) {
            Some(own) => own,
            None => &mut traces.all,
        };
        if !trace.on || trace.count == Some(0) {
            return false;
        }
        let traced = seen.is_multiple_of(trace.rate);
        *seen = seen.wrapping_add(1);
        if let (true, Some(count)) = (traced, &mut trace.count) {
            *count -= 1;
        }
        traced
    }
}

impl Traces {
    fn of(&self, model: Option<&str>) -> Trace {
        model.and_then(|model| self.models.get(model)).unwrap_or(&self.all).trace
    }
}

/// `["OFF"]` or `["TIMESTAMPS"]`.
fn levels(value: &Value) -> Result<bool> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let levels: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    match levels.as_slice() {
        ["OFF"] => Ok(false),
        ["TIMESTAMPS"] => Ok(true),
        _ => Err(ServeError::new(Kind::Invalid, "`trace_level` must be [\"OFF\"] or [\"TIMESTAMPS\"]")),
    }
}

fn refuse(key: &str, value: &Value, expected: &str) -> ServeError {
    let found = shown(&value.to_string());
    ServeError::invalid(format_args!("{} must be {expected}, but is {found}", shown(key)))
}

fn unknown(key: &str, known: &[&str]) -> ServeError {
    let hint = suggestion(key, known.iter().copied());
    let list = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    ServeError::invalid(format_args!(
        "there is no setting {}{}; the settings are {list}",
        shown(key),
        hint.trim_end_matches('?')
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn logging_is_told_as_it_took_effect() {
        let settings = Settings::default();
        settings.change_log(&map(json!({ "log_info": false, "log_warning": false }))).unwrap();
        let log = settings.log();
        assert_eq!((&log["log_info"], &log["log_error"]), (&json!(false), &json!(true)));
        settings.change_log(&map(json!({ "log_verbose_level": 1, "log_file": "" }))).unwrap();
        assert_eq!(settings.log()["log_info"], json!(true), "debugging without information there is not");
        for (wrong, part) in [
            (json!({ "log_inf": true }), "did you mean `log_info`"),
            (json!({ "log_info": "yes" }), "must be a boolean"),
            (json!({ "log_verbose_level": -1 }), "a number from 0 on"),
            (json!({ "log_file": "/etc/passwd" }), "`log_file` is fixed"),
        ] {
            let before = settings.log();
            let error = settings.change_log(&map(wrong)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            assert_eq!(settings.log(), before);
        }
    }

    #[test]
    fn what_is_told_at_first_is_what_the_server_was_started_with() {
        let settings = Settings::default();
        for (level, told) in [
            (LevelFilter::OFF, json!([false, false, false, 0])),
            (LevelFilter::WARN, json!([false, true, true, 0])),
            (LevelFilter::INFO, json!([true, true, true, 0])),
            (LevelFilter::TRACE, json!([true, true, true, 2])),
        ] {
            settings.begin(level, level == LevelFilter::OFF);
            let log = settings.log();
            let found = [&log["log_info"], &log["log_warning"], &log["log_error"], &log["log_verbose_level"]];
            assert_eq!(json!(found), told, "{level}");
        }
        assert_eq!(settings.trace(None)["trace_mode"], "triton");
        settings.begin(LevelFilter::INFO, true);
        assert_eq!(settings.trace(None)["trace_mode"], "opentelemetry");
        assert!(settings.change_trace(None, &map(json!({ "trace_mode": "opentelemetry" }))).is_ok());
        assert!(settings.change_trace(None, &map(json!({ "trace_mode": "triton" }))).is_err());
    }

    #[test]
    fn models_that_take_turns_are_traced_alike_where_each_has_its_settings() {
        let settings = Settings::default();
        let on = map(json!({ "trace_level": ["TIMESTAMPS"], "trace_rate": 2 }));
        settings.change_trace(Some("a"), &on).unwrap();
        settings.change_trace(Some("b"), &on).unwrap();
        let traced: Vec<bool> =
            ["a", "b", "a", "b", "a", "b"].map(|model| settings.is_traced(model)).to_vec();
        assert_eq!(traced, [true, true, false, false, true, true]);
    }

    #[test]
    fn traces_follow_rate_and_count_and_models_have_their_own() {
        let settings = Settings::default();
        assert!(!settings.is_traced("a"));
        let on = json!({ "trace_level": ["TIMESTAMPS"], "trace_rate": "2", "trace_count": "2" });
        settings.change_trace(None, &map(on)).unwrap();
        let traced = |model: &str| (0..10).filter(|_| settings.is_traced(model)).count();
        assert_eq!(traced("a"), 2, "as many as the count allows");
        assert_eq!(settings.trace(None)["trace_count"], "0");
        settings.change_trace(Some("b"), &map(json!({ "trace_count": -1, "trace_rate": 1 }))).unwrap();
        assert_eq!((traced("b"), traced("a")), (10, 0));
        settings.change_trace(Some("b"), &map(json!({ "trace_level": ["OFF"] }))).unwrap();
        assert_eq!(traced("b"), 0);
        let back = json!({ "trace_level": null, "trace_rate": null, "trace_count": null });
        settings.change_trace(Some("b"), &map(back)).unwrap();
        assert_eq!(settings.trace(Some("b")), settings.trace(None));
        for (wrong, part) in [
            (json!({ "trace_level": ["TENSORS"] }), "[\"OFF\"] or [\"TIMESTAMPS\"]"),
            (json!({ "trace_rate": 0 }), "from 1 on"),
            (json!({ "trace_count": -2 }), "from -1 on"),
            (json!({ "trace_file": "/tmp/x" }), "is fixed"),
            (json!({ "rate": 1 }), "no setting `rate`"),
        ] {
            let error = settings.change_trace(None, &map(wrong)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
