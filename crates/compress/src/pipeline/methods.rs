//! The methods, each tried with the values of its knob.

use predict::Parts;
use train::fit::Finish;

use super::ladder::Ladder;
use super::search::{Search, SearchError};
use super::{Target, Verdict};
use crate::cluster::{ClusterConfig, cluster};
use crate::config::{GateConfig, QuantizeConfig};
use crate::finetune::FinetuneConfig;
use crate::magnitude::{MagnitudeConfig, Scope, prune};
use crate::prune::structured::{BudgetConfig, Metric, StructuredConfig, prune_and_train};
use crate::qat::{QatConfig, qat};
use crate::quantize::{QuantizeError, quantize};

/// The share of all time that one training may take, per method.
const CHANNELS: f64 = 0.25;
const ZEROS: f64 = 0.25;
const VALUES: f64 = 0.15;
const INT8: f64 = 0.2;

/// What became of one training.
enum Outcome {
    /// It stands now.
    Kept,
    /// Something better, or less lossy, stands.
    Left,
    /// There is no time for another, or somebody stopped the search.
    Over,
}

/// Trains once, with as many epochs as `share` of the time allows, and weighs the result. `train` gives the network and
/// how the training ended, or why the method cannot be used here.
fn attempt(
    search: &mut Search<'_>,
    (method, what): (&'static str, String),
    share: f64,
    coded: bool,
    train: impl FnOnce(&mut Search<'_>, FinetuneConfig) -> Result<(Parts, Finish), String>,
) -> Result<Outcome, SearchError> {
    if search.is_over() {
        return Ok(Outcome::Over);
    }
    search.begin(&what);
    let finetune = match search.training(share)? {
        Ok(finetune) => finetune,
        Err(why) => {
            search.leave(method, what, Verdict::NoTime(why));
            return Ok(Outcome::Over);
        }
    };
    match train(search, finetune) {
        Ok((_, Finish::Interrupted)) => Ok(Outcome::Over),
        Ok((parts, _)) => Ok(match search.weigh(method, what, parts, coded)? {
            true => Outcome::Kept,
            false => Outcome::Left,
        }),
        Err(why) => {
            search.leave(method, what, Verdict::Impossible(why));
            Ok(Outcome::Left)
        }
    }
}

/// Channels removed, each cut beginning with what the last one left.
pub(super) fn channels(search: &mut Search<'_>) -> Result<(), SearchError> {
    let (metric, of) = match search.config.target {
        Target::Latency => (Metric::Macs, "MACs"),
        Target::Size => (Metric::Parameters, "parameters"),
    };
    let mut ladder = Ladder::new(&search.config.shares, |a, b| a < b);
    let mut stands = 1.0;
    while let Some(share) = ladder.next() {
        let what = format!("channels removed: {:.0} % of the {of} left", 100.0 * share);
        let outcome = attempt(search, ("prune", what), CHANNELS, false, |search, finetune| {
            let mut config = StructuredConfig {
                budget: BudgetConfig { metric, share: share / stands, ..BudgetConfig::default() },
                teaching: Some(search.config.teaching.clone()),
                finetune,
                ..StructuredConfig::default()
            };
            // They are drawn once, of the parent.
            config.sensitivity.curves = search.sensitivity.is_empty();
            let (parts, teacher, data) = (search.standing.parts.clone(), search.parent, search.data);
            let trained = search.train(config.finetune.epochs, |hooks| {
                prune_and_train(&parts, data, &config, Some(teacher), hooks, &mut |_| ())
            });
            let trained = trained.map_err(|error| error.to_string())?;
            if search.sensitivity.is_empty() {
                search.sensitivity = trained.pruned.sensitivity;
            }
            Ok((trained.pruned.parts, trained.tuned.finish))
        })?;
        match outcome {
            Outcome::Over => break,
            Outcome::Kept => stands = share,
            Outcome::Left => {}
        }
        ladder.tell(matches!(outcome, Outcome::Kept));
    }
    Ok(())
}

/// Single weights made zero.
pub(super) fn zeros(search: &mut Search<'_>) -> Result<(), SearchError> {
    let mut ladder = Ladder::new(&search.config.sparsities, |a, b| a > b);
    while let Some(sparsity) = ladder.next() {
        let what = format!("{:.1} % of the weights zero", 100.0 * sparsity);
        let outcome = attempt(search, ("prune", what), ZEROS, true, |search, finetune| {
            let config = MagnitudeConfig {
                sparsity,
                scope: Scope::Global,
                teaching: Some(search.config.teaching.clone()),
                finetune,
                ..MagnitudeConfig::default()
            };
            let (parts, teacher, data) = (search.standing.parts.clone(), search.parent, search.data);
            let sparse = search
                .train(config.finetune.epochs, |hooks| prune(&parts, data, &config, Some(teacher), hooks));
            sparse.map(|sparse| (sparse.parts, sparse.tuned.finish)).map_err(|error| error.to_string())
        })?;
        if matches!(outcome, Outcome::Over) {
            break;
        }
        ladder.tell(matches!(outcome, Outcome::Kept));
    }
    Ok(())
}

/// Weights that share values; `true` when one of the numbers of values was kept.
pub(super) fn values(search: &mut Search<'_>) -> Result<bool, SearchError> {
    let mut ladder = Ladder::new(&search.config.clusters, |a, b| a < b);
    let (mut any, first) = (false, search.attempts());
    // Each number begins with what stood before the first: values that are shared already cannot be told apart again.
    let before = search.standing.parts.clone();
    while let Some(clusters) = ladder.next() {
        let what = format!("{clusters} values for the weights of a layer");
        let outcome = attempt(search, ("cluster", what), VALUES, true, |search, finetune| {
            let mut config = ClusterConfig {
                clusters,
                biases: clusters,
                teaching: Some(search.config.teaching.clone()),
                ..ClusterConfig::default()
            };
            config.finetune = paced(finetune, &config.finetune);
            let (teacher, data) = (search.parent, search.data);
            let clustered = search
                .train(config.finetune.epochs, |hooks| cluster(&before, data, &config, Some(teacher), hooks));
            let clustered = clustered.map_err(|error| error.to_string())?;
            Ok((clustered.parts, clustered.tuned.finish))
        })?;
        if matches!(outcome, Outcome::Over) {
            break;
        }
        let kept = matches!(outcome, Outcome::Kept);
        any |= kept;
        if kept {
            search.replace(first);
        }
        ladder.tell(kept);
    }
    Ok(any)
}

/// The training of the search at the learning rate of a method that moves weights only a little.
fn paced(finetune: FinetuneConfig, method: &FinetuneConfig) -> FinetuneConfig {
    let mut finetune = finetune;
    finetune.optimizer.learning_rate = method.optimizer.learning_rate;
    finetune
}

/// int8 after training; where that loses too much, or leaves lossy layers in floats, trained for int8.
pub(super) fn int8(search: &mut Search<'_>) -> Result<(), SearchError> {
    if search.is_over() {
        return Ok(());
    }
    let coded = search.config.target == Target::Size;
    let what = "int8, calibrated after training".to_owned();
    search.begin(&what);
    let mut config =
        QuantizeConfig { gate: GateConfig { max_drop: search.allowed() }, ..QuantizeConfig::default() };
    config.layers.faster_only = search.config.target == Target::Latency;
    let (before, first) = (search.standing.parts.clone(), search.attempts());
    match quantize(&before, search.data, &config, &mut |_| ()) {
        Ok(quantized) => {
            let int8 = quantized.layers.iter().filter(|choice| choice.precision != "f32").count();
            let what = format!("{what}: {int8} of {} layers", quantized.layers.len());
            search.weigh("quantize", what, quantized.parts, coded)?;
            if quantized.too_lossy == 0 {
                return Ok(());
            }
        }
        Err(QuantizeError::TooLossy { .. }) => search.leave("quantize", what, Verdict::TooLossy),
        Err(error) => {
            search.leave("quantize", what, Verdict::Impossible(error.to_string()));
            return Ok(());
        }
    }
    if aware(search, &before, coded)? {
        search.replace(first);
    }
    Ok(())
}

/// Trained for int8, from the floats that stood before; `true` when that was kept.
fn aware(search: &mut Search<'_>, before: &Parts, coded: bool) -> Result<bool, SearchError> {
    let what = "trained for int8".to_owned();
    let outcome = attempt(search, ("quantize", what), INT8, coded, |search, finetune| {
        let mut config = QatConfig { teaching: Some(search.config.teaching.clone()), ..QatConfig::default() };
        config.finetune = paced(finetune, &config.finetune);
        let (teacher, data) = (search.parent, search.data);
        let aware = search
            .train(config.finetune.epochs, |hooks| qat(before, data, &config, None, Some(teacher), hooks));
        aware.map(|aware| (aware.parts, aware.tuned.finish)).map_err(|error| error.to_string())
    })?;
    Ok(matches!(outcome, Outcome::Kept))
}

/// The codec alone, where nothing before it has used it.
pub(super) fn codec(search: &mut Search<'_>) -> Result<(), SearchError> {
    if search.is_over() || search.is_coded() {
        return Ok(());
    }
    let what = "the record entropy-coded".to_owned();
    search.begin(&what);
    let parts = search.standing.parts.clone();
    search.weigh("codec", what, parts, true)?;
    Ok(())
}
