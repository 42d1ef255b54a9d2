//! How well scores rank positives above negatives.

/// The area under the receiver operating characteristic: the share of pairs of a positive and a negative in
/// which the positive has the higher score, ties counting one half (Mann & Whitney 1947). `None` when one
/// of the two is missing.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "counts of samples are far below 2^52")]
pub fn auroc(scores: impl IntoIterator<Item = (f32, bool)>) -> Option<f64> {
    let mut scores: Vec<(f32, bool)> = scores.into_iter().collect();
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives = scores.iter().filter(|(_, positive)| *positive).count() as f64;
    let negatives = scores.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let (mut rank_sum, mut start) = (0.0, 0);
    while start < scores.len() {
        let mut end = start;
        while end < scores.len() && scores[end].0 == scores[start].0 {
            end += 1;
        }
        // Equal scores share the mean of their ranks, which count from 1.
        let rank = (start + end + 1) as f64 / 2.0;
        rank_sum += rank * scores[start..end].iter().filter(|(_, positive)| *positive).count() as f64;
        start = end;
    }
    Some((rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}
