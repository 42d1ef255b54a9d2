//! What happened, epoch by epoch; `metrics.jsonl` and `metrics.csv`.

use std::fmt::Write as _;
use std::path::Path;

use artifact::FileError;
use serde::Serialize;

use crate::config::Metric;

/// One epoch. It is not read back from decimal text, which could round it; checkpoints keep its bits.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: usize,
    /// Steps since the beginning.
    pub step: u64,
    /// The learning rate of the last step.
    pub learning_rate: f64,
    /// The mean loss of the training samples while they were learned from.
    pub train_loss: f64,
    /// Their metric, while they were learned from.
    pub train_score: f64,
    /// The loss of the validation part after the epoch.
    pub valid_loss: Option<f64>,
    /// Its metric.
    pub valid_score: Option<f64>,
    /// Seconds of training and validation.
    pub seconds: f64,
    /// Training samples per second.
    pub samples_per_second: f64,
    /// Whether it was the best so far.
    pub best: bool,
}

/// What `--json` says of an epoch.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EpochEvent<'a> {
    event: &'static str,
    epochs: usize,
    metric: &'static str,
    #[serde(flatten)]
    record: &'a EpochRecord,
}

impl EpochRecord {
    /// The epoch of `epochs` as a program reads it.
    #[must_use]
    pub fn event(&self, epochs: usize, metric: Metric) -> EpochEvent<'_> {
        EpochEvent { event: "epoch", epochs, metric: metric.name(), record: self }
    }

    /// The epoch of `epochs` as a person reads it, such as
    /// `epoch  3/20  train loss 0.2134 accuracy 93.12 %  valid loss 0.1822 accuracy 95.14 %  12,300 samples/s  best`.
    #[must_use]
    pub fn line(&self, epochs: usize, metric: Metric) -> String {
        let width = epochs.to_string().len();
        let name = metric.name().replace('_', " ");
        let (train_loss, train_score) = (self.train_loss, metric.text(self.train_score));
        let mut line =
            format!("epoch {:>width$}/{epochs}  train loss {train_loss:.4} {name} {train_score}", self.epoch);
        if let (Some(loss), Some(value)) = (self.valid_loss, self.valid_score) {
            line += &format!("  valid loss {loss:.4} {name} {}", metric.text(value));
        }
        line += &format!("  {} samples/s", cli::grouped(self.samples_per_second.round() as u64));
        if self.best {
            line += "  best";
        }
        line
    }
}

/// Writes `metrics.jsonl` and `metrics.csv` anew. `metric` names the score.
///
/// # Errors
/// When a file cannot be written.
pub fn write_history(directory: &Path, metric: &str, history: &[EpochRecord]) -> Result<(), FileError> {
    let mut lines = String::new();
    let mut table = format!(
        "epoch,step,learning_rate,train_loss,train_{metric},valid_loss,valid_{metric},seconds,samples_per_second,best\n"
    );
    for record in history {
        let line = serde_json::json!({
            "epoch": record.epoch,
            "step": record.step,
            "learning_rate": record.learning_rate,
            "train_loss": record.train_loss,
            format!("train_{metric}"): record.train_score,
            "valid_loss": record.valid_loss,
            format!("valid_{metric}"): record.valid_score,
            "seconds": record.seconds,
            "samples_per_second": record.samples_per_second,
            "best": record.best,
        });
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{line}");
        let option = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let _ = writeln!(
            table,
            "{},{},{},{},{},{},{},{},{},{}",
            record.epoch,
            record.step,
            record.learning_rate,
            record.train_loss,
            record.train_score,
            option(record.valid_loss),
            option(record.valid_score),
            record.seconds,
            record.samples_per_second,
            record.best
        );
    }
    artifact::atomic::write(&directory.join("metrics.jsonl"), lines)?;
    artifact::atomic::write(&directory.join("metrics.csv"), table)
}

/// The epochs of a checkpoint, every number to the bit.
pub(super) mod exact {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{EpochRecord, bits, optional_bits};

    #[derive(Serialize, Deserialize)]
    #[serde(remote = "EpochRecord")]
    struct Fields {
        epoch: usize,
        step: u64,
        #[serde(with = "bits")]
        learning_rate: f64,
        #[serde(with = "bits")]
        train_loss: f64,
        #[serde(with = "bits")]
        train_score: f64,
        #[serde(with = "optional_bits")]
        valid_loss: Option<f64>,
        #[serde(with = "optional_bits")]
        valid_score: Option<f64>,
        #[serde(with = "bits")]
        seconds: f64,
        #[serde(with = "bits")]
        samples_per_second: f64,
        best: bool,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Exact(#[serde(with = "Fields")] EpochRecord);

    pub(in crate::fit) fn serialize<S: Serializer>(
        history: &[EpochRecord],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(history.iter().cloned().map(Exact))
    }

    pub(in crate::fit) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<EpochRecord>, D::Error> {
        let history = Vec::<Exact>::deserialize(deserializer)?;
        Ok(history.into_iter().map(|Exact(record)| record).collect())
    }
}

/// [`bits`] of a number that may not be there.
mod optional_bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::bits;

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Bits(#[serde(with = "bits")] f64);

    pub(super) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(Bits).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<Bits>::deserialize(deserializer)?.map(|Bits(value)| value))
    }
}

/// A 64-bit float as the hexadecimal digits of its bits: reading decimal text back may round.
pub(super) mod bits {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::fit) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:016x}", value.to_bits()))
    }

    pub(in crate::fit) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(f64::from_bits).map_err(D::Error::custom)
    }
}
