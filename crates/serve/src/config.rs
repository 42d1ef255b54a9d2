//! Every setting of the server, with its default. `configs/serve.toml` shows them all.

use std::collections::BTreeMap;
use std::path::PathBuf;

use predict::MAX_PASS_ROWS;
use serde::{Deserialize, Serialize};

use crate::access::config::AccessConfig;
use crate::drift::DriftConfig;
use crate::ensemble::EnsembleConfig;
use crate::front::Paths;
pub use crate::limits::Limits;
use crate::repository::{Mode, Policy, RepositoryConfig, Settings};
use crate::routes::table;
use crate::scheduler::{QueueOverrides, QueueSettings, SchedulerOptions, default_workers};
use crate::telemetry::{LogConfig, MetricsConfig, TraceConfig};
use crate::tls::TlsConfig;
use crate::traffic::Plan;

/// The settings: flag > environment > file > default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The registry to serve: every model and every version in it.
    pub models: PathBuf,
    /// The address to listen on.
    pub host: String,
    /// The port to listen on; 0 takes a free one.
    pub port: u16,
    /// The gRPC side.
    pub grpc: Grpc,
    /// Further paths, for platforms that choose them.
    pub paths: Paths,
    /// The model that `/predict` asks: `name`, `name@version` or `name@alias`. Needed with several models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_model: Option<String>,
    /// Where the models run: `cpu`, `flex`, `ndarray`, `vulkan`, `wgpu`, `cuda`, the last three with an optional
    /// `:index`, or `auto`.
    pub device: String,
    /// What they compute in: `f32`, or `f16` or `bf16` where the device can.
    pub precision: String,
    /// Where compiled kernels and tuning results of GPUs are kept between starts; without it where every command
    /// keeps them ([`cli::kernel_cache`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_cache: Option<PathBuf>,
    /// On a GPU: the numbers of rows that go through a network at once, ascending; a pass with fewer is filled up
    /// to the next. Every one is warmed up before a model serves. Empty: the powers of two.
    pub batch_sizes: Vec<usize>,
    /// Threads that compute; 0 takes one per processor.
    pub threads: usize,
    /// Batches that are computed at a time; 0 chooses by the threads and the device.
    pub compute_workers: usize,
    /// Bytes of answers that are kept to answer the same inputs again; 0 keeps none.
    pub response_cache_bytes: usize,
    /// What a request may cost.
    pub limits: Limits,
    /// How requests are batched and queued.
    pub scheduler: QueueSettings,
    /// Who may do what.
    pub access: AccessConfig,
    /// How connections are encrypted.
    pub tls: TlsConfig,
    /// How the server stops.
    pub drain: Drain,
    /// Whether what models meet is compared with what they were trained on.
    pub drift: DriftConfig,
    /// How the directory of models becomes what is served.
    pub repository: RepositoryConfig,
    /// Where the metrics are.
    pub metrics: MetricsConfig,
    /// What the log says of requests.
    pub log: LogConfig,
    /// Where traces go.
    pub trace: TraceConfig,
    /// What differs for single models, by name.
    pub model: BTreeMap<String, ModelConfig>,
}

/// What differs for one model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// How its requests are batched and queued.
    pub scheduler: QueueOverrides,
    /// Which of its versions are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versions: Option<Policy>,
    /// The models that it is made of; it is no package of the registry then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ensemble: Option<EnsembleConfig>,
    /// How requests that name no version are split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Plan>,
}

/// The gRPC side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grpc {
    /// Whether there is one.
    pub enabled: bool,
    /// The port to listen on, at the same address as HTTP; 0 takes a free one.
    pub port: u16,
}

/// How the server stops on SIGTERM or Ctrl-C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// Milliseconds between "not ready" and the end of listening, for load balancers to notice.
    pub delay_ms: u64,
    /// Seconds that requests under way may still take.
    pub timeout_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            models: PathBuf::from("artifacts/models"),
            host: "127.0.0.1".to_owned(),
            port: 8080,
            grpc: Grpc::default(),
            paths: Paths::default(),
            default_model: None,
            device: "cpu".to_owned(),
            precision: "f32".to_owned(),
            kernel_cache: None,
            batch_sizes: Vec::new(),
            threads: 0,
            compute_workers: 0,
            response_cache_bytes: 0,
            limits: Limits::default(),
            scheduler: QueueSettings::default(),
            access: AccessConfig::default(),
            tls: TlsConfig::default(),
            drain: Drain::default(),
            drift: DriftConfig::default(),
            repository: RepositoryConfig::default(),
            metrics: MetricsConfig::default(),
            log: LogConfig::default(),
            trace: TraceConfig::default(),
            model: BTreeMap::new(),
        }
    }
}

impl Default for Grpc {
    fn default() -> Self {
        Self { enabled: true, port: 9000 }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { delay_ms: 500, timeout_s: 30 }
    }
}

impl Config {
    /// What the scheduler is told on so many threads.
    #[must_use]
    pub fn scheduling(&self, threads: usize, gpu: bool) -> SchedulerOptions {
        let workers =
            if self.compute_workers == 0 { default_workers(threads, gpu) } else { self.compute_workers };
        let own = |(name, model): (&String, &ModelConfig)| (name.clone(), model.scheduler.clone());
        SchedulerOptions {
            workers,
            queue: self.scheduler.clone(),
            models: self.model.iter().map(own).collect(),
            cache_bytes: self.response_cache_bytes,
        }
    }

    /// What the repository is told.
    #[must_use]
    pub fn repository_settings(&self) -> Settings {
        let own = |(name, model): (&String, &ModelConfig)| Some((name.clone(), model.versions.clone()?));
        let versions = self.model.iter().filter_map(own).collect();
        Settings { general: self.repository.clone(), versions, ensembles: self.ensembles() }
    }

    /// The models that are made of others, by name.
    #[must_use]
    pub fn ensembles(&self) -> BTreeMap<String, EnsembleConfig> {
        self.model.iter().filter_map(|(name, model)| Some((name.clone(), model.ensemble.clone()?))).collect()
    }

    /// How the traffic of models is directed, by name.
    #[must_use]
    pub fn traffic(&self) -> BTreeMap<String, Plan> {
        self.model.iter().filter_map(|(name, model)| Some((name.clone(), model.traffic.clone()?))).collect()
    }

    /// What of the settings of single models cannot work: its key and why.
    #[must_use]
    pub fn model_fault(&self) -> Option<(String, String)> {
        let traffic = self.model.iter().find_map(|(name, model)| {
            Some((format!("model.{name}.traffic"), model.traffic.as_ref()?.check().err()?))
        });
        let ensemble = || crate::ensemble::fault(&self.ensembles());
        traffic.or_else(|| ensemble().map(|(name, why)| (format!("model.{name}.ensemble"), why)))
    }

    /// This configuration with those parts of `next` that take effect without a restart.
    #[must_use]
    pub fn reloaded(&self, next: &Self) -> Self {
        let mut config =
            Self { repository: next.repository.clone(), model: next.model.clone(), ..self.clone() };
        config.access = AccessConfig { audit: self.access.audit.clone(), ..next.access.clone() };
        // Files change; whether connections are encrypted does not.
        if self.tls.is_on() && next.tls.is_on() {
            let handshake_timeout_s = self.tls.handshake_timeout_s;
            config.tls = TlsConfig { handshake_timeout_s, ..next.tls.clone() };
        }
        for (name, model) in &mut config.model {
            model.scheduler = self.model.get(name).map(|model| model.scheduler.clone()).unwrap_or_default();
        }
        config
    }

    /// The first setting that has the right type and cannot work all the same: its key, and what would.
    #[must_use]
    pub fn fault(&self) -> Option<(String, &'static str)> {
        let sizes = &self.batch_sizes;
        let possible = sizes.iter().all(|size| (1..=MAX_PASS_ROWS).contains(size));
        let path = |path: &Option<String>| path.as_ref().is_none_or(|path| path_works(path));
        let faults = [
            (!path(&self.paths.health), "paths.health", PATH),
            (!path(&self.paths.predict), "paths.predict", PATH),
            (!self.paths.health.as_deref().is_none_or(table::may_tell_health), "paths.health", TAKEN),
            (!self.paths.predict.as_deref().is_none_or(table::may_predict), "paths.predict", TAKEN),
            (
                self.grpc.enabled && self.grpc.port != 0 && self.grpc.port == self.port,
                "grpc.port",
                "must not be that of HTTP",
            ),
            (
                self.metrics.port.is_some_and(|port| {
                    port != 0 && (port == self.port || (self.grpc.enabled && port == self.grpc.port))
                }),
                "metrics.port",
                "must not be that of HTTP or gRPC",
            ),
            (self.threads > 1024, "threads", "must be at most 1024"),
            (self.compute_workers > 1024, "compute_workers", "must be at most 1024"),
            (!possible, "batch_sizes", "must hold numbers from 1 to 256"),
            (!sizes.is_sorted_by(|a, b| a < b), "batch_sizes", "must be ascending, each number once"),
            (
                sizes.len() > 16,
                "batch_sizes",
                "must hold at most 16 numbers, for each costs time at the start",
            ),
            (
                self.kernel_cache.as_ref().is_some_and(|folder| folder.as_os_str().is_empty()),
                "kernel_cache",
                "must name a directory",
            ),
            (
                !(10..=3_600_000).contains(&self.repository.poll_ms),
                "repository.poll_ms",
                "must be from 10 to 3600000",
            ),
            (
                self.repository.mode == Mode::Watch && self.repository.startup != ["*"],
                "repository.startup",
                "has no effect in the mode `watch`, which serves whatever is there",
            ),
            (self.drain.delay_ms > 600_000, "drain.delay_ms", "must be at most 600000"),
            (self.drain.timeout_s > 3600, "drain.timeout_s", "must be at most 3600"),
        ];
        let own =
            faults.into_iter().find_map(|(wrong, key, message)| wrong.then(|| (key.to_owned(), message)));
        let below = |table: &str, (key, message): (String, &'static str)| (format!("{table}.{key}"), message);
        let named = |(key, message): (&str, &'static str)| (key.to_owned(), message);
        let telemetry = || self.log.fault().or_else(|| self.trace.fault());
        own.or_else(|| self.limits.fault().map(|(key, message)| below("limits", (key.to_string(), message))))
            .or_else(|| self.access.fault().map(|fault| below("access", fault)))
            .or_else(|| self.tls.fault().map(|fault| below("tls", named(fault))))
            .or_else(|| telemetry().map(named))
            .or_else(|| self.drift.fault().map(|fault| below("drift", named(fault))))
            .or_else(|| self.scheduling_fault())
    }

    /// As [`Config::fault`], of the settings of the scheduler: for all models, and for each with what it sets itself.
    fn scheduling_fault(&self) -> Option<(String, &'static str)> {
        let under = |table: &str, settings: &QueueSettings| {
            settings.fault().map(|(key, message)| (format!("{table}.{key}"), message))
        };
        under("scheduler", &self.scheduler).or_else(|| {
            self.model.iter().find_map(|(name, model)| {
                under(&format!("model.{name}.scheduler"), &model.scheduler.over(&self.scheduler))
            })
        })
    }
}

const PATH: &str = "must begin with a slash and hold letters, digits and any of `/-_.:~`";

const TAKEN: &str = "must not be a route of the server that does something else";

/// A path as it stands in a request, without what a pattern of a route could mean.
fn path_works(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.:~".contains(&byte);
    path.starts_with('/') && path.len() <= 256 && path.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_is_shipped_holds_the_defaults() {
        let text = include_str!("../../../configs/serve.toml");
        assert_eq!(toml::from_str::<Config>(text).unwrap(), Config::default());
    }

    #[test]
    fn limits_that_cannot_work_are_faults() {
        assert_eq!(Config::default().fault(), None);
        let mut config = Config::default();
        config.limits.max_body_bytes = 0;
        assert_eq!(config.fault().unwrap().0, "limits.max_body_bytes");
        let config = Config { kernel_cache: Some(PathBuf::new()), ..Config::default() };
        assert_eq!(config.fault().unwrap().0, "kernel_cache");
    }

    #[test]
    fn paths_are_plain_and_ports_differ() {
        let fault = |health: &str, grpc: u16| {
            let paths = Paths { health: Some(health.to_owned()), predict: None };
            let grpc = Grpc { port: grpc, ..Grpc::default() };
            Config { paths, grpc, ..Config::default() }.fault().map_or_else(String::new, |(key, _)| key)
        };
        assert_eq!(fault("/v1/endpoints/1:health", 9000), "");
        for wrong in ["", "health", "/{name}", "/a b", "/a?b"] {
            assert_eq!(fault(wrong, 9000), "paths.health", "{wrong}");
        }
        assert_eq!(fault("/h", 8080), "grpc.port");
        // Nobody would notice that it is not the models that answer there.
        let taken = |health: Option<&str>, predict: Option<&str>| {
            let paths = Paths { health: health.map(str::to_owned), predict: predict.map(str::to_owned) };
            Config { paths, ..Config::default() }.fault().map_or_else(String::new, |(key, message)| {
                assert!(message.contains("something else"), "{message}");
                key
            })
        };
        for health in ["/ping", "/healthz", "/v2/health/ready", "/v2/models/a/ready", "/h"] {
            assert_eq!(taken(Some(health), None), "", "{health}");
        }
        for health in ["/", "/models/health", "/predict", "/metrics", "/docs/health"] {
            assert_eq!(taken(Some(health), None), "paths.health", "{health}");
        }
        for predict in ["/predict", "/invocations", "/v2/models/a/infer", "/models/a/predict", "/p"] {
            assert_eq!(taken(None, Some(predict)), "", "{predict}");
        }
        for predict in ["/ping", "/models/predict", "/v2/models/a/ready", "/v2/logging"] {
            assert_eq!(taken(None, Some(predict)), "paths.predict", "{predict}");
        }
    }

    #[test]
    fn the_schedule_of_every_model_must_work() {
        let read = |text: &str| toml::from_str::<Config>(text).unwrap();
        let fault = |text: &str| read(text).fault().map(|(key, _)| key);
        assert_eq!(fault("[scheduler]\nweight = 0").unwrap(), "scheduler.weight");
        // What a model sets is looked at together with what holds for all.
        let text = "[scheduler]\npreferred_batch_rows = [64]\n[model.a.scheduler]\nmax_batch_rows = 32";
        assert_eq!(fault(text).unwrap(), "model.a.scheduler.preferred_batch_rows");
        let config = read("[model.a.scheduler]\nmax_delay_us = 5\ncache = false");
        assert_eq!(config.fault(), None);
        let options = config.scheduling(4, false);
        assert_eq!((options.of("a").max_delay_us, options.of("b").max_delay_us, options.workers), (5, 0, 1));
    }

    #[test]
    fn batch_sizes_are_few_and_ascending() {
        let fault = |sizes: &[usize]| {
            let config = Config { batch_sizes: sizes.to_vec(), ..Config::default() };
            config.fault().map(|(key, message)| format!("{key} {message}"))
        };
        assert_eq!(fault(&[1, 3, 256]), None);
        let many: Vec<usize> = (1..=17).collect();
        let cases: [(&[usize], &str); 5] = [
            (&[0], "from 1 to 256"),
            (&[1, 257], "from 1 to 256"),
            (&[8, 1], "ascending"),
            (&[8, 8], "each number once"),
            (&many, "at most 16"),
        ];
        for (sizes, expected) in cases {
            let message = fault(sizes).unwrap();
            assert!(message.starts_with("batch_sizes must ") && message.contains(expected), "{message}");
        }
    }
}
