//! The population stability index of two histograms, and what of it may be chance.
//!
//! `PSI = Σ (aᵢ − eᵢ) · ln(aᵢ / eᵢ)` over the bins, with `eᵢ` the share of the reference in bin `i` and `aᵢ` that of what
//! came since: Siddiqi (2006), *Credit Risk Scorecards*, and the Jeffreys divergence (1946) of the two. Shares
//! below [`FLOOR`] count as [`FLOOR`], or one empty bin would make it infinite. Each term is positive or zero, for its two
//! factors have the same sign; so the sum is 0 for equal shares alone (to the floor), and it does not matter which of
//! the two is the reference.
//!
//! Two samples of one and the same distribution differ, too. Their PSI is then about χ² with `bins − 1` degrees of
//! freedom, times `1/n + 1/m` (Yurdakul 2018, *Statistical Properties of Population Stability Index*): [`chance`].

/// Shares below it count as it.
pub const FLOOR: f64 = 1e-4;
/// From here on a change is called moderate.
pub const MODERATE: f64 = 0.1;
/// From here on it is called significant.
pub const SIGNIFICANT: f64 = 0.25;

/// The standard normal's quantile that one in a thousand exceeds.
const ONE_IN_A_THOUSAND: f64 = 3.090_232;

/// The index of two histograms over the same bins. Nothing where either counts nothing, or they have other bins.
#[must_use]
pub fn psi(reference: &[u64], counts: &[u64]) -> Option<f64> {
    let total = |counts: &[u64]| counts.iter().map(|count| *count as f64).sum::<f64>();
    let (expected, found) = (total(reference), total(counts));
    if reference.len() != counts.len() || expected <= 0.0 || found <= 0.0 {
        return None;
    }
    let share = |count: u64, total: f64| (count as f64 / total).max(FLOOR);
    let term = |(reference, count): (&u64, &u64)| {
        let (e, a) = (share(*reference, expected), share(*count, found));
        (a - e) * (a / e).ln()
    };
    Some(reference.iter().zip(counts).map(term).sum())
}

/// The index that two samples of the same distribution exceed once in a thousand times: the quantile of χ² by Wilson and
/// Hilferty (1931), times `1/n + 1/m`. Bins that are empty in both say nothing and are left out.
#[must_use]
pub fn chance(reference: &[u64], counts: &[u64]) -> f64 {
    let total = |counts: &[u64]| counts.iter().map(|count| *count as f64).sum::<f64>().max(1.0);
    let used = reference.iter().zip(counts).filter(|(e, a)| **e > 0 || **a > 0).count();
    let freedom = used.saturating_sub(1) as f64;
    if freedom == 0.0 {
        return 0.0;
    }
    let spread = 2.0 / (9.0 * freedom);
    let quantile = freedom * (1.0 - spread + ONE_IN_A_THOUSAND * spread.sqrt()).powi(3);
    quantile * (1.0 / total(reference) + 1.0 / total(counts))
}

/// What an index means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Too few samples to say anything.
    Collecting,
    /// No change, or none that could not be chance.
    Stable,
    /// From [`MODERATE`] on.
    Moderate,
    /// From [`SIGNIFICANT`] on.
    Significant,
}

impl Level {
    /// The level of an index, given what chance may do.
    #[must_use]
    pub fn of(psi: f64, chance: f64) -> Self {
        match psi {
            _ if psi <= chance => Self::Stable,
            _ if psi >= SIGNIFICANT => Self::Significant,
            _ if psi >= MODERATE => Self::Moderate,
            _ => Self::Stable,
        }
    }

    /// Its name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Collecting => "collecting",
            Self::Stable => "stable",
            Self::Moderate => "moderate",
            Self::Significant => "significant",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(found: Option<f64>, expected: f64) {
        let found = found.unwrap();
        assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
    }

    #[test]
    fn known_values() {
        // (0.75 − 0.5) ln 1.5 + (0.25 − 0.5) ln 0.5 = 0.25 · ln 3.
        near(psi(&[50, 50], &[75, 25]), 0.25 * 3.0f64.ln());
        // 0.1 · ln 1.5 − 0.1 · ln(5/6), the last bin as it was.
        near(psi(&[20, 60, 20], &[6, 10, 4]), 0.1 * 1.5f64.ln() - 0.1 * (0.5f64 / 0.6).ln());
        // An empty bin counts as the floor.
        near(psi(&[1, 1], &[1, 0]), 0.5 * 2.0f64.ln() + (FLOOR - 0.5) * (FLOOR / 0.5).ln());
        near(psi(&[1, 3], &[100, 300]), 0.0);
        assert_eq!(psi(&[0, 0], &[1, 1]), None);
        assert_eq!(psi(&[1, 1], &[0, 0]), None);
        assert_eq!(psi(&[1], &[1, 1]), None);
    }

    #[test]
    fn chance_is_a_quantile_of_chi_square() {
        // χ²(9) exceeds 27.877 once in a thousand times.
        let found = chance(&[100; 10], &[50; 10]) / (1.0 / 1000.0 + 1.0 / 500.0);
        assert!((found - 27.877).abs() < 0.3, "{found}");
        assert_eq!(chance(&[5, 0], &[3, 0]), 0.0);
        assert_eq!(Level::of(0.3, 0.1), Level::Significant);
        assert_eq!(Level::of(0.1, 0.05), Level::Moderate);
        assert_eq!([Level::of(0.3, 0.4), Level::of(0.05, 0.01)], [Level::Stable; 2]);
    }

    proptest! {
        #[test]
        fn it_is_positive_symmetric_and_zero_for_the_same(
            pairs in prop::collection::vec((0u64..1_000_000, 0u64..1_000_000), 1..40),
            factor in 1u64..1000,
        ) {
            let (a, b): (Vec<u64>, Vec<u64>) = pairs.into_iter().unzip();
            let (there, back) = (psi(&a, &b), psi(&b, &a));
            prop_assert_eq!(there.is_some(), back.is_some());
            if let (Some(there), Some(back)) = (there, back) {
                prop_assert!(there >= 0.0 && there.is_finite());
                prop_assert!((there - back).abs() <= 1e-9 * there.max(1.0));
            }
            let more: Vec<u64> = a.iter().map(|count| count * factor).collect();
            if let Some(same) = psi(&a, &more) {
                prop_assert!(same < 1e-9);
            }
            prop_assert!(chance(&a, &b) >= 0.0);
        }
    }
}
