//! Loss and metric as Burn's event processor wants them. Both are host numbers already.

use std::sync::Arc;

use burn::tensor::TensorReadError;
use burn::train::logger::MetricLogger;
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{
    Metric, MetricAttributes, MetricDefinition, MetricMetadata, MetricName, Numeric, NumericAttributes,
    NumericEntry, SerializedEntry,
};

/// The name under which renderers see the loss.
pub(super) const LOSS: &str = "loss";

/// The mean loss of one batch.
pub(super) struct LossInput {
    pub(super) value: f64,
    pub(super) count: usize,
}

/// The mean metric of one batch.
pub(super) struct ScoreInput {
    pub(super) value: f64,
    pub(super) count: usize,
}

/// A number that is averaged over samples.
#[derive(Clone)]
struct Average {
    name: MetricName,
    higher_is_better: bool,
    state: NumericMetricState,
}

impl Average {
    fn new(name: &str, higher_is_better: bool) -> Self {
        Self { name: Arc::new(name.to_owned()), higher_is_better, state: NumericMetricState::new() }
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(self.name.clone()).precision(4)
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: self.higher_is_better }.into()
    }
}

/// Implements a metric over an [`Average`]; the types differ only in what they read.
macro_rules! metric {
    ($metric:ident, $input:ident) => {
        impl Metric for $metric {
            type Input = $input;

            fn name(&self) -> MetricName {
                self.0.name.clone()
            }

            fn attributes(&self) -> MetricAttributes {
                self.0.attributes()
            }

            fn update(
                &mut self,
                item: &$input,
                _: &MetricMetadata,
            ) -> Result<SerializedEntry, TensorReadError> {
                self.0.state.update(item.value, item.count);
                Ok(self.0.state.compute_update(self.0.format()))
            }

            fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
                Ok(self.0.state.compute_final(self.0.format()))
            }

            fn clear(&mut self) {
                self.0.state.reset();
            }
        }

        impl Numeric for $metric {
            fn value(&self) -> Option<NumericEntry> {
                Some(self.0.state.current_value())
            }

            fn running_value(&self) -> Option<NumericEntry> {
                Some(self.0.state.running_value())
            }

            fn final_value(&self) -> NumericEntry {
                self.0.state.final_value()
            }
        }
    };
}

/// The loss.
#[derive(Clone)]
pub(super) struct LossValue(Average);

impl LossValue {
    pub(super) fn new() -> Self {
        Self(Average::new(LOSS, false))
    }
}

/// The metric of the task.
#[derive(Clone)]
pub(super) struct ScoreValue(Average);

impl ScoreValue {
    pub(super) fn new(metric: crate::config::Metric) -> Self {
        Self(Average::new(metric.name(), metric.higher_is_better()))
    }
}

metric!(LossValue, LossInput);
metric!(ScoreValue, ScoreInput);

/// Burn writes one file per metric and epoch unless it is given another logger; a run has its own files.
pub(super) struct NoFiles;

impl MetricLogger for NoFiles {
    fn log(&mut self, _update: MetricsUpdate, _epoch: usize, _split: &Split) {}

    fn read_numeric(
        &mut self,
        _name: &str,
        _epoch: usize,
        _split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _definition: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _summary: EpochSummary) {}
}
