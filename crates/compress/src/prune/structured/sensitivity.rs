//! What each group bears: the score of the network when one group alone is cut, at several sizes.

use network::channels::remove;
use predict::{DeviceSpec, Parts, Predictor};
use serde::Serialize;
use train::data::DataSet;
use train::evaluate::evaluate;

use super::allocate::Candidate;
use super::{PruneError, Stage, StructuredConfig};
use crate::finish::drop_between;
use crate::judge;

/// How the score falls as one group gets smaller and all others stay whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// The group.
    pub group: String,
    /// How many channels it has.
    pub channels: usize,
    /// The name of the score: the headline metric of the task.
    pub metric: String,
    /// The part of the data that was scored: `validation`, or `train` where there is no other.
    pub part: String,
    /// From all channels to the fewest.
    pub points: Vec<Point>,
}

/// One point of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// How many channels are left.
    pub kept: usize,
    /// The score.
    pub score: f64,
    /// How much worse that is than with all: percentage points for shares, per cent for the error of a regression.
    pub drop: f64,
}

impl Curve {
    /// How much is lost with so many channels, between and beyond the points along straight lines. Having less never
    /// counts as better.
    pub(super) fn drop_at(&self, kept: usize) -> f64 {
        let mut worst = 0.0f64;
        let rising: Vec<(f64, f64)> = self
            .points
            .iter()
            .map(|point| {
                worst = worst.max(point.drop);
                (point.kept as f64, worst)
            })
            .collect();
        let kept = kept as f64;
        let segment = rising.windows(2).find(|pair| pair[1].0 <= kept).or_else(|| rising.windows(2).last());
        match segment {
            Some(&[(x, y), (to_x, to_y)]) if x > to_x => y + (to_y - y) * (x - kept) / (x - to_x),
            _ => 0.0,
        }
    }
}

/// Draws the curve of each candidate.
pub(super) fn curves(
    candidates: &[Candidate<'_>],
    parts: &Parts,
    data: &DataSet,
    config: &StructuredConfig,
    stage: &mut dyn FnMut(Stage<'_>),
) -> Result<Vec<Curve>, PruneError> {
    let (part, indices) = judge::choosing(data);
    let indices = train::data::draw(indices, config.samples.sensitivity, config.seed);
    if indices.is_empty() {
        return Err(PruneError::NoSamples { split: "training", purpose: "draw sensitivity curves from" });
    }
    let score = |parts: Parts| -> Result<_, PruneError> {
        let predictor = Predictor::from_parts(parts, DeviceSpec::Cpu)?;
        Ok(evaluate(&predictor, data, part, &indices, &mut |_| ())?)
    };
    let whole = score(parts.clone())?;
    let (metric, best) = whole.headline();
    let mut curves = Vec::new();
    for (at, candidate) in candidates.iter().enumerate() {
        let (group, channels) = (&candidate.group.name, candidate.group.channels);
        let mut points = vec![Point { kept: channels, score: best, drop: 0.0 }];
        for level in &config.sensitivity.levels {
            let kept = ((level * channels as f64).round() as usize).max(1);
            if points.last().is_some_and(|last| last.kept <= kept) {
                continue;
            }
            stage(Stage::Sensitivity { group, kept, channels, done: at, groups: candidates.len() });
            let removal = [(group.clone(), candidate.removed(kept))].into();
            let (network, weights) = remove(&parts.network, &parts.weights, &removal)?;
            let cut = score(Parts { network, weights, ..parts.clone() })?;
            points.push(Point { kept, score: cut.headline().1, drop: drop_between(&whole, &cut) });
        }
        let (metric, part) = (metric.to_owned(), part.to_owned());
        curves.push(Curve { group: group.clone(), channels, metric, part, points });
    }
    Ok(curves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_read_between_and_beyond_its_points() {
        let point = |(kept, drop): (usize, f64)| Point { kept, score: 0.0, drop };
        let points = [(40, 0.0), (30, -1.0), (20, 2.0), (10, 1.0)].map(point).to_vec();
        let (group, metric, part) = ("a".to_owned(), "accuracy".to_owned(), "validation".to_owned());
        let curve = Curve { group, channels: 40, metric, part, points };
        let drops = [40, 35, 30, 25, 20, 15, 10, 5].map(|kept| curve.drop_at(kept));
        assert_eq!(drops, [0.0, 0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 2.0]);
        let steep = Curve { points: curve.points[..3].to_vec(), ..curve };
        assert_eq!(steep.drop_at(10), 4.0);
    }
}
