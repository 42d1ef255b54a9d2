//! What the quantization of each layer alone costs, and which layer is given up first.

use predict::Parts;

use super::work::Work;
use super::{LayerChoice, QuantizeError, Stage};
use crate::calibrate::{alter, sqnr_db};

/// The drop of the headline metric that a quantized network has.
type Score<'a> = dyn FnMut(&Parts) -> Result<f64, QuantizeError> + 'a;

impl Work {
    /// Quantizes each layer alone and notes what that costs: of the outputs over `rows`, and of the headline metric.
    pub(super) fn measure_each_alone(
        &mut self,
        parts: &Parts,
        rows: &[f32],
        score: &mut Score<'_>,
        stage: &mut dyn FnMut(Stage<'_>),
    ) -> Result<(), QuantizeError> {
        let exact = alter(&self.floats()?, rows, &mut |_, _| ())?;
        let layers: Vec<String> = self.candidates().map(str::to_owned).collect();
        for layer in layers {
            stage(Stage::Sensitivity { layer: &layer });
            let alone = std::slice::from_ref(&layer);
            let found = alter(&self.program(alone)?, rows, &mut |_, _| ())?;
            let ratio = sqnr_db(&exact, &found);
            let drop = score(&self.parts_with(parts, alone)?)?;
            for choice in self.choices.iter_mut().filter(|choice| choice.layer == layer) {
                choice.sqnr_db = Some(ratio).filter(|ratio| ratio.is_finite());
                choice.drop = Some(drop).filter(|drop| drop.is_finite());
            }
        }
        Ok(())
    }

    /// Leaves the most harmful layer in floats; `false` when that was the last one.
    pub(super) fn give_up_the_most_harmful(&mut self, drop: f64, allowed: f64) -> bool {
        let quantized = self.choices.iter_mut().filter(|choice| choice.precision != "f32");
        let Some(worst) = quantized.max_by(|a, b| harm(a, b)) else { return false };
        worst.keep(format!(
            "too lossy: with it the headline metric fell by {drop:.3}, and {allowed} is allowed"
        ));
        self.candidates().next().is_some()
    }
}

/// Which of two layers does more harm: the one that costs more of the headline metric by itself; of those that cost
/// none, or the same, the one with more noise in the outputs. That a metric became better by chance is no merit.
fn harm(a: &LayerChoice, b: &LayerChoice) -> std::cmp::Ordering {
    let drop = |choice: &LayerChoice| choice.drop.unwrap_or(0.0).max(0.0);
    let noise = |choice: &LayerChoice| -choice.sqnr_db.unwrap_or(f64::INFINITY);
    drop(a).total_cmp(&drop(b)).then(noise(a).total_cmp(&noise(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measured_drop_counts_first_and_then_the_noise() {
        let choice = |drop: Option<f64>, sqnr_db: Option<f64>| LayerChoice {
            layer: String::new(),
            kind: "dense",
            macs: 1,
            precision: "int8",
            reason: None,
            sqnr_db,
            drop,
        };
        // From the most harmless to the most harmful.
        let layers = [
            choice(Some(-0.5), None),
            choice(Some(0.0), Some(40.0)),
            choice(Some(-0.1), Some(20.0)),
            choice(Some(0.1), Some(50.0)),
            choice(Some(0.1), Some(30.0)),
            choice(Some(2.0), Some(35.0)),
        ];
        for pair in layers.windows(2) {
            assert_eq!(harm(&pair[0], &pair[1]), std::cmp::Ordering::Less, "{pair:?}");
        }
    }
}
