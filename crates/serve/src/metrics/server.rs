//! What is told of the server as a whole, and of its process.

use std::sync::atomic::Ordering::Relaxed;

use super::text::{Kind, Samples};
use super::{Family, Moment, Process};
use crate::telemetry::Spans;

/// Microseconds in a second, as histograms count them.
const SECOND: f64 = 1e6;

const fn plain(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    write: fn(&Moment<'_>, &mut Samples<'_>),
) -> Family {
    Family { name, kind, labels: &[], help, write }
}

/// Under our own names.
pub(super) const OWN: &[Family] = &[
    Family {
        name: "brazier_http_responses_total",
        kind: Kind::Counter,
        labels: &["route", "method", "status"],
        help: "Answers over HTTP by the pattern of the path and the class of the status; `gone`: the client did not \
               wait for it.",
        write: |moment, samples| {
            for route in moment.state.telemetry.doors.http_routes() {
                for (method, class, count) in route.http_answers() {
                    samples.count(&[route.name(), method, class], count);
                }
            }
        },
    },
    Family {
        name: "brazier_http_request_seconds",
        kind: Kind::Histogram,
        labels: &["route"],
        help: "From the head of a request to that of its answer.",
        write: |moment, samples| {
            for route in moment.state.telemetry.doors.http_routes() {
                let buckets = route.latency.buckets();
                if buckets.count > 0 {
                    samples.histogram(&[route.name()], &buckets, SECOND);
                }
            }
        },
    },
    Family {
        name: "brazier_grpc_responses_total",
        kind: Kind::Counter,
        labels: &["method", "code"],
        help: "Answers over gRPC by service and method; of a stream, its beginning.",
        write: |moment, samples| {
            for route in moment.state.telemetry.doors.grpc_routes() {
                for (code, count) in route.grpc_answers() {
                    samples.count(&[route.name(), code], count);
                }
            }
        },
    },
    Family {
        name: "brazier_grpc_request_seconds",
        kind: Kind::Histogram,
        labels: &["method"],
        help: "From the head of a call to that of its answer.",
        write: |moment, samples| {
            for route in moment.state.telemetry.doors.grpc_routes() {
                let buckets = route.latency.buckets();
                if buckets.count > 0 {
                    samples.histogram(&[route.name()], &buckets, SECOND);
                }
            }
        },
    },
    Family {
        name: "brazier_requests_in_flight",
        kind: Kind::Gauge,
        labels: &["protocol"],
        help: "Requests that are being answered, and calls of gRPC whose answers are not all handed over.",
        write: |moment, samples| {
            let doors = &moment.state.telemetry.doors;
            samples.count(&["http"], doors.http_open.count());
            samples.count(&["grpc"], doors.grpc_open.count());
        },
    },
    plain(
        "brazier_http_connections",
        Kind::Gauge,
        "Connections of HTTP that are open.",
        |moment, samples| {
            samples.count(&[], moment.state.connections.count() as u64);
        },
    ),
    plain(
        "brazier_http_connections_ended_total",
        Kind::Counter,
        "Connections of HTTP that were ended because their clients took too long.",
        |moment, samples| samples.count(&[], moment.state.connections.ended()),
    ),
    Family {
        name: "brazier_access_refused_total",
        kind: Kind::Counter,
        labels: &["reason"],
        help: "Requests and calls that the check refused: unauthorized (no key that is known), forbidden (it lacks a \
               right), limited (it asks more often than its limit allows).",
        write: |moment, samples| {
            let counts = moment.state.access.counts();
            samples.count(&["unauthorized"], counts.unauthorized.load(Relaxed));
            samples.count(&["forbidden"], counts.forbidden.load(Relaxed));
            samples.count(&["limited"], counts.limited.load(Relaxed));
        },
    },
    plain(
        "brazier_body_bytes_in_flight",
        Kind::Gauge,
        "Bytes of requests' bodies that are in memory.",
        |moment, samples| samples.count(&[], moment.state.in_flight.bytes() as u64),
    ),
    Family {
        name: "brazier_model_loads_total",
        kind: Kind::Counter,
        labels: &["outcome"],
        help: "Versions that were loaded, and that could not be.",
        write: |moment, samples| {
            let loads = &moment.state.telemetry.doors.loads;
            samples.count(&["success"], loads.succeeded.load(Relaxed));
            samples.count(&["failure"], loads.failed.load(Relaxed));
        },
    },
    plain(
        "brazier_model_load_seconds",
        Kind::Histogram,
        "Loading a version, with its checks and its warming up, whether it could be loaded or not.",
        |moment, samples| {
            let loads = &moment.state.telemetry.doors.loads;
            samples.histogram(&[], &loads.took.buckets(), 1e3);
        },
    ),
    Family {
        name: "brazier_trace_spans_total",
        kind: Kind::Counter,
        labels: &["outcome"],
        help: "Spans of OpenTelemetry: exported (the collector took them), dropped (too many waited), failed (the \
               collector did not take them).",
        write: |moment, samples| {
            let Spans { exported, dropped, failed } = moment.state.telemetry.spans();
            samples.count(&["exported"], exported);
            samples.count(&["dropped"], dropped);
            samples.count(&["failed"], failed);
        },
    },
    plain("brazier_ready", Kind::Gauge, "1 while the server is ready.", |moment, samples| {
        samples.count(&[], u64::from(moment.state.fault().is_none()));
    }),
    plain("brazier_uptime_seconds", Kind::Gauge, "Seconds since the start.", |moment, samples| {
        samples.number(&[], moment.state.telemetry.uptime().as_secs_f64());
    }),
    Family {
        name: "brazier_build_info",
        kind: Kind::Gauge,
        labels: &["version"],
        help: "1, with the version of the server.",
        write: |_, samples| samples.count(&[env!("CARGO_PKG_VERSION")], 1),
    },
];

fn process(moment: &Moment<'_>, samples: &mut Samples<'_>, value: fn(&Process) -> u64) {
    if let Some(process) = &moment.process {
        samples.count(&[], value(process));
    }
}

/// Under the names that every program has.
pub(super) const PROCESS: &[Family] = &[
    plain(
        "process_cpu_seconds_total",
        Kind::Counter,
        "Seconds of processors, in all threads.",
        |moment, samples| {
            if let Some(process) = &moment.process {
                samples.number(&[], process.cpu_seconds);
            }
        },
    ),
    plain("process_resident_memory_bytes", Kind::Gauge, "Bytes in memory.", |moment, samples| {
        process(moment, samples, |process| process.resident_bytes);
    }),
    plain("process_virtual_memory_bytes", Kind::Gauge, "Bytes of addresses.", |moment, samples| {
        process(moment, samples, |process| process.virtual_bytes);
    }),
    plain("process_threads", Kind::Gauge, "Threads.", |moment, samples| {
        process(moment, samples, |process| process.threads);
    }),
    plain("process_open_fds", Kind::Gauge, "File descriptors that are open.", |moment, samples| {
        process(moment, samples, |process| process.open_fds);
    }),
    plain("process_max_fds", Kind::Gauge, "File descriptors that may be open.", |moment, samples| {
        if let Some(most) = moment.process.and_then(|process| process.max_fds) {
            samples.count(&[], most);
        }
    }),
    plain(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the server started, in seconds since 1970.",
        |moment, samples| samples.number(&[], moment.state.telemetry.began()),
    ),
];
