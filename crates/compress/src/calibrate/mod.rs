//! The ranges of activations, from samples.
//!
//! Every value that a program shows is seen twice: once for its least and greatest number, once for how the numbers
//! are distributed in between (`Histogram`). A [`Rule`] makes a range of that by itself; `auto` asks each rule and
//! lets the network decide (`choose`).

pub(crate) mod choose;
mod histogram;
pub(crate) mod sample;

use std::collections::BTreeMap;

use engine::Program;
use network::Affine;
use network::quantization::CalibrationMethod;

pub(crate) use self::histogram::Histogram;
use crate::config::{CalibrationConfig, Method};
use crate::quantize::QuantizeError;

/// How a range is made of what was seen of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// From the least to the greatest.
    MinMax,
    /// Each end is cut so that this share of the values, in per cent, stays inside (TensorRT, NNCF and ONNX Runtime
    /// offer it as "percentile").
    Percentile(f64),
    /// The threshold on the magnitude at which the distribution of the rounded values is nearest to that of the
    /// values, by Kullback–Leibler (Migacz 2017; TensorRT's and ONNX Runtime's "entropy").
    Entropy,
    /// The range of a grid at which the rounded values are nearest to the values: the least mean squared error
    /// (Nagel et al. 2021, section 3.1; Choukroun et al. 2019).
    Mse,
}

impl Rule {
    /// The rules that a configuration asks for; all where it is to be chosen.
    #[must_use]
    pub fn of(config: &CalibrationConfig) -> Vec<Self> {
        let percentile = Self::Percentile(config.percentile);
        match config.method {
            Method::MinMax => vec![Self::MinMax],
            Method::Percentile => vec![percentile],
            Method::Entropy => vec![Self::Entropy],
            Method::Mse => vec![Self::Mse],
            Method::Auto => vec![Self::MinMax, percentile, Self::Entropy, Self::Mse],
        }
    }

    /// Its name in a plan.
    #[must_use]
    pub fn method(self) -> CalibrationMethod {
        match self {
            Self::MinMax => CalibrationMethod::MinMax,
            Self::Percentile(_) => CalibrationMethod::Percentile,
            Self::Entropy => CalibrationMethod::Entropy,
            Self::Mse => CalibrationMethod::Mse,
        }
    }
}

/// Runs prepared rows through a program of floats and returns what the bytes of each value would mean, by the name
/// of the layer or input.
///
/// # Errors
/// When a value is not finite, or the rows do not fit the program.
pub fn ranges(
    program: &Program,
    rows: &[f32],
    rule: Rule,
) -> Result<BTreeMap<String, Affine>, QuantizeError> {
    let seen = histograms(program, rows)?;
    Ok(seen.into_iter().map(|(name, seen)| (name, seen.affine(rule))).collect())
}

/// What was seen of each value.
pub(crate) fn histograms(
    program: &Program,
    rows: &[f32],
) -> Result<BTreeMap<String, Histogram>, QuantizeError> {
    let mut seen: BTreeMap<String, Histogram> = BTreeMap::new();
    let mut not_finite = None;
    observe(program, rows, &mut |name, values| {
        if !seen.contains_key(name) {
            seen.insert(name.to_owned(), Histogram::default());
        }
        let Some(seen) = seen.get_mut(name) else { return };
        if let Some(&value) = values.iter().find(|value| !value.is_finite())
            && not_finite.is_none()
        {
            not_finite = Some((name.to_owned(), value));
        }
        seen.widen(values);
    })?;
    if let Some((name, value)) = not_finite {
        return Err(QuantizeError::NotFinite { name, value });
    }
    seen.values_mut().for_each(Histogram::open);
    observe(program, rows, &mut |name, values| {
        if let Some(seen) = seen.get_mut(name) {
            seen.count(values);
        }
    })?;
    Ok(seen)
}

/// Shows all values of all rows.
pub(crate) fn observe(
    program: &Program,
    rows: &[f32],
    show: &mut dyn FnMut(&str, &[f32]),
) -> Result<(), QuantizeError> {
    alter(program, rows, &mut |name, values| show(name, values)).map(drop)
}

/// Runs all rows with values that may be changed, and returns the first output.
pub(crate) fn alter(
    program: &Program,
    rows: &[f32],
    change: &mut dyn FnMut(&str, &mut [f32]),
) -> Result<Vec<f32>, QuantizeError> {
    let [input] = program.inputs() else {
        return Err(QuantizeError::Inputs { found: program.inputs().len() });
    };
    let mut first = Vec::new();
    // A few rows at a time, so that what is shown stays in the cache.
    for rows in rows.chunks(input.values * 64) {
        let outputs = program.alter(&[rows], rows.len() / input.values, change)?;
        first.extend(outputs.into_iter().next().unwrap_or_default());
    }
    Ok(first)
}

/// What values become that go through bytes and back.
pub(crate) fn round(values: &mut [f32], affine: Affine) {
    let (inverse, zero) = (1.0 / affine.scale, f32::from(affine.zero_point));
    for value in values {
        let byte = ((*value * inverse).round_ties_even() + zero).clamp(0.0, 255.0);
        *value = (byte - zero) * affine.scale;
    }
}

/// How much stronger a signal is than what changed it, in decibels; infinite where nothing did.
pub(crate) fn sqnr_db(signal: &[f32], changed: &[f32]) -> f64 {
    let power: f64 = signal.iter().map(|&value| f64::from(value).powi(2)).sum();
    10.0 * (power / noise(signal, changed)).log10()
}

/// The sum of squared differences.
pub(crate) fn noise(signal: &[f32], changed: &[f32]) -> f64 {
    signal.iter().zip(changed).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
}
