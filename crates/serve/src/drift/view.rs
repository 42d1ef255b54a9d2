//! Drift as the API tells it.

use artifact::manifest::Distribution;
use schemars::JsonSchema;
use serde::Serialize;

use super::psi::{MODERATE, SIGNIFICANT};
use super::{Compared, Comparison, Counted, Watch};
use crate::served::Served;

/// How what a version meets differs from what it was trained on.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Drift {
    /// The model.
    pub model: String,
    /// The version.
    pub version: u64,
    /// In short.
    #[serde(flatten)]
    pub summary: DriftSummary,
    /// Seconds that the window looks back.
    pub window_s: u64,
    /// Rows below which nothing is said.
    pub min_samples: u64,
    /// From which index on a change is moderate.
    pub moderate: f64,
    /// From which index on a change is significant.
    pub significant: f64,
    /// Rows since the version was loaded or its counts were reset.
    pub total_rows: u64,
    /// Rows since then that were not looked at, for there were too many in a second.
    pub skipped_rows: u64,
    /// The split that the reference of the outputs was taken from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs_split: Option<String>,
    /// Every feature, inputs first.
    pub features: Vec<DriftFeature>,
}

/// The drift of a version in short.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct DriftSummary {
    /// `stable`, `moderate`, `significant`, `collecting` while there are too few rows, or `unwatched`.
    pub status: &'static str,
    /// Why it is not watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The index of the feature that changed most in the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<f64>,
    /// That feature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// Rows in the window.
    pub window_rows: u64,
}

/// One feature.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DriftFeature {
    /// `input` or `output`.
    pub side: &'static str,
    /// Its name.
    pub name: String,
    /// Whether its bins are ranges of numbers (`numeric`) or names (`categorical`).
    pub kind: &'static str,
    /// Over the window.
    pub window: DriftIndex,
    /// Since the version was loaded or its counts were reset.
    pub total: DriftIndex,
    /// The bins with their shares.
    pub bins: Vec<DriftBin>,
}

/// How far one feature has moved.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DriftIndex {
    /// As of the whole version.
    pub status: &'static str,
    /// The population stability index; nothing while nothing was counted.
    pub psi: Option<f64>,
    /// What two samples of this size of the same data exceed once in a thousand times.
    pub chance: f64,
}

/// One bin; its shares are of all rows.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DriftBin {
    /// Above this number; nothing for the first bin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<f32>,
    /// Up to this number; nothing for the last bin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upto: Option<f32>,
    /// The category; `(other)` for what is in no bin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Of the training data.
    pub reference: f64,
    /// Of the window.
    pub window: f64,
    /// Of everything.
    pub total: f64,
}

/// What is in no bin.
const OTHER: &str = "(other)";

fn unwatched(watch: &Watch, served: &Served) -> String {
    let observed = served
        .predictor()
        .map(|predictor| predictor.manifest().is_some_and(|manifest| manifest.reference.observed.is_some()));
    match observed {
        None => "it is made of other models; each of its members is watched for itself",
        Some(_) if !watch.config.enabled => "the server watches no drift; it would with `drift.enabled = true`",
        Some(false) => {
            "its package does not tell what to compare with (`reference.observed`, since format 1.3); a version that is \
             trained now does"
        }
        Some(true) => "its package tells nothing of what this server watches",
    }
    .to_owned()
}

/// The drift of a version in short.
#[must_use]
pub fn summary(watch: &Watch, served: &Served) -> DriftSummary {
    match served.executor().sketch() {
        Some(sketch) => shortened(&sketch.compare(watch.config.min_samples)),
        None => DriftSummary {
            status: "unwatched",
            reason: Some(unwatched(watch, served)),
            ..DriftSummary::default()
        },
    }
}

fn shortened(comparison: &Comparison) -> DriftSummary {
    let worst = comparison.worst();
    DriftSummary {
        status: comparison.level().name(),
        reason: None,
        psi: worst.and_then(|worst| worst.window.psi),
        feature: worst.map(|worst| worst.reference.name.clone()),
        window_rows: comparison.window,
    }
}

/// The drift of a version in full.
#[must_use]
pub fn view(watch: &Watch, served: &Served) -> Drift {
    let config = &watch.config;
    let comparison = served.executor().sketch().map(|sketch| sketch.compare(config.min_samples));
    let observed = served.predictor().and_then(|predictor| predictor.manifest()?.reference.observed.as_ref());
    let watched = comparison.as_ref().and(observed);
    Drift {
        model: served.name().to_owned(),
        version: served.version(),
        summary: comparison.as_ref().map_or_else(|| summary(watch, served), shortened),
        window_s: config.window_s,
        min_samples: config.min_samples,
        moderate: MODERATE,
        significant: SIGNIFICANT,
        total_rows: comparison.as_ref().map_or(0, |comparison| comparison.total),
        skipped_rows: comparison.as_ref().map_or(0, |comparison| comparison.skipped),
        outputs_split: watched
            .map(|observed| observed.outputs_split.clone())
            .filter(|split| !split.is_empty()),
        features: comparison.iter().flat_map(|comparison| comparison.features.iter().map(feature)).collect(),
    }
}

fn feature(compared: &Compared) -> DriftFeature {
    let Compared { side, reference, window, total } = compared;
    let index = |counted: &Counted| DriftIndex {
        status: counted.level.name(),
        psi: counted.psi,
        chance: counted.chance,
    };
    let all = |counts: &[u64]| counts.iter().sum::<u64>();
    let shares = [reference.total(), all(&window.counts), all(&total.counts)];
    let share = |of: usize, count: u64| match shares.get(of) {
        Some(&sum) if sum > 0 => count as f64 / sum as f64,
        _ => 0.0,
    };
    let known = reference.counts.iter().copied().chain([reference.other]);
    let counts = known.zip(&window.counts).zip(&total.counts);
    let bins = counts.enumerate().filter_map(|(place, ((reference_count, window), total))| {
        let beyond = place == reference.counts.len();
        // What is in no bin is shown where there was any.
        if beyond && reference_count + window + total == 0 {
            return None;
        }
        let (above, upto, category) = named(reference, place, beyond);
        Some(DriftBin {
            above,
            upto,
            category,
            reference: share(0, reference_count),
            window: share(1, *window),
            total: share(2, *total),
        })
    });
    DriftFeature {
        side: side.name(),
        name: reference.name.clone(),
        kind: if reference.categories.is_empty() { "numeric" } else { "categorical" },
        window: index(window),
        total: index(total),
        bins: bins.collect(),
    }
}

fn named(reference: &Distribution, place: usize, beyond: bool) -> (Option<f32>, Option<f32>, Option<String>) {
    if beyond {
        return (None, None, Some(OTHER.to_owned()));
    }
    let edge = |place: Option<usize>| reference.edges.get(place?).copied();
    (edge(place.checked_sub(1)), edge(Some(place)), reference.categories.get(place).cloned())
}
