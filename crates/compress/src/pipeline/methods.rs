//! The methods, each tried with the values of its knob.

use predict::Parts;
use train::fit::Finish;

use super::ladder::Ladder;
use super::search::{Search, SearchError};
use super::{Target, Verdict};
use crate::cluster::{ClusterConfig, cluster};
use crate::config::{GateConfig, QuantizeConfig};
use crate::magnitude::{MagnitudeConfig, Scope, prune};
use crate::prune::structured::{BudgetConfig, Metric, StructuredConfig, prune_and_train};
use crate::qat::{QatConfig, qat};
use crate::quantize::{QuantizeError, quantize};

/// The share of all time that one training may take, per method.
const CHANNELS: f64 = 0.25;
const ZEROS: f64 = 0.25;
const VALUES: f64 = 0.15;
const INT8: f64 = 0.2;

/// Channels removed, each cut beginning with what the last one left.
pub(super) fn channels(search: &mut Search<'_>) -> Result<(), SearchError> {
    let (metric, of) = match search.config.target {
        Target::Latency => (Metric::Macs, "MACs"),
        Target::Size => (Metric::Parameters, "parameters"),
    };
    let mut ladder = Ladder::new(&search.config.shares, |a, b| a < b);
    let mut stands = 1.0;
    while let Some(share) = ladder.next() {
        if search.is_over() {
            return Ok(());
        }
        let what = format!("channels removed: {:.0} % of the {of} left", 100.0 * share);
        search.begin(&what);
        let finetune = match search.training(CHANNELS)? {
            Ok(finetune) => finetune,
            Err(why) => {
                search.leave("prune", what, Verdict::NoTime(why));
                return Ok(());
            }
        };
        let mut config = StructuredConfig {
            budget: BudgetConfig { metric, share: share / stands, ..BudgetConfig::default() },
            teaching: Some(search.config.teaching.clone()),
            finetune,
            ..StructuredConfig::default()
        };
        // They are drawn once, of the parent.
        config.sensitivity.curves = search.sensitivity.is_empty();
        let (parts, teacher, data) = (search.standing.parts.clone(), search.parent, search.data);
        let epochs = config.finetune.epochs;
        let trained = search
            .train(epochs, |hooks| prune_and_train(&parts, data, &config, Some(teacher), hooks, &mut |_| ()));
        let kept = match trained {
            Ok(trained) if trained.tuned.finish == Finish::Interrupted => return Ok(()),
            Ok(trained) => {
                if search.sensitivity.is_empty() {
                    search.sensitivity = trained.pruned.sensitivity;
                }
                search.weigh("prune", what, trained.pruned.parts, false)?
            }
            Err(error) => {
                search.leave("prune", what, Verdict::Impossible(error.to_string()));
                false
            }
        };
        if kept {
            stands = share;
        }
        ladder.tell(kept);
    }
    Ok(())
}

/// Single weights made zero.
pub(super) fn zeros(search: &mut Search<'_>) -> Result<(), SearchError> {
    let mut ladder = Ladder::new(&search.config.sparsities, |a, b| a > b);
    while let Some(sparsity) = ladder.next() {
        if search.is_over() {
            return Ok(());
        }
        let what = format!("{:.1} % of the weights zero", 100.0 * sparsity);
        search.begin(&what);
        let finetune = match search.training(ZEROS)? {
            Ok(finetune) => finetune,
            Err(why) => {
                search.leave("prune", what, Verdict::NoTime(why));
                return Ok(());
            }
        };
        let config = MagnitudeConfig {
            sparsity,
            scope: Scope::Global,
            teaching: Some(search.config.teaching.clone()),
            finetune,
            ..MagnitudeConfig::default()
        };
        let (parts, teacher, data) = (search.standing.parts.clone(), search.parent, search.data);
        let epochs = config.finetune.epochs;
        let sparse = search.train(epochs, |hooks| prune(&parts, data, &config, Some(teacher), hooks));
        let kept = match sparse {
            Ok(sparse) if sparse.tuned.finish == Finish::Interrupted => return Ok(()),
            Ok(sparse) => search.weigh("prune", what, sparse.parts, true)?,
            Err(error) => {
                search.leave("prune", what, Verdict::Impossible(error.to_string()));
                false
            }
        };
        ladder.tell(kept);
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
        if search.is_over() {
            return Ok(any);
        }
        let what = format!("{clusters} values for the weights of a layer");
        search.begin(&what);
        let finetune = match search.training(VALUES)? {
            Ok(finetune) => finetune,
            Err(why) => {
                search.leave("cluster", what, Verdict::NoTime(why));
                return Ok(any);
            }
        };
        let mut config = ClusterConfig {
            clusters,
            biases: clusters,
            teaching: Some(search.config.teaching.clone()),
            ..ClusterConfig::default()
        };
        let learning_rate = config.finetune.optimizer.learning_rate;
        config.finetune = finetune;
        config.finetune.optimizer.learning_rate = learning_rate;
        let (teacher, data, epochs) = (search.parent, search.data, config.finetune.epochs);
        let clustered = search.train(epochs, |hooks| cluster(&before, data, &config, Some(teacher), hooks));
        let kept = match clustered {
            Ok(clustered) if clustered.tuned.finish == Finish::Interrupted => return Ok(any),
            Ok(clustered) => search.weigh("cluster", what, clustered.parts, true)?,
            Err(error) => {
                search.leave("cluster", what, Verdict::Impossible(error.to_string()));
                false
            }
        };
        any |= kept;
        if kept {
            search.replace(first);
        }
        ladder.tell(kept);
    }
    Ok(any)
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
    if search.is_over() {
        return Ok(false);
    }
    search.begin(&what);
    let finetune = match search.training(INT8)? {
        Ok(finetune) => finetune,
        Err(why) => {
            search.leave("quantize", what, Verdict::NoTime(why));
            return Ok(false);
        }
    };
    let mut config = QatConfig { teaching: Some(search.config.teaching.clone()), ..QatConfig::default() };
    let learning_rate = config.finetune.optimizer.learning_rate;
    config.finetune = finetune;
    config.finetune.optimizer.learning_rate = learning_rate;
    let (teacher, data, epochs) = (search.parent, search.data, config.finetune.epochs);
    match search.train(epochs, |hooks| qat(before, data, &config, None, Some(teacher), hooks)) {
        Ok(aware) if aware.tuned.finish == Finish::Interrupted => Ok(false),
        Ok(aware) => search.weigh("quantize", what, aware.parts, coded),
        Err(error) => {
            search.leave("quantize", what, Verdict::Impossible(error.to_string()));
            Ok(false)
        }
    }
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
