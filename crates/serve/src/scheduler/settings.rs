//! How requests are scheduled: what an operator may set, for all models and for each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

macro_rules! settings {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr,)*) => {
        /// `[scheduler]`: how the requests of every model are scheduled that has nothing else set.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct QueueSettings {
            $($(#[doc = $doc])* pub $name: $type,)*
        }

        impl Default for QueueSettings {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// `[model.NAME.scheduler]`: what differs for one model.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct QueueOverrides {
            $($(#[doc = $doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<$type>,)*
        }

        impl QueueOverrides {
            /// The settings with what is set here.
            #[must_use]
            pub fn over(&self, settings: &QueueSettings) -> QueueSettings {
                QueueSettings {
                    $($name: self.$name.clone().unwrap_or_else(|| settings.$name.clone()),)*
                }
            }
        }
    };
}

settings! {
    /// The most rows of a batch; 0 takes what suits the device. A longer request is split and its answer joined.
    max_batch_rows: usize = 0,
    /// Rows that make a good batch, ascending. Empty: every number is as good.
    preferred_batch_rows: Vec<usize> = Vec::new(),
    /// Microseconds that a request may wait for others to fill a batch. 0: none waits while a worker is free.
    max_delay_us: u64 = 0,
    /// Requests of one version that may wait; the next is answered 503 with `Retry-After`.
    max_queue_requests: usize = 512,
    /// Rows of one version that may wait. A single request with more is taken while nothing waits.
    max_queue_rows: usize = 4096,
    /// Milliseconds that a request may wait when it does not say; 0: as long as it takes.
    timeout_ms: u64 = 30_000,
    /// Whether a request may say itself how long it waits.
    timeout_override: bool = true,
    /// What becomes of a request whose time is up.
    timeout_action: TimeoutAction = TimeoutAction::Reject,
    /// How many priorities there are, from 1, the most urgent.
    priority_levels: u32 = 8,
    /// The priority of a request that names none.
    default_priority: u32 = 4,
    /// A model's share of the compute workers while others wait for them too: weight 2 gets twice the time of weight 1.
    weight: u32 = 100,
    /// Whether the response cache keeps the answers of the model, when there is a cache.
    cache: bool = true,
}

/// What becomes of a request whose time is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeoutAction {
    /// It is answered 504 and not computed.
    #[default]
    Reject,
    /// It is computed after all that are still in time.
    Delay,
}

/// Everything that the scheduler is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// Batches that are computed at a time, at least 1.
    pub workers: usize,
    /// For every model.
    pub queue: QueueSettings,
    /// For the models of these names.
    pub models: std::collections::BTreeMap<String, QueueOverrides>,
    /// Bytes of answers that the response cache keeps; 0: there is none.
    pub cache_bytes: usize,
}

impl SchedulerOptions {
    /// The settings for a model.
    #[must_use]
    pub fn of(&self, model: &str) -> QueueSettings {
        self.models.get(model).map_or_else(|| self.queue.clone(), |own| own.over(&self.queue))
    }
}

/// How many batches to compute at a time on so many threads.
///
/// **On a CPU** a batch is spread over all threads of the engine's pool, so one worker already keeps the processors
/// busy, with the shortest time for each batch; while it joins and takes apart, the threads of the network and of the
/// preparation have the other processors. A second worker would find the pool busy and compute on its thread alone,
/// beside all of the first one's: on few processors that only makes both slower. From 8 threads on, small networks do
/// not fill the pool, and one slow model should not hold up all others: there is one worker for each 4 threads.
///
/// **On a GPU** passes run one after the other, but a second worker joins the next batch while the first waits.
#[must_use]
pub fn default_workers(threads: usize, gpu: bool) -> usize {
    if gpu { 2 } else { (threads / 4).clamp(1, 16) }
}

impl QueueSettings {
    /// The first setting that cannot work: its key, and what would.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        let preferred = &self.preferred_batch_rows;
        let faults = [
            (self.max_batch_rows > 1 << 16, "max_batch_rows", "must be at most 65536"),
            (
                preferred.len() > 64 || preferred.contains(&0) || !preferred.is_sorted_by(|a, b| a < b),
                "preferred_batch_rows",
                "must hold at most 64 numbers from 1 on, ascending, each once",
            ),
            (
                self.max_batch_rows > 0 && preferred.last().is_some_and(|last| *last > self.max_batch_rows),
                "preferred_batch_rows",
                "must not go beyond `max_batch_rows`",
            ),
            (self.max_delay_us > 10_000_000, "max_delay_us", "must be at most 10000000"),
            (
                !(1..=1 << 20).contains(&self.max_queue_requests),
                "max_queue_requests",
                "must be from 1 to 1048576",
            ),
            (!(1..=1 << 24).contains(&self.max_queue_rows), "max_queue_rows", "must be from 1 to 16777216"),
            (self.timeout_ms > 86_400_000, "timeout_ms", "must be at most 86400000"),
            (!(1..=1 << 16).contains(&self.priority_levels), "priority_levels", "must be from 1 to 65536"),
            (
                !(1..=self.priority_levels).contains(&self.default_priority),
                "default_priority",
                "must be from 1 to `priority_levels`",
            ),
            (!(1..=1 << 16).contains(&self.weight), "weight", "must be from 1 to 65536"),
        ];
        faults.into_iter().find_map(|(wrong, key, message)| wrong.then_some((key, message)))
    }

    /// The longest that a request waits; `None`: as long as it takes.
    pub(crate) fn patience(&self, asked: Option<Duration>) -> Option<Duration> {
        let own = (self.timeout_ms > 0).then(|| Duration::from_millis(self.timeout_ms));
        asked.filter(|_| self.timeout_override).or(own)
    }

    /// The priority of a request: the least urgent there is for one beyond it.
    pub(crate) fn priority(&self, asked: u32) -> u32 {
        if asked == 0 { self.default_priority } else { asked.min(self.priority_levels) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_differs_only_where_it_says_so() {
        let own = QueueOverrides { max_delay_us: Some(5), ..QueueOverrides::default() };
        let base = QueueSettings { weight: 7, ..QueueSettings::default() };
        let options = SchedulerOptions {
            queue: base.clone(),
            models: [("a".to_owned(), own)].into(),
            ..Default::default()
        };
        assert_eq!(options.of("b"), base);
        assert_eq!(options.of("a"), QueueSettings { max_delay_us: 5, ..base });
    }

    #[test]
    fn settings_that_cannot_work_are_faults() {
        let default = QueueSettings::default;
        assert_eq!(default().fault(), None);
        let cases = [
            (QueueSettings { preferred_batch_rows: vec![4, 2], ..default() }, "preferred_batch_rows"),
            (QueueSettings { preferred_batch_rows: vec![0, 2], ..default() }, "preferred_batch_rows"),
            (
                QueueSettings { preferred_batch_rows: vec![9], max_batch_rows: 8, ..default() },
                "preferred_batch_rows",
            ),
            (QueueSettings { max_queue_requests: 0, ..default() }, "max_queue_requests"),
            (QueueSettings { default_priority: 9, ..default() }, "default_priority"),
            (QueueSettings { weight: 0, ..default() }, "weight"),
        ];
        for (settings, key) in cases {
            assert_eq!(settings.fault().map(|(key, _)| key), Some(key));
        }
    }

    #[test]
    fn priorities_and_timeouts_have_defaults_and_ends() {
        let settings = QueueSettings::default();
        assert_eq!([0, 1, 8, 99].map(|asked| settings.priority(asked)), [4, 1, 8, 8]);
        let second = Some(Duration::from_secs(1));
        assert_eq!(settings.patience(second), second);
        assert_eq!(settings.patience(None), Some(Duration::from_secs(30)));
        let fixed = QueueSettings { timeout_override: false, timeout_ms: 0, ..settings };
        assert_eq!(fixed.patience(second), None);
    }

    #[test]
    fn workers_follow_the_machine() {
        assert_eq!([1, 2, 4, 8, 64].map(|threads| default_workers(threads, false)), [1, 1, 1, 2, 16]);
        assert_eq!(default_workers(2, true), 2);
    }
}
