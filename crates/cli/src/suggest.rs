//! "Did you mean …?": the nearest of the names that exist.

/// The candidate that a mistyped `word` most likely stands for, if any is near enough.
///
/// ```
/// assert_eq!(cli::nearest("leraning_rate", ["seed", "learning_rate"]), Some("learning_rate"));
/// assert_eq!(cli::nearest("zebra", ["seed", "learning_rate"]), None);
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        // Below this the suggestions look random; clap draws its line at the same place.
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}
