//! The configuration of a quantization.

use network::quantization::CalibrationMethod;
use serde::{Deserialize, Serialize};

/// The only version of the format so far.
pub const CONFIG_VERSION: u32 = 1;

/// What a person writes; `configs/compress/int8.toml` says what the keys mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuantizeConfig {
    /// The version of this format: 1.
    pub version: u32,
    /// How the ranges of activations are found.
    pub calibration: CalibrationConfig,
    /// Which layers stay floats.
    pub layers: LayersConfig,
    /// What may be lost.
    pub gate: GateConfig,
}

/// How the ranges of activations are found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CalibrationConfig {
    /// From the least to the greatest, or what holds most of the values.
    pub method: CalibrationMethod,
    /// The share of values inside the range at either end, in per cent; for the method `percentile`.
    pub percentile: f64,
    /// How many samples of the training split.
    pub samples: usize,
    /// The seed of their draw.
    pub seed: u64,
}

/// Which layers stay floats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LayersConfig {
    /// Names, or beginnings of names with a `*` behind.
    pub float: Vec<String>,
    /// Leaves in floats what is slower in int8 here.
    pub faster_only: bool,
}

/// What may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateConfig {
    /// How far the headline metric may fall: percentage points for shares, per cent for the error of a regression.
    pub max_drop: f64,
}

impl Default for QuantizeConfig {
    fn default() -> Self {
        Self {
            version: CONFIG_VERSION,
            calibration: CalibrationConfig::default(),
            layers: LayersConfig::default(),
            gate: GateConfig::default(),
        }
    }
}

impl Default for CalibrationConfig {
    fn default() -> Self {
        Self { method: CalibrationMethod::Percentile, percentile: 99.99, samples: 512, seed: 1 }
    }
}

impl Default for LayersConfig {
    fn default() -> Self {
        Self { float: Vec::new(), faster_only: true }
    }
}

impl Default for GateConfig {
    fn default() -> Self {
        Self { max_drop: 0.5 }
    }
}

impl GateConfig {
    /// The first value that cannot be, in the table `gate`: its key, and what it must be.
    #[must_use]
    pub fn fault(&self) -> Option<(String, String)> {
        let sound = (0.0..=100.0).contains(&self.max_drop);
        (!sound).then(|| ("gate.max_drop".to_owned(), "must be from 0 to 100".to_owned()))
    }
}

impl QuantizeConfig {
    /// The first value that cannot be: its key, and what it must be.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, String)> {
        let CalibrationConfig { percentile, samples, .. } = self.calibration;
        let max_drop = self.gate.max_drop;
        let checks = [
            (self.version != CONFIG_VERSION, "version", "must be 1"),
            (
                !(percentile > 50.0 && percentile <= 100.0),
                "calibration.percentile",
                "must be above 50 and at most 100",
            ),
            (!(1..=1 << 20).contains(&samples), "calibration.samples", "must be from 1 to 1048576"),
            (!(0.0..=100.0).contains(&max_drop), "gate.max_drop", "must be from 0 to 100"),
        ];
        let fault = checks.into_iter().find(|(wrong, _, _)| *wrong);
        fault.map(|(_, key, message)| (key, message.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_the_defaults() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/compress/int8.toml");
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(toml::from_str::<QuantizeConfig>(&text).unwrap(), QuantizeConfig::default());
        assert_eq!(QuantizeConfig::default().fault(), None);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let fault = |text: &str| toml::from_str::<QuantizeConfig>(text).unwrap().fault().unwrap().0;
        assert_eq!(fault("version = 2"), "version");
        assert_eq!(fault("calibration.percentile = 50.0"), "calibration.percentile");
        assert_eq!(fault("calibration.percentile = nan"), "calibration.percentile");
        assert_eq!(fault("calibration.samples = 0"), "calibration.samples");
        assert_eq!(fault("gate.max_drop = -1.0"), "gate.max_drop");
        assert!(toml::from_str::<QuantizeConfig>("calibration.sample = 1").is_err());
    }
}
