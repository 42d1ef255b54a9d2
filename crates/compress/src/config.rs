//! The configuration of a quantization.

use network::WeightOnly;
use network::quantization::{CalibrationMethod, Granularity};
use serde::{Deserialize, Serialize};

/// The only version of the format so far.
pub const CONFIG_VERSION: u32 = 1;

/// What a person writes; `configs/compress/int8.toml` says what the keys mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuantizeConfig {
    /// The version of this format: 1.
    pub version: u32,
    /// What becomes integers, and when ranges are found.
    pub mode: Mode,
    /// Which weights of an int8 layer share a scale.
    pub weights: Scales,
    /// Makes the channels of neighbouring layers alike first (Nagel et al. 2019, section 4.1).
    pub equalize: bool,
    /// Takes the mean error of each output, over the calibration samples, out of the bias (Nagel et al. 2019,
    /// section 4.2).
    pub bias_correction: bool,
    /// How the ranges of activations are found.
    pub calibration: CalibrationConfig,
    /// How integers are kept of layers that compute in floats; for the mode `weight-only`.
    pub weight_only: WeightOnlyConfig,
    /// Which layers stay floats.
    pub layers: LayersConfig,
    /// What may be lost.
    pub gate: GateConfig,
}

/// What becomes integers, and when the ranges of activations are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Weights and activations; ranges by calibration.
    #[default]
    Static,
    /// Weights and activations; ranges in each sample when it is there.
    Dynamic,
    /// Weights in blocks; layers compute in floats.
    WeightOnly,
}

/// Which weights of an int8 layer share a scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scales {
    /// Those of one output.
    #[default]
    PerChannel,
    /// All of a layer.
    PerTensor,
}

impl From<Scales> for Granularity {
    fn from(scales: Scales) -> Self {
        match scales {
            Scales::PerChannel => Self::PerChannel,
            Scales::PerTensor => Self::PerTensor,
        }
    }
}

/// How the ranges of activations are found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CalibrationConfig {
    /// How a range is made of what was seen; for the mode `static`.
    pub method: Method,
    /// The share of values inside the range at either end, in per cent; for the methods `percentile` and `auto`.
    pub percentile: f64,
    /// How many samples of the training split.
    pub samples: usize,
    /// The seed of their draw.
    pub seed: u64,
}

/// The methods of a calibration without training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// From the least to the greatest.
    MinMax,
    /// What holds most of the values.
    Percentile,
    /// What keeps most of the information.
    Entropy,
    /// What is nearest to the values.
    Mse,
    /// For each value the one that costs the outputs least.
    Auto,
}

impl From<Method> for CalibrationMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::MinMax => Self::MinMax,
            Method::Percentile => Self::Percentile,
            Method::Entropy => Self::Entropy,
            Method::Mse => Self::Mse,
            Method::Auto => Self::Auto,
        }
    }
}

/// How integers are kept of layers that compute in floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightOnlyConfig {
    /// 8 or 4.
    pub bits: u8,
    /// Weights of one output that share a scale.
    pub block: usize,
}

impl From<WeightOnlyConfig> for WeightOnly {
    fn from(WeightOnlyConfig { bits, block }: WeightOnlyConfig) -> Self {
        Self { bits, block }
    }
}

/// Which layers stay floats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LayersConfig {
    /// Names, or beginnings of names with a `*` behind.
    pub float: Vec<String>,
    /// Leaves in floats what is slower in int8 here. In the mode `weight-only` everything computes in floats, so
    /// that nothing is slower.
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
            mode: Mode::default(),
            weights: Scales::default(),
            equalize: false,
            bias_correction: true,
            calibration: CalibrationConfig::default(),
            weight_only: WeightOnlyConfig::default(),
            layers: LayersConfig::default(),
            gate: GateConfig::default(),
        }
    }
}

impl Default for CalibrationConfig {
    fn default() -> Self {
        Self { method: Method::Mse, percentile: 99.99, samples: 512, seed: 1 }
    }
}

impl Default for WeightOnlyConfig {
    fn default() -> Self {
        Self { bits: 8, block: 32 }
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
        let WeightOnlyConfig { bits, block } = self.weight_only;
        let max_drop = self.gate.max_drop;
        let in_blocks = self.mode == Mode::WeightOnly && self.weights == Scales::PerTensor;
        let checks = [
            (self.version != CONFIG_VERSION, "version", "must be 1"),
            (
                in_blocks,
                "weights",
                "must be left out in the mode `weight-only`, which has a scale for each block",
            ),
            (
                !(percentile > 50.0 && percentile <= 100.0),
                "calibration.percentile",
                "must be above 50 and at most 100",
            ),
            (!(1..=1 << 20).contains(&samples), "calibration.samples", "must be from 1 to 1048576"),
            (!matches!(bits, 4 | 8), "weight_only.bits", "must be 4 or 8"),
            (!(8..=1 << 20).contains(&block), "weight_only.block", "must be from 8 to 1048576"),
            (!(0.0..=100.0).contains(&max_drop), "gate.max_drop", "must be from 0 to 100"),
        ];
        let fault = checks.into_iter().find(|(wrong, _, _)| *wrong);
        fault.map(|(_, key, message)| (key, message.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(name: &str) -> QuantizeConfig {
        let path = format!("{}/../../configs/compress/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let config: QuantizeConfig = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(config.fault(), None, "{name}");
        config
    }

    #[test]
    fn the_committed_file_is_the_defaults() {
        assert_eq!(committed("int8"), QuantizeConfig::default());
    }

    #[test]
    fn the_other_files_say_what_their_names_promise() {
        assert_eq!(committed("dynamic").mode, Mode::Dynamic);
        let int4 = committed("int4");
        assert_eq!((int4.mode, int4.weight_only.bits), (Mode::WeightOnly, 4));
    }

    #[test]
    fn every_choice_can_be_written() {
        let config = |text: &str| toml::from_str::<QuantizeConfig>(text).unwrap();
        for (name, method) in [
            ("min-max", Method::MinMax),
            ("percentile", Method::Percentile),
            ("entropy", Method::Entropy),
            ("mse", Method::Mse),
            ("auto", Method::Auto),
        ] {
            assert_eq!(config(&format!("calibration.method = '{name}'")).calibration.method, method);
            assert_eq!(CalibrationMethod::from(method).name(), name);
        }
        for (name, mode) in
            [("static", Mode::Static), ("dynamic", Mode::Dynamic), ("weight-only", Mode::WeightOnly)]
        {
            assert_eq!(config(&format!("mode = '{name}'")).mode, mode);
        }
        assert_eq!(config("weights = 'per-tensor'").weights, Scales::PerTensor);
        assert!(config("equalize = true").equalize && config("bias_correction = true").bias_correction);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let fault = |text: &str| toml::from_str::<QuantizeConfig>(text).unwrap().fault().unwrap().0;
        assert_eq!(fault("version = 2"), "version");
        assert_eq!(fault("calibration.percentile = 50.0"), "calibration.percentile");
        assert_eq!(fault("calibration.percentile = nan"), "calibration.percentile");
        assert_eq!(fault("calibration.samples = 0"), "calibration.samples");
        assert_eq!(fault("weight_only.bits = 5"), "weight_only.bits");
        assert_eq!(fault("weight_only.block = 4"), "weight_only.block");
        assert_eq!(fault("mode = 'weight-only'\nweights = 'per-tensor'"), "weights");
        assert_eq!(fault("gate.max_drop = -1.0"), "gate.max_drop");
        assert!(toml::from_str::<QuantizeConfig>("calibration.sample = 1").is_err());
        // What only training finds is no method of a calibration.
        assert!(toml::from_str::<QuantizeConfig>("calibration.method = 'learned'").is_err());
    }
}
