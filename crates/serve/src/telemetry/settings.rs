//! `[log]`, `[trace]` and `[metrics]`: what is told of requests, and where.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sample::{Sampler, SamplerKind};

/// What the log says of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The form of the lines on standard error.
    pub format: Format,
    /// At which level there is a line for every request.
    pub access: Access,
    /// Whether the bodies of requests for inference and of their answers are logged.
    pub payloads: bool,
    /// The most bytes of one body that are.
    pub payload_bytes: usize,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Whether, and at which level, each request is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Not at all.
    Off,
    /// With the information.
    Info,
    /// With what is for debugging.
    #[default]
    Debug,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: Format::default(), access: Access::default(), payloads: false, payload_bytes: 2048 }
    }
}

/// Where the metrics are, besides `/metrics` at the port of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// A port of their own at the same address; 0 takes a free one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Traces of OpenTelemetry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceConfig {
    /// The URL that takes OTLP over HTTP, with its path. Without one there are no traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// How traces travel; there is one way.
    pub protocol: String,
    /// Headers for the collector as `name=value,name=value`, percent-encoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<String>,
    /// Milliseconds that the collector has for one request.
    pub timeout_ms: u64,
    /// Which requests are traced.
    pub sampler: SamplerKind,
    /// The share of them, where the sampler takes a share.
    pub ratio: f64,
    /// What the service is called.
    pub service_name: String,
    /// Further attributes of the service as `key=value,key=value`, percent-encoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Spans that may wait for the collector; what comes beyond is dropped and counted.
    pub queue: usize,
    /// Milliseconds after which spans are sent, unless there are enough before.
    pub delay_ms: u64,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: PROTOCOL.to_owned(),
            headers: None,
            timeout_ms: 10_000,
            sampler: SamplerKind::default(),
            ratio: 1.0,
            service_name: "brazier".to_owned(),
            resource: None,
            queue: 2048,
            delay_ms: 5000,
        }
    }
}

const PROTOCOL: &str = "http/protobuf";

/// A setting that cannot work: its key, and what would.
pub type Fault = (&'static str, &'static str);

impl LogConfig {
    /// The first setting that cannot work.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        let possible = (1..=1 << 20).contains(&self.payload_bytes);
        (!possible).then_some(("log.payload_bytes", "must be from 1 to 1048576"))
    }
}

impl TraceConfig {
    /// The first setting that cannot work.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        let pairs = |text: &Option<String>| text.as_deref().is_none_or(|text| pairs(text).is_some());
        let endpoint = self.endpoint.as_deref().is_none_or(is_endpoint);
        let faults = [
            (
                !endpoint,
                "trace.endpoint",
                "must be like http://127.0.0.1:4318/v1/traces; for TLS, use a collector on this machine",
            ),
            (
                self.protocol != PROTOCOL,
                "trace.protocol",
                "must be \"http/protobuf\"; collectors take it at port 4318",
            ),
            (!pairs(&self.headers), "trace.headers", PAIRS),
            (!pairs(&self.resource), "trace.resource", PAIRS),
            (!(1..=600_000).contains(&self.timeout_ms), "trace.timeout_ms", "must be from 1 to 600000"),
            (!(0.0..=1.0).contains(&self.ratio), "trace.ratio", "must be from 0 to 1"),
            (self.service_name.is_empty(), "trace.service_name", "must not be empty"),
            (!(1..=1 << 20).contains(&self.queue), "trace.queue", "must be from 1 to 1048576"),
            (!(1..=600_000).contains(&self.delay_ms), "trace.delay_ms", "must be from 1 to 600000"),
        ];
        faults.into_iter().find_map(|(wrong, key, message)| wrong.then_some((key, message)))
    }

    pub(super) fn sampler(&self) -> Sampler {
        Sampler::new(self.sampler, self.ratio)
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

const PAIRS: &str = "must be like name=value,name=value, with %XX for what is no plain character";

/// Whether it is a URL of plain HTTP with a host and a path.
fn is_endpoint(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://") else { return false };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    !host.is_empty() && !host.contains('@') && !path.is_empty() && plain
}

/// `name=value,name=value` as pairs, values percent-decoded; nothing when it is malformed.
pub(super) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items
        .map(|item| {
            let (name, value) = item.split_once('=')?;
            let name = name.trim();
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if name.is_empty() || !name.bytes().all(token) {
                return None;
            }
            let value = decoded(value.trim())?;
            value.chars().all(|character| !character.is_control()).then_some((name.to_owned(), value))
        })
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let (code, after) = after.split_at_checked(2)?;
            if !code.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            bytes.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The variables of OpenTelemetry and the settings that they mean, where no setting of ours says otherwise.
///
/// `OTEL_SDK_DISABLED=true` and `OTEL_TRACES_EXPORTER=none` mean that there are no traces.
#[must_use]
pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Vec<(&'static str, String)> {
    const DIRECT: [(&str, &str); 13] = [
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "TRACE__PROTOCOL"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "TRACE__PROTOCOL"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "TRACE__HEADERS"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "TRACE__HEADERS"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "TRACE__TIMEOUT_MS"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "TRACE__TIMEOUT_MS"),
        ("OTEL_TRACES_SAMPLER", "TRACE__SAMPLER"),
        ("OTEL_TRACES_SAMPLER_ARG", "TRACE__RATIO"),
        ("OTEL_SERVICE_NAME", "TRACE__SERVICE_NAME"),
        ("OTEL_RESOURCE_ATTRIBUTES", "TRACE__RESOURCE"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "TRACE__QUEUE"),
        ("OTEL_BSP_SCHEDULE_DELAY", "TRACE__DELAY_MS"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "TRACE__ENDPOINT"),
    ];
    // As OpenTelemetry has it, an empty variable is none.
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let is = |name: &str, value: &str| set(name).is_some_and(|found| found.eq_ignore_ascii_case(value));
    let base = set("OTEL_EXPORTER_OTLP_ENDPOINT");
    let anywhere = base.is_some() || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").is_some();
    if !anywhere || is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return Vec::new();
    }
    let mut found: Vec<(&'static str, String)> = Vec::new();
    for (theirs, ours) in DIRECT {
        // Of two that mean the same the more exact one comes first.
        if let Some(value) = set(theirs).filter(|_| found.iter().all(|(key, _)| *key != ours)) {
            found.push((ours, value));
        }
    }
    // The name of the service may stand among the attributes, where it has no variable of its own.
    let named = found.iter().any(|(key, _)| *key == "TRACE__SERVICE_NAME");
    let attributes = set("OTEL_RESOURCE_ATTRIBUTES").filter(|_| !named).and_then(|text| pairs(&text));
    let name = attributes.unwrap_or_default().into_iter().find(|(key, _)| key == "service.name");
    found.extend(name.map(|(_, name)| ("TRACE__SERVICE_NAME", name)));
    if let Some(base) = base.filter(|_| found.iter().all(|(key, _)| *key != "TRACE__ENDPOINT")) {
        found.push(("TRACE__ENDPOINT", format!("{}/v1/traces", base.trim_end_matches('/'))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named() {
        let fault = |text: &str| toml::from_str::<TraceConfig>(text).unwrap().fault().map(|(key, _)| key);
        for good in ["http://localhost:4318/v1/traces", "http://[::1]:4318/v1/traces", "http://c/x"] {
            assert_eq!(fault(&format!("endpoint = '{good}'")), None, "{good}");
        }
        for wrong in ["", "localhost:4318", "https://c/v1/traces", "http://c", "http:///v1", "http://c/ x"] {
            assert_eq!(fault(&format!("endpoint = '{wrong}'")), Some("trace.endpoint"), "{wrong}");
        }
        for (text, key) in [
            ("protocol = 'grpc'", "trace.protocol"),
            ("ratio = 1.5", "trace.ratio"),
            ("ratio = nan", "trace.ratio"),
            ("headers = 'a'", "trace.headers"),
            ("headers = 'a=%0d%0ab'", "trace.headers"),
            ("resource = 'a=%zz'", "trace.resource"),
            ("queue = 0", "trace.queue"),
            ("delay_ms = 0", "trace.delay_ms"),
            ("timeout_ms = 0", "trace.timeout_ms"),
            ("service_name = ''", "trace.service_name"),
        ] {
            assert_eq!(fault(text), Some(key), "{text}");
        }
        assert_eq!(
            LogConfig { payload_bytes: 0, ..Default::default() }.fault().unwrap().0,
            "log.payload_bytes"
        );
        assert_eq!(TraceConfig::default().fault(), None);
    }

    #[test]
    fn pairs_are_read_as_opentelemetry_writes_them() {
        let read = |text: &str| {
            pairs(text).map(|pairs| pairs.into_iter().map(|(a, b)| format!("{a}:{b}")).collect::<Vec<_>>())
        };
        assert_eq!(read("a=1, b=x%20y=z,").unwrap(), ["a:1", "b:x y=z"]);
        assert_eq!(read("").unwrap(), Vec::<String>::new());
        for wrong in ["a", "=1", "a b=1", "a=%1", "a=%ff"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_variables_of_opentelemetry_mean_settings() {
        let read = |set: &[(&str, &str)]| {
            let find =
                |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            let mut found = from_environment(find);
            found.sort();
            found.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
        };
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/");
        assert_eq!(read(&[base]), ["TRACE__ENDPOINT=http://c:4318/v1/traces"]);
        let exact = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://d/x");
        let name = ("OTEL_SERVICE_NAME", "s");
        assert_eq!(read(&[base, exact, name]), ["TRACE__ENDPOINT=http://d/x", "TRACE__SERVICE_NAME=s"]);
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "a=b,service.name=my%20shop");
        let set = ["TRACE__ENDPOINT=http://d/x", "TRACE__RESOURCE=a=b,service.name=my%20shop"];
        assert_eq!(read(&[exact, attributes]), [set[0], set[1], "TRACE__SERVICE_NAME=my shop"]);
        assert_eq!(read(&[exact, attributes, name]), [set[0], set[1], "TRACE__SERVICE_NAME=s"]);
        assert_eq!(read(&[base, ("OTEL_SDK_DISABLED", "TRUE")]), Vec::<String>::new());
        assert_eq!(read(&[base, ("OTEL_TRACES_EXPORTER", "none")]), Vec::<String>::new());
        assert_eq!(read(&[name]), Vec::<String>::new(), "what has no collector traces nothing");
        let timeouts =
            [("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "5"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "6"), exact];
        assert_eq!(read(&timeouts), ["TRACE__ENDPOINT=http://d/x", "TRACE__TIMEOUT_MS=5"]);
    }
}
