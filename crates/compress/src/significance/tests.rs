//! The tests against numbers from books, against one another, and against what they promise.

use network::Postprocess;
use proptest::prelude::*;

use super::*;

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} is not {expected}");
}

/// Answers of two models of which each alone is right so often, both `both` times, and neither `neither` times.
fn answers(only_a: usize, only_b: usize, both: usize, neither: usize) -> [Vec<Term>; 2] {
    let of = |right: bool| Term { part: f64::from(u8::from(right)), whole: 1.0 };
    let pairs = [(true, false, only_a), (false, true, only_b), (true, true, both), (false, false, neither)];
    let column = |first: bool| {
        let cells =
            pairs.iter().flat_map(|&(a, b, count)| std::iter::repeat_n(if first { a } else { b }, count));
        cells.map(of).collect()
    };
    [column(true), column(false)]
}

fn errors(values: &[f64]) -> Vec<Term> {
    values.iter().map(|&part| Term { part, whole: 1.0 }).collect()
}

/// Sums of binomial coefficients as fractions of whole numbers; (121, 59) and (6, 16) are also what the manual of
/// statsmodels and the vignette of R's exact2x2 print.
#[test]
fn mcnemar_gives_the_numbers_of_the_books() {
    let cases = [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (7, 7, 1.0),
        (0, 5, 0.0625),
        (0, 6, 0.031_25),
        (1, 8, 0.039_062_5),
        (8, 12, 0.503_444_671_630_859_4),
        (5, 15, 0.041_389_465_332_031_25),
        (6, 16, 0.052_478_790_283_203_125),
        (121, 59, 4.434_449_263_755_176e-6),
        (1000, 1100, 0.030_720_707_864_242_296),
        (5000, 5300, 0.003_215_819_673_645_239),
    ];
    for (only_a, only_b, p) in cases {
        close(mcnemar(only_a, only_b) / p, 1.0, 1e-9);
        close(mcnemar(only_b, only_a), mcnemar(only_a, only_b), 0.0);
    }
    assert!(mcnemar(0, 5_000_000) < 1e-300 && mcnemar(2_500_000, 2_500_000) == 1.0);
}

/// McNemar's test is the randomization test of the accuracy in closed form.
#[test]
fn tosses_of_right_answers_come_to_mcnemar() {
    for (only_a, only_b) in [(0, 0), (0, 5), (1, 8), (6, 6), (3, 11)] {
        let [a, b] = answers(only_a, only_b, 20, 3);
        close(randomization(&a, &b, 7), mcnemar(only_a as u64, only_b as u64), 1e-12);
    }
    // Too many to go through: drawn.
    for (only_a, only_b) in [(8, 12), (10, 25), (60, 80)] {
        let [a, b] = answers(only_a, only_b, 200, 30);
        close(randomization(&a, &b, 7), mcnemar(only_a as u64, only_b as u64), 0.015);
    }
}

/// Darwin's maize, with which Fisher (1935, §21) introduced the test: 1,726 of the 32,768 cases are as extreme.
#[test]
fn errors_are_tossed_as_fisher_tossed_them() {
    let differences =
        [49.0, -67.0, 8.0, 16.0, 6.0, 23.0, 28.0, 41.0, 14.0, 29.0, 56.0, 24.0, 75.0, 60.0, -48.0];
    let a = errors(&[100.0; 15]);
    let b = errors(&differences.map(|difference| 100.0 + difference));
    let test = paired(Task::Regression, &a, &b, 1);
    close(test.p, 1726.0 / 32768.0, 1e-12);
    assert_eq!((test.method, test.only_a, test.only_b), (Method::Randomization, 13, 2));
    close(test.difference, differences.iter().sum::<f64>() / 15.0, 1e-12);
    let [low, high] = test.interval;
    assert!(low < test.difference && test.difference < high && low > -15.0 && high < 50.0, "{test:?}");
    // With each pair ten times over it is drawn, and beyond doubt.
    let often = paired(Task::Regression, &a.repeat(10), &b.repeat(10), 1);
    assert!(often.p <= 0.001 && often.p >= 1e-4, "{often:?}");
    assert_eq!(often, paired(Task::Regression, &a.repeat(10), &b.repeat(10), 1), "equal seeds");
}

#[test]
fn labels_are_compared_by_the_micro_f1() {
    let labels = ["x", "y", "z"].map(str::to_owned);
    let outcome = |truth: [bool; 3], given: &[&str]| Outcome {
        index: 0,
        target: Target::Labels(truth.to_vec()),
        prediction: Prediction::Labels {
            labels: given.iter().map(|label| (*label).to_owned()).collect(),
            probabilities: vec![0.5; 3],
            logits: vec![0.0; 3],
        },
    };
    let right = terms(&[outcome([true, false, true], &["x", "z"])], &labels);
    let half = terms(&[outcome([true, false, true], &["x", "y"])], &labels);
    let none = terms(&[outcome([false, false, false], &[])], &labels);
    assert_eq!((right[0].part, right[0].whole), (4.0, 4.0));
    assert_eq!((half[0].part, half[0].whole), (2.0, 4.0));
    assert_eq!(none[0], Term::default());
    assert_eq!(score(&none), 0.0);

    let test = paired(Task::MultiLabel, &half.repeat(8), &right.repeat(8), 1);
    assert_eq!((test.only_a, test.only_b, test.samples), (0, 8, 8));
    close(test.difference, 0.5, 1e-12);
    close(test.p, 2.0 / 256.0, 1e-12);
}

/// The score of the terms is the metric that the evaluation tells.
#[test]
fn terms_come_to_the_headline_metric() {
    let names = ["x", "y", "z"].map(str::to_owned);
    let post = |task, labels: usize| Postprocess::new(task, names[..labels].to_vec());
    let draw =
        |index: usize, salt: u64| (mix(salt, index as u64, 0) >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
    let target = |task, index: usize| match task {
        Task::MultiClass => Target::Class(index % 3),
        Task::Binary => Target::Class(index % 2),
        Task::MultiLabel => Target::Labels((0..3).map(|label| draw(index, 7 + label) > 0.1).collect()),
        Task::Regression => Target::Values(vec![draw(index, 11), draw(index, 12)]),
    };
    for (task, labels, outputs) in
        [(Task::MultiClass, 3, 3), (Task::Binary, 2, 1), (Task::MultiLabel, 3, 3), (Task::Regression, 2, 2)]
    {
        let post = post(task, labels);
        let outcomes: Vec<Outcome> = (0..50)
            .map(|index| {
                let logits: Vec<f32> = (0..outputs).map(|output| draw(index, output)).collect();
                Outcome { index, target: target(task, index), prediction: post.apply(&logits).unwrap() }
            })
            .collect();
        let (name, told) = train::evaluate::score(&post, "test", &outcomes).unwrap().headline();
        assert!(told > 0.0 && told < 1.0, "{name} is {told}");
        close(score(&terms(&outcomes, &post.labels)), told, 1e-12);
    }
}

#[test]
fn answers_that_are_the_same_show_nothing() {
    let [a, _] = answers(3, 4, 50, 6);
    for task in [Task::MultiClass, Task::Binary, Task::MultiLabel, Task::Regression] {
        let test = paired(task, &a, &a, 1);
        assert_eq!((test.only_a, test.only_b, test.difference, test.p), (0, 0, 0.0, 1.0), "{task:?}");
    }
    let test = paired(Task::MultiClass, &a, &a, 1);
    assert!(test.interval[0] < 0.0 && test.interval[1] > 0.0, "some doubt is left: {test:?}");
}

/// The chance that the interval holds the true difference, summed over all outcomes of 60 samples.
#[test]
fn the_interval_of_a_difference_holds_what_it_says() {
    const N: u64 = 60;
    let choose = |n: u64, k: u64| (0..k).map(|i| ((n - i) as f64 / (i + 1) as f64).ln()).sum::<f64>();
    for (only_a, only_b) in [(0.05, 0.05), (0.1, 0.02), (0.3, 0.2), (0.01, 0.0)] {
        let mut held = 0.0;
        for a in 0..=N {
            for b in 0..=N - a {
                let power = |p: f64, k: u64| if k == 0 { 0.0 } else { k as f64 * p.ln() };
                let rest = power(1.0 - only_a - only_b, N - a - b);
                let chance =
                    (choose(N, a) + choose(N - a, b) + power(only_a, a) + power(only_b, b) + rest).exp();
                let [low, high] = matched_proportions(a, b, N as usize);
                if (low..=high).contains(&(only_b - only_a)) {
                    held += chance;
                }
            }
        }
        assert!((0.93..=1.0).contains(&held), "{only_a} {only_b}: {held}");
    }
}

#[test]
fn samples_drawn_again_spread_as_theory_says() {
    let [terms, _] = answers(80, 0, 0, 20);
    let [low, high] = resampled(&terms, 3);
    // The standard error is 0.04.
    close(low, 0.8 - Z * 0.04, 0.015);
    close(high, 0.8 + Z * 0.04, 0.015);
    assert_eq!(resampled(&[], 3), [0.0, 0.0]);
}

#[test]
fn holm_is_as_in_his_paper() {
    let found = holm(&[0.01, 0.04, 0.03, 0.005]);
    for (found, expected) in found.iter().zip([0.03, 0.06, 0.06, 0.02]) {
        close(*found, expected, 1e-12);
    }
    assert_eq!(holm(&[0.2]), [0.2]);
    assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    assert!(holm(&[]).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever comes first, the finding is the same, and it never contradicts itself.
    #[test]
    fn the_order_of_the_two_changes_the_sign_alone(
        values in proptest::collection::vec((0.0f64..4.0, 0.0f64..4.0), 1..40),
        seed in 0u64..9,
    ) {
        let a = errors(&values.iter().map(|pair| pair.0).collect::<Vec<_>>());
        let b = errors(&values.iter().map(|pair| pair.1).collect::<Vec<_>>());
        let [one, other] = [paired(Task::Regression, &a, &b, seed), paired(Task::Regression, &b, &a, seed)];
        prop_assert!((one.p - other.p).abs() < 1e-9 && one.p > 0.0 && one.p <= 1.0);
        prop_assert!((one.difference + other.difference).abs() < 1e-9);
        prop_assert_eq!((one.only_a, one.only_b), (other.only_b, other.only_a));
        prop_assert!(one.interval[0] <= one.interval[1]);
    }

    #[test]
    fn correction_never_makes_a_finding_stronger(p in proptest::collection::vec(0.0f64..=1.0, 0..9)) {
        let adjusted = holm(&p);
        prop_assert_eq!(adjusted.len(), p.len());
        for (before, after) in p.iter().zip(&adjusted) {
            prop_assert!(after >= before && *after <= 1.0);
        }
    }
}
