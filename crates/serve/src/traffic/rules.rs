//! Whether a candidate goes on, waits, or goes back: a function of what was counted.

use super::plan::Auto;
use super::tally::{Agreement, Window};

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Too little is known, or the window has not ended.
    Wait,
    /// Nothing speaks against it.
    Advance,
    /// It does worse than it may; the reason.
    Back(String),
}

/// Judges a candidate by what it did in a step beside the default version. `ended`: the window has.
pub(crate) fn judge(
    auto: &Auto,
    share: u32,
    stable: &Window,
    candidate: &Window,
    copies: &Agreement,
    ended: bool,
) -> Verdict {
    if share > 0 && candidate.requests >= auto.min_requests {
        let errors = candidate.error_rate();
        if errors > auto.max_error_rate {
            return Verdict::Back(format!(
                "{} of {} requests failed, and {} may",
                candidate.errors, candidate.requests, auto.max_error_rate
            ));
        }
        // Beside few answers of the other version nothing can be said; at a share of 100 % it has none.
        if let (Some(mine), Some(other)) =
            (candidate.latency_ms(auto.quantile), stable.latency_ms(auto.quantile))
            && stable.requests >= auto.min_requests
            && mine > other * auto.max_latency_ratio
        {
            return Verdict::Back(format!(
                "the {} quantile of its latency is {mine:.3} ms, {:.2} times the default version's, and {} may be",
                auto.quantile,
                mine / other,
                auto.max_latency_ratio
            ));
        }
    }
    let known = copies.compared + copies.failed;
    if let Some(agreement) = copies.share().filter(|_| known >= auto.min_requests)
        && agreement < auto.min_agreement
    {
        return Verdict::Back(format!(
            "it agrees in {agreement:.4} of the rows, and {} must",
            auto.min_agreement
        ));
    }
    let asked = if share == 0 { known } else { candidate.requests };
    let compared = auto.min_agreement == 0.0 || known >= auto.min_requests || share >= 100;
    if ended && asked >= auto.min_requests && compared { Verdict::Advance } else { Verdict::Wait }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tally::Tally;
    use super::*;

    fn window(requests: u64, errors: u64, ms: u64) -> Window {
        let tally = Tally::default();
        for request in 0..requests {
            tally.add(request >= errors, Duration::from_millis(ms));
        }
        tally.now()
    }

    #[test]
    fn a_candidate_is_judged_by_errors_latency_and_agreement() {
        let auto = Auto { candidate: 2, min_requests: 10, min_agreement: 0.9, ..Auto::default() };
        let copies =
            |rows, agreed_rows| Agreement { compared: rows, rows, agreed_rows, ..Agreement::default() };
        let good = copies(100, 95);
        let judge = |share, stable: &Window, candidate: &Window, copies: &Agreement, ended| {
            super::judge(&auto, share, stable, candidate, copies, ended)
        };
        let (stable, fine) = (window(50, 0, 10), window(50, 0, 11));
        assert_eq!(judge(5, &stable, &fine, &good, true), Verdict::Advance);
        assert_eq!(judge(5, &stable, &fine, &good, false), Verdict::Wait, "the window lasts");
        assert_eq!(
            judge(5, &stable, &window(9, 9, 1), &good, true),
            Verdict::Wait,
            "too few to say anything"
        );
        assert_eq!(judge(5, &stable, &fine, &copies(9, 9), true), Verdict::Wait, "too few compared");
        let back = |verdict, part: &str| match verdict {
            Verdict::Back(reason) => assert!(reason.contains(part), "{reason}"),
            other => panic!("{other:?} instead of {part}"),
        };
        back(judge(5, &stable, &window(50, 1, 10), &good, false), "1 of 50 requests failed");
        back(judge(5, &stable, &window(50, 0, 30), &good, false), "quantile of its latency");
        back(judge(5, &stable, &fine, &copies(100, 80), false), "agrees in 0.8000");
        // Alone in the shadow, only the copies count.
        assert_eq!(judge(0, &stable, &window(0, 0, 0), &good, true), Verdict::Advance);
        back(judge(0, &stable, &window(0, 0, 0), &copies(50, 10), false), "agrees");
        // At 100 % nobody is left to compare with.
        assert_eq!(judge(100, &window(0, 0, 0), &fine, &copies(0, 0), true), Verdict::Advance);
    }
}
