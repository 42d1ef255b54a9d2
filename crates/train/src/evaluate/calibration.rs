//! Calibration: whether what is said with 80 % is right in 80 % of the cases.

use serde::{Deserialize, Serialize};

/// As in Guo et al. 2017.
const BINS: usize = 15;

/// The reliability curve and its summary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Expected calibration error: the mean distance of confidence and accuracy, weighted by the bins' sizes.
    pub ece: f64,
    /// Bins of equal width over [0, 1]; empty ones are kept so that the width is known.
    pub bins: Vec<Bin>,
}

/// Answers of similar confidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// The lowest confidence (exclusive, but for the first bin).
    pub low: f64,
    /// The highest confidence.
    pub high: f64,
    /// How many answers.
    pub count: u64,
    /// Their mean confidence; 0 when there are none.
    pub confidence: f64,
    /// The share of them that is right; 0 when there are none.
    pub accuracy: f64,
}

impl Calibration {
    /// From the confidence of each answer and whether it was right.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bins and counts are small"
    )]
    pub fn measure(answers: impl IntoIterator<Item = (f64, bool)>) -> Self {
        let mut sums = [(0u64, 0.0f64, 0u64); BINS];
        for (confidence, right) in answers {
            let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            sums[bin].0 += 1;
            sums[bin].1 += confidence;
            sums[bin].2 += u64::from(right);
        }
        let total: u64 = sums.iter().map(|(count, ..)| count).sum();
        let mut ece = 0.0;
        let mut bins = Vec::with_capacity(BINS);
        for (index, (count, confidence, right)) in sums.into_iter().enumerate() {
            let (mut bin_confidence, mut accuracy) = (0.0, 0.0);
            if count > 0 {
                bin_confidence = confidence / count as f64;
                accuracy = right as f64 / count as f64;
                ece += (bin_confidence - accuracy).abs() * count as f64 / total as f64;
            }
            let edge = |index: usize| index as f64 / BINS as f64;
            bins.push(Bin {
                low: edge(index),
                high: edge(index + 1),
                count,
                confidence: bin_confidence,
                accuracy,
            });
        }
        Self { ece, bins }
    }
}
