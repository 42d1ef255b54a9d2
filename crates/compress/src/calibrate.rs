//! The ranges of activations, from samples.

use std::collections::BTreeMap;

use engine::Program;
use network::quantization::{Affine, CalibrationMethod};

use crate::quantize::QuantizeError;

/// Bins of a histogram. A range that is cut at a bin's edge is exact to 1/4096 of what was seen, a sixteenth of a
/// step of int8.
const BINS: usize = 4096;

/// What was seen of one value.
#[derive(Clone, Debug)]
struct Seen {
    least: f32,
    most: f32,
    bins: Vec<u64>,
}

/// Runs prepared rows through a program of floats and returns what the bytes of each value would mean, by the name
/// of the layer or input.
///
/// `percentile` cuts each end of a range so that this share of the values, in per cent, stays inside (Migacz 2017
/// calls it a saturated range; TensorRT, NNCF and ONNX Runtime offer it as "percentile").
///
/// # Errors
/// When a value is not finite, or the rows do not fit the program.
pub fn ranges(
    program: &Program,
    rows: &[f32],
    method: CalibrationMethod,
    percentile: f64,
) -> Result<BTreeMap<String, Affine>, QuantizeError> {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let mut not_finite = None;
    observe(program, rows, &mut |name, values| {
        let fresh = || Seen { least: f32::INFINITY, most: f32::NEG_INFINITY, bins: Vec::new() };
        if !seen.contains_key(name) {
            seen.insert(name.to_owned(), fresh());
        }
        let Some(seen) = seen.get_mut(name) else { return };
        for &value in values {
            if !value.is_finite() && not_finite.is_none() {
                not_finite = Some((name.to_owned(), value));
            }
            seen.least = seen.least.min(value);
            seen.most = seen.most.max(value);
        }
    })?;
    if let Some((name, value)) = not_finite {
        return Err(QuantizeError::NotFinite { name, value });
    }
    if method == CalibrationMethod::Percentile && percentile < 100.0 {
        seen.values_mut().for_each(|seen| seen.bins = vec![0; BINS]);
        observe(program, rows, &mut |name, values| {
            let Some(seen) = seen.get_mut(name) else { return };
            let scale = BINS as f32 / (seen.most - seen.least).max(f32::MIN_POSITIVE);
            for &value in values {
                let bin = ((value - seen.least) * scale) as usize;
                seen.bins[bin.min(BINS - 1)] += 1;
            }
        })?;
        seen.values_mut().for_each(|seen| seen.cut(percentile));
    }
    Ok(seen.into_iter().map(|(name, seen)| (name, Affine::covering(seen.least, seen.most))).collect())
}

impl Seen {
    /// Moves each end to the edge of the first bin beyond which more than `100 − percentile` per cent lie.
    fn cut(&mut self, percentile: f64) {
        let total: u64 = self.bins.iter().sum();
        // A little more, for 99.9 per cent of 1,000 leave 0.9999999999 outside.
        let outside = (total as f64 * (100.0 - percentile) / 100.0 + 1e-6) as u64;
        let skip = |bins: &mut dyn Iterator<Item = &u64>| {
            let mut passed = 0;
            bins.take_while(|&&count| {
                passed += count;
                passed <= outside
            })
            .count()
        };
        let (below, above) = (skip(&mut self.bins.iter()), skip(&mut self.bins.iter().rev()));
        let step = (self.most - self.least) / BINS as f32;
        let (least, most) = (self.least + step * below as f32, self.most - step * above as f32);
        (self.least, self.most) = (least, most);
    }
}

fn observe(program: &Program, rows: &[f32], show: &mut dyn FnMut(&str, &[f32])) -> Result<(), QuantizeError> {
    let [input] = program.inputs() else {
        return Err(QuantizeError::Inputs { found: program.inputs().len() });
    };
    // A few rows at a time, so that what is shown stays in the cache.
    for rows in rows.chunks(input.values * 64) {
        program.observe(&[rows], rows.len() / input.values, show)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(values: &[f32]) -> Seen {
        let (least, most) = (0.0, 4096.0);
        let mut bins = vec![0; BINS];
        values.iter().for_each(|&value| bins[value as usize] += 1);
        Seen { least, most, bins }
    }

    #[test]
    fn a_cut_keeps_the_share_that_it_promises() {
        // 1,000 values, one far away at either end.
        let values: Vec<f32> = (0..998).map(|index| 1000.0 + index as f32).chain([0.0, 4095.0]).collect();
        let mut outliers = seen(&values);
        outliers.cut(99.9);
        assert_eq!((outliers.least, outliers.most), (1000.0, 1998.0));
        let mut whole = seen(&values);
        whole.cut(99.95);
        assert_eq!((whole.least, whole.most), (0.0, 4096.0));
    }
}
