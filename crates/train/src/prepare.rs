//! Everything between a configuration and the first step: data, preprocessing, network, initial weights.

use artifact::Registry;
use model::initial_weights;
use network::postprocess::TargetScaling;
use network::{Network, Postprocess, Preprocess, Task, Weights};

use crate::config::NetworkConfigError;
use crate::config::{ClassWeights, ConfigError, TrainConfig};
use crate::data::{self, DataError, DataKind, DataSet, Loader, Target};
use crate::fit::{Objective, balanced_weights};
use crate::init::{self, InitError, InitReport};

/// A training that is ready to begin.
pub struct Prepared {
    /// The data, split.
    pub data: DataSet,
    /// The way in, fitted on the training split.
    pub preprocess: Preprocess,
    /// The way out.
    pub postprocess: Postprocess,
    /// The network.
    pub network: Network,
    /// Its initial weights.
    pub weights: Weights,
    /// What came from another package, and what did not.
    pub init: Option<InitReport>,
    /// Names of the layers that stay as they are.
    pub freeze: Vec<String>,
    /// The loss and the metric.
    pub objective: Objective,
}

/// A training that cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each wraps the error of one step")]
pub enum PrepareError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Network(#[from] NetworkConfigError),
    #[error(transparent)]
    Init(#[from] InitError),
    #[error("the answers do not fit the network")]
    Postprocess(#[from] network::postprocess::PostprocessError),
}

/// Loads the data, fits the preprocessing, builds the network and its initial weights.
///
/// # Errors
/// When the data cannot be read, or the configuration does not fit it.
pub fn prepare(config: &TrainConfig, registry: &Registry) -> Result<Prepared, PrepareError> {
    let data = data::load(&config.data, config.train.seed)?;
    let images = matches!(data.kind, DataKind::Image { .. });
    config.train.check_task(data.task, data.labels.len(), images)?;
    let preprocess = data::fit_preprocess(&data, &config.data)?;
    let mut postprocess = Postprocess::new(data.task, data.labels.clone());
    if data.task == Task::Regression {
        postprocess.target = Some(target_scaling(&data)?);
    }
    let input = preprocess.output_shape();
    let outputs = postprocess.output_width();
    let (network, weights, report) = match &config.init {
        None => {
            let network = config.network.build(&input, outputs)?;
            let weights = initial_weights(&network, config.train.seed);
            (network, weights, None)
        }
        Some(reference) => {
            let parent = init::open(registry, reference)?;
            let network = match config.network.is_empty() {
                true => init::network_of(&parent, &input, outputs)?,
                false => config.network.build(&input, outputs)?,
            };
            let fresh = initial_weights(&network, config.train.seed);
            let same_labels = parent.manifest().postprocess.labels == postprocess.labels
                && parent.manifest().postprocess.task == postprocess.task;
            let (weights, report) = init::load(&parent, &network, fresh, same_labels)?;
            (network, weights, Some(report))
        }
    };
    postprocess.check(network.output_shape().iter().product())?;
    let freeze = init::freeze(&network, &config.freeze, report.as_ref())?;
    let weighting = match &config.train.class_weights {
        ClassWeights::None => Vec::new(),
        ClassWeights::Factors(factors) => factors.clone(),
        ClassWeights::Balanced => {
            balanced_weights(data.task, &data.label_counts(&data.splits.train)?, data.splits.train.len())
        }
    };
    let objective = Objective::new(postprocess.clone(), config.train.label_smoothing, weighting);
    Ok(Prepared { data, preprocess, postprocess, network, weights, init: report, freeze, objective })
}

impl Prepared {
    /// A loader of prepared samples.
    #[must_use]
    pub fn loader(&self, config: &TrainConfig) -> Loader {
        Loader::new(self.data.clone(), self.preprocess.clone(), config.data.cache_mib << 20)
    }
}

/// Mean and standard deviation of each target over the training split.
fn target_scaling(data: &DataSet) -> Result<TargetScaling, DataError> {
    let width = data.labels.len();
    let (mut sums, mut squares, mut count) = (vec![0.0f64; width], vec![0.0f64; width], 0.0f64);
    let targets = data.targets(&data.splits.train)?;
    let rows = targets.iter().filter_map(|target| match target {
        Target::Values(values) => Some(values),
        _ => None,
    });
    for values in rows.clone() {
        count += 1.0;
        for (sum, &value) in sums.iter_mut().zip(values) {
            *sum += f64::from(value);
        }
    }
    let mean: Vec<f64> = sums.iter().map(|sum| sum / count.max(1.0)).collect();
    for values in rows {
        for ((square, &value), mean) in squares.iter_mut().zip(values).zip(&mean) {
            *square += (f64::from(value) - mean).powi(2);
        }
    }
    let deviation = |square: &f64| {
        let std = (square / count.max(1.0)).sqrt() as f32;
        // A target that never changes is only moved, not stretched.
        if std > 0.0 { std } else { 1.0 }
    };
    Ok(TargetScaling {
        mean: mean.iter().map(|&mean| mean as f32).collect(),
        std: squares.iter().map(deviation).collect(),
    })
}
