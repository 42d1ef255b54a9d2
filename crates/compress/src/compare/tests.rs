//! The words of a comparison.

use super::*;
use crate::significance::{Method, Term};

/// A model with these figures.
pub(crate) fn side(model: &str, score: f64, record_bytes: u64, microseconds: f64) -> Side {
    let latency = BATCHES.map(|batch| Latency {
        batch,
        median_us: microseconds * batch as f64,
        least_us: microseconds,
    });
    Side {
        model: model.to_owned(),
        precision: "f32".to_owned(),
        kernels: "engine avx2".to_owned(),
        metric: "accuracy",
        score,
        interval: Some([score - 0.01, score + 0.005]),
        record_bytes,
        parameters: record_bytes / 4,
        nonzero: record_bytes / 8,
        macs: 416_520,
        int8_macs: 0,
        latency: latency.to_vec(),
    }
}

fn cells<'a>(rows: &'a [Row], name: &str) -> Vec<(&'a str, &'a str)> {
    let row = rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no {name} in {rows:?}"));
    row.cells.iter().map(|cell| (cell.value.as_str(), cell.change.as_str())).collect()
}

#[test]
fn rows_tell_every_quantity_and_what_changes() {
    let (a, b) = (side("a@1", 0.98, 400_000, 40.0), side("b@2", 0.975, 104_000, 50.0));
    let c = Side { int8_macs: 416_520, interval: None, ..side("c@3", 0.98, 4_000, 40.0) };
    let rows = rows(&[&a, &b, &c]);
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "precision",
            "accuracy",
            "weights file",
            "parameters",
            "of them not 0",
            "MACs",
            "of them in int8",
            "latency, batch 1",
            "latency, batch 64"
        ]
    );
    assert_eq!(
        cells(&rows, "accuracy"),
        [
            ("98.00 % (97.00–98.50)", ""),
            ("97.50 % (96.50–98.00)", "-0.50 points"),
            ("98.00 %", "0.00 points")
        ]
    );
    assert_eq!(
        cells(&rows, "weights file"),
        [("400.0 kB", ""), ("104.0 kB", "3.85× smaller"), ("4.0 kB", "100× smaller")]
    );
    assert_eq!(cells(&rows, "MACs")[1], ("416,520", "same"));
    assert_eq!(
        cells(&rows, "latency, batch 1"),
        [("40.0 µs", ""), ("50.0 µs", "1.25× slower"), ("40.0 µs", "same")]
    );
    assert_eq!(cells(&rows, "of them in int8"), [("0 %", ""), ("0 %", ""), ("100 %", "")]);
    assert!(super::rows(&[]).is_empty());
}

/// More models than fit beside one another stand below, each beside the first.
#[test]
fn tables_do_not_grow_wide() {
    let sides: Vec<Side> = (1..=6).map(|n| side(&format!("m@{n}"), 0.9, 1000 * n, 9.0)).collect();
    let text = table(&sides.iter().collect::<Vec<_>>());
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    assert_eq!(text.matches("m@1").count(), 3, "{text}");
    for n in 2..=6 {
        assert_eq!(text.matches(&format!("m@{n}")).count(), 1, "{text}");
    }
    assert!(table(&[&sides[0]]).contains("m@1"));
    assert_eq!(table(&[]), "");
}

#[test]
fn changes_stand_in_the_unit_of_their_metric() {
    let cases = [
        ("accuracy", -0.0028, 0.98, "-0.28 points"),
        ("accuracy", -0.0, 0.98, "0.00 points"),
        ("accuracy", -0.000_04, 0.98, "0.00 points"),
        ("mae", 0.01, 2.0, "+0.50 %"),
        ("mae", 0.01, 0.0, "+0.0100"),
        ("micro_f1", -0.01, 0.9, "-0.0100"),
    ];
    for (metric, change, reference, text) in cases {
        assert_eq!(change_text(metric, change, reference), text);
    }
    let p = [0.0, 0.0004, 0.0039, 0.0312, 0.5034, 1.0].map(p_text);
    assert_eq!(p, ["p < 0.001", "p < 0.001", "p = 0.0039", "p = 0.031", "p = 0.50", "p = 1.00"]);
}

#[test]
fn a_verdict_is_a_sentence() {
    let of = |right: &[bool]| -> Vec<Term> {
        right.iter().map(|&right| Term { part: f64::from(u8::from(right)), whole: 1.0 }).collect()
    };
    let answers = |only_a: usize, only_b: usize| {
        let a = [vec![true; only_a], vec![false; only_b], vec![true; 340]].concat();
        let b = [vec![false; only_a], vec![true; only_b], vec![true; 340]].concat();
        [of(&a), of(&b)]
    };
    let verdict = |only_a, only_b| {
        let [a, b] = answers(only_a, only_b);
        pairs(Task::MultiClass, &[("a@1", &a), ("b@2", &b)])[0].verdict.clone()
    };
    assert_eq!(
        verdict(8, 12),
        "8 samples only a@1 gets right, 12 only b@2: no difference that these samples can show (p = 0.50); from the \
         first to the second the accuracy changes by +1.11 points, 95 % interval -1.37 to +3.58"
    );
    assert!(verdict(1, 30).contains("1 sample only a@1 gets right, 30 only b@2: b@2 is better (p < 0.001)"));
    assert!(verdict(12, 1).contains("a@1 is better (p = 0.0034)"), "{}", verdict(12, 1));
    assert_eq!(verdict(0, 0), "a@1 and b@2 get the same samples right: there is no difference to test");

    let errors = |shift: f64| -> Vec<Term> {
        (0..40).map(|n| Term { part: 1.0 + shift + f64::from(n % 5), whole: 1.0 }).collect()
    };
    let found = pairs(Task::Regression, &[("a@1", &errors(0.0)), ("b@2", &errors(-0.5))]);
    assert_eq!(found[0].test.method, Method::Randomization);
    let text = &found[0].verdict;
    assert!(
        text.starts_with("in 0 samples a@1 is closer to the truth, in 40 b@2: b@2 is better (p < 0.001)"),
        "{text}"
    );
    assert!(
        text.ends_with("the mean absolute error changes by -0.5000, 95 % interval -0.5000 to -0.5000"),
        "{text}"
    );
}

/// Each with each, and the more are tested the less one finding counts.
#[test]
fn several_pairs_are_corrected_together() {
    let right = |wrong: &[usize]| -> Vec<Term> {
        (0..200).map(|n| Term { part: f64::from(u8::from(!wrong.contains(&n))), whole: 1.0 }).collect()
    };
    let models =
        [("a@1", right(&[])), ("b@1", right(&[1, 2, 3, 4, 5, 6])), ("c@1", right(&[1, 2, 3, 4, 5, 7, 8]))];
    let answers: Vec<(&str, &[Term])> =
        models.iter().map(|(name, terms)| (*name, terms.as_slice())).collect();
    let found = pairs(Task::MultiClass, &answers);
    let names: Vec<(&str, &str)> = found.iter().map(|pair| (pair.a.as_str(), pair.b.as_str())).collect();
    assert_eq!(names, [("a@1", "b@1"), ("a@1", "c@1"), ("b@1", "c@1")]);
    assert!((found[0].test.p - 0.03125).abs() < 1e-12 && (found[0].p_holm - 0.0625).abs() < 1e-12);
    assert!(found[0].verdict.contains("no difference that these samples can show"), "{}", found[0].verdict);
    assert!(
        found[1].verdict.contains("a@1 is better (p = 0.047 after correction for 3 pairs)"),
        "{}",
        found[1].verdict
    );
}

#[test]
fn labels_that_differ_are_named() {
    let post =
        |task, labels: &[&str]| Postprocess::new(task, labels.iter().map(|l| (*l).to_owned()).collect());
    let names = ["a@1", "b@1"];
    type Case<'a> = (Task, &'a [&'a str], &'a [&'a str], Option<&'a str>);
    let cases: &[Case<'_>] = &[
        (Task::MultiClass, &["x", "y", "z"], &["z", "y", "x"], None),
        (Task::Binary, &["x", "y"], &["x", "z"], Some("only a@1 knows `y`, only b@1 knows `z`")),
        (
            Task::MultiClass,
            &["1", "2", "3", "4", "5", "6", "7"],
            &["7"],
            Some("only a@1 knows `1`, `2`, `3`, `4`, `5` and 1 more"),
        ),
        (Task::Regression, &["u", "v"], &["v", "u"], Some("they stand in another order")),
        (Task::Regression, &["u", "v"], &["u", "v"], None),
    ];
    for (task, own, other, expected) in cases {
        let found = differing(names, &post(*task, own), &post(*task, other));
        assert_eq!(found.as_deref(), *expected, "{own:?} {other:?}");
    }
}
