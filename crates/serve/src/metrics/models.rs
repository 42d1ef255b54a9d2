//! What is told of models: under the names of Triton, and under our own.

use std::sync::atomic::Ordering::Relaxed;

use super::text::{Kind, Samples};
use super::{Family, Moment};
use crate::drift::FeatureDrift;
use crate::served::Served;
use crate::stats::{Buckets, Stats, Sum};

const VERSION: &[&str] = &["model", "version"];

/// Microseconds in a second, as histograms count them.
const SECOND: f64 = 1e6;

/// A number of each version that answers.
fn each(moment: &Moment<'_>, samples: &mut Samples<'_>, value: fn(&Stats) -> u64) {
    for (served, version) in &moment.versions {
        samples.count(&[served.name(), version], value(served.stats()));
    }
}

/// How long something took in all, in Triton's microseconds.
fn micros(sum: &Sum) -> u64 {
    sum.total().ns / 1000
}

fn waiting(moment: &Moment<'_>, samples: &mut Samples<'_>, value: fn(&Served) -> usize) {
    for (served, version) in &moment.versions {
        samples.count(&[served.name(), version], value(served) as u64);
    }
}

/// What is watched of each version, with its labels.
fn each_drift(moment: &Moment<'_>, mut write: impl FnMut(&[&str; 3], &FeatureDrift)) {
    for ((served, version), features) in moment.versions.iter().zip(&moment.drift) {
        for drift in features {
            write(&[served.name(), version, &drift.feature], drift);
        }
    }
}

fn histogram(moment: &Moment<'_>, samples: &mut Samples<'_>, parts: f64, value: fn(&Stats) -> Buckets) {
    for (served, version) in &moment.versions {
        samples.histogram(&[served.name(), version], &value(served.stats()), parts);
    }
}

const fn counter(name: &'static str, help: &'static str, write: fn(&Moment<'_>, &mut Samples<'_>)) -> Family {
    Family { name, kind: Kind::Counter, labels: VERSION, help, write }
}

const fn gauge(name: &'static str, help: &'static str, write: fn(&Moment<'_>, &mut Samples<'_>)) -> Family {
    Family { name, kind: Kind::Gauge, labels: VERSION, help, write }
}

const fn spread(name: &'static str, help: &'static str, write: fn(&Moment<'_>, &mut Samples<'_>)) -> Family {
    Family { name, kind: Kind::Histogram, labels: VERSION, help, write }
}

/// Under the names, labels and units of Triton, so that dashboards made for it work.
pub(super) const TRITON: &[Family] = &[
    counter("nv_inference_request_success", "Requests that were answered.", |moment, samples| {
        each(moment, samples, |stats| stats.success.total().count);
    }),
    Family {
        name: "nv_inference_request_failure",
        kind: Kind::Counter,
        labels: &["model", "version", "reason"],
        help: "Requests that were not answered: REJECTED (no room, or its time was up), CANCELED (the client went \
               away), BACKEND (the model or its device failed), OTHER (it did not fit the model).",
        write: |moment, samples| {
            for (served, version) in &moment.versions {
                let stats = served.stats();
                let rejected = stats.rejected.load(Relaxed) + stats.expired.load(Relaxed);
                for (reason, count) in [
                    ("BACKEND", stats.failed.load(Relaxed)),
                    ("CANCELED", stats.cancelled.load(Relaxed)),
                    ("OTHER", stats.invalid.load(Relaxed)),
                    ("REJECTED", rejected),
                ] {
                    samples.count(&[served.name(), version, reason], count);
                }
            }
        },
    },
    counter(
        "nv_inference_count",
        "Rows that were answered, by the response cache too.",
        |moment, samples| {
            each(moment, samples, |stats| stats.inferences.load(Relaxed));
        },
    ),
    counter("nv_inference_exec_count", "Batches that were computed.", |moment, samples| {
        each(moment, samples, |stats| stats.batches.load(Relaxed));
    }),
    counter(
        "nv_inference_request_duration_us",
        "Microseconds of answered requests, from the queue to the answer.",
        |moment, samples| each(moment, samples, |stats| micros(&stats.success)),
    ),
    counter(
        "nv_inference_queue_duration_us",
        "Microseconds that answered requests waited.",
        |moment, samples| each(moment, samples, |stats| micros(&stats.queue)),
    ),
    counter(
        "nv_inference_compute_input_duration_us",
        "Microseconds of joining requests to batches, summed over requests.",
        |moment, samples| each(moment, samples, |stats| micros(&stats.compute_input)),
    ),
    counter(
        "nv_inference_compute_infer_duration_us",
        "Microseconds in the network, summed over requests.",
        |moment, samples| each(moment, samples, |stats| micros(&stats.compute_infer)),
    ),
    counter(
        "nv_inference_compute_output_duration_us",
        "Microseconds of taking batches apart, summed over requests.",
        |moment, samples| each(moment, samples, |stats| micros(&stats.compute_output)),
    ),
    gauge("nv_inference_pending_request_count", "Requests that wait to be computed.", |moment, samples| {
        waiting(moment, samples, |served| served.waiting().0);
    }),
    counter(
        "nv_cache_num_hits_per_model",
        "Requests that the response cache answered.",
        |moment, samples| each(moment, samples, |stats| stats.cache_hit.total().count),
    ),
    counter(
        "nv_cache_num_misses_per_model",
        "Requests that the response cache was asked for and did not know.",
        |moment, samples| each(moment, samples, |stats| stats.cache_miss.total().count),
    ),
    counter(
        "nv_cache_hit_duration_per_model",
        "Microseconds of answers from the response cache.",
        |moment, samples| each(moment, samples, |stats| micros(&stats.cache_hit)),
    ),
    counter(
        "nv_cache_miss_duration_per_model",
        "Microseconds of looking into the response cache in vain and keeping the answer.",
        |moment, samples| each(moment, samples, |stats| micros(&stats.cache_miss)),
    ),
    gauge(
        "nv_model_load_duration_secs",
        "Seconds that loading, checking and warming up the version took.",
        |moment, samples| {
            for (served, version) in &moment.versions {
                if let Some(took) = served.stats().load() {
                    samples.number(&[served.name(), version], took.as_secs_f64());
                }
            }
        },
    ),
];

/// Under our own names.
pub(super) const OWN: &[Family] = &[
    Family {
        name: "brazier_requests_total",
        kind: Kind::Counter,
        labels: &["model", "version", "outcome"],
        help: "Requests for inference: ok, invalid (it cannot be read or does not fit), rejected (no room), expired \
               (its time was up), cancelled (the client went away), failed (the model or its device).",
        write: |moment, samples| {
            for (served, version) in &moment.versions {
                let stats = served.stats();
                for (outcome, count) in [
                    ("ok", stats.success.total().count),
                    ("invalid", stats.invalid.load(Relaxed)),
                    ("rejected", stats.rejected.load(Relaxed)),
                    ("expired", stats.expired.load(Relaxed)),
                    ("cancelled", stats.cancelled.load(Relaxed)),
                    ("failed", stats.failed.load(Relaxed)),
                ] {
                    samples.count(&[served.name(), version, outcome], count);
                }
            }
        },
    },
    spread(
        "brazier_request_seconds",
        "Answered requests, from the queue to the answer.",
        |moment, samples| histogram(moment, samples, SECOND, |stats| stats.latency.buckets()),
    ),
    spread("brazier_preprocess_seconds", "Reading and preprocessing a request.", |moment, samples| {
        histogram(moment, samples, SECOND, |stats| stats.prepare_latency.buckets());
    }),
    spread("brazier_queue_seconds", "Waiting in the queue, of answered requests.", |moment, samples| {
        histogram(moment, samples, SECOND, |stats| stats.queue_latency.buckets());
    }),
    spread("brazier_compute_seconds", "The network, by batch.", |moment, samples| {
        histogram(moment, samples, SECOND, |stats| stats.infer_latency.buckets());
    }),
    spread("brazier_batch_rows", "Rows of the batches.", |moment, samples| {
        histogram(moment, samples, 1.0, |stats| stats.batch_rows.buckets());
    }),
    gauge("brazier_queue_requests", "Requests that wait to be computed.", |moment, samples| {
        waiting(moment, samples, |served| served.waiting().0);
    }),
    gauge("brazier_queue_rows", "Rows of the requests that wait.", |moment, samples| {
        waiting(moment, samples, |served| served.waiting().1);
    }),
    Family {
        name: "brazier_drift_psi",
        kind: Kind::Gauge,
        labels: &["model", "version", "feature"],
        help: "How far a watched input or output is from the training data: the population stability index over the \
               window of `[drift]`.",
        write: |moment, samples| {
            each_drift(moment, |labels, drift| samples.number(labels, drift.psi));
        },
    },
    Family {
        name: "brazier_drift_level",
        kind: Kind::Gauge,
        labels: &["model", "version", "feature"],
        help: "What that index means: 0 stable, 1 moderate, 2 significant. Few rows may make a large index by chance.",
        write: |moment, samples| {
            each_drift(moment, |labels, drift| samples.count(labels, drift.level));
        },
    },
    Family {
        name: "brazier_model_state",
        kind: Kind::Gauge,
        labels: &["model", "version", "state"],
        help: "1 for the state that a version is in: loading, ready, unloading, failed or unloaded.",
        write: |moment, samples| {
            for (name, model) in &moment.catalog.models {
                for (number, version) in &model.versions {
                    for state in ["loading", "ready", "unloading", "failed", "unloaded"] {
                        let is = u64::from(version.state() == state);
                        samples.count(&[name, &number.to_string(), state], is);
                    }
                }
            }
        },
    },
];
