//! Metrics against values worked out by hand or with scikit-learn 1.5.

use network::postprocess::TargetScaling;

use super::*;

fn names(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

fn outcomes(postprocess: &Postprocess, pairs: Vec<(Target, Vec<f32>)>) -> Vec<Outcome> {
    let answer = |(index, (target, logits)): (usize, (Target, Vec<f32>))| Outcome {
        index,
        target,
        prediction: postprocess.apply(&logits).unwrap(),
    };
    pairs.into_iter().enumerate().map(answer).collect()
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-6, "{a} is not {b}");
}

#[test]
fn classes_are_counted_as_by_hand() {
    let post = Postprocess::new(Task::MultiClass, names(&["a", "b", "c"]));
    let pairs = vec![
        (Target::Class(0), vec![3.0, 0.0, 0.0]),
        (Target::Class(0), vec![0.0, 1.0, 0.0]),
        (Target::Class(1), vec![0.0, 2.0, 0.0]),
        (Target::Class(1), vec![0.0, 9.0, 0.0]),
        (Target::Class(2), vec![5.0, 0.0, 0.0]),
    ];
    let result = score(&post, "test", &outcomes(&post, pairs)).unwrap();
    assert_eq!(result.confusion, [[1, 1, 0], [0, 2, 0], [1, 0, 0]]);
    close(result.metrics["accuracy"], 0.6);
    close(result.classes[0].precision, 0.5);
    close(result.classes[1].recall, 1.0);
    close(result.classes[1].f1, 0.8);
    // A class that is never predicted has precision 0, as scikit-learn says.
    assert_eq!((result.classes[2].precision, result.classes[2].support), (0.0, 1));
    close(result.metrics["macro_f1"], (0.5 + 0.8 + 0.0) / 3.0);
    // The most confident mistake comes first.
    assert_eq!(result.mistakes.iter().map(|mistake| mistake.index).collect::<Vec<_>>(), [4, 1]);
    assert_eq!((result.mistakes[0].truth.as_str(), result.mistakes[0].predicted.as_str()), ("c", "a"));
    let expected = [-(3f64.exp() / (3f64.exp() + 2.0)).ln(), (1f64.exp() + 2.0).ln()];
    close(result.metrics["log_loss"] * 5.0, {
        expected[0]
            + expected[1]
            + -(2f64.exp() / (2f64.exp() + 2.0)).ln()
            + -(9f64.exp() / (9f64.exp() + 2.0)).ln()
            + (5f64.exp() + 2.0).ln()
    });
}

#[test]
fn binary_has_an_area_under_the_curve() {
    let post = Postprocess::new(Task::Binary, names(&["no", "yes"]));
    let pairs = vec![
        (Target::Class(0), vec![-2.0]),
        (Target::Class(0), vec![0.5]),
        (Target::Class(1), vec![0.5]),
        (Target::Class(1), vec![200.0]),
    ];
    let result = score(&post, "test", &outcomes(&post, pairs)).unwrap();
    close(result.metrics["auroc"], 0.875);
    close(result.metrics["accuracy"], 0.75);
    // A probability that rounds to 1 on the right side costs nothing, and nothing is infinite.
    assert!(result.metrics["log_loss"].is_finite());
    assert_eq!(auroc([(1.0, true), (2.0, true)]), None);
}

#[test]
fn labels_are_scored_alone_and_together() {
    let post = Postprocess::new(Task::MultiLabel, names(&["x", "y"]));
    let pairs = vec![
        (Target::Labels(vec![true, false]), vec![1.0, -1.0]),
        (Target::Labels(vec![true, true]), vec![1.0, -1.0]),
        (Target::Labels(vec![false, false]), vec![1.0, -3.0]),
    ];
    let result = score(&post, "test", &outcomes(&post, pairs)).unwrap();
    close(result.metrics["subset_accuracy"], 1.0 / 3.0);
    close(result.metrics["hamming_loss"], 2.0 / 6.0);
    close(result.metrics["label_accuracy"], 4.0 / 6.0);
    close(result.metrics["micro_f1"], 4.0 / 6.0);
    close(result.metrics["macro_f1"], (0.8 + 0.0) / 2.0);
    assert_eq!(result.mistakes[0].predicted, "x");
}

#[test]
fn numbers_are_scored_in_the_units_of_the_data() {
    let mut post = Postprocess::new(Task::Regression, names(&["price"]));
    post.target = Some(TargetScaling { mean: vec![10.0], std: vec![2.0] });
    let pairs = vec![
        (Target::Values(vec![10.0]), vec![0.5]),
        (Target::Values(vec![12.0]), vec![1.0]),
        (Target::Values(vec![14.0]), vec![0.0]),
    ];
    let result = score(&post, "test", &outcomes(&post, pairs)).unwrap();
    close(result.metrics["mae"], 5.0 / 3.0);
    close(result.metrics["rmse"], (17.0f64 / 3.0).sqrt());
    close(result.metrics["r2"], 1.0 - (17.0 / 3.0) / (8.0 / 3.0));
    assert_eq!(result.mistakes[0].index, 2);
}

#[test]
fn wilson_is_the_published_interval() {
    // Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
    let interval = wilson(81, 263);
    assert!((interval.low - 0.2553).abs() < 5e-5 && (interval.high - 0.3662).abs() < 5e-5, "{interval:?}");
    assert_eq!(wilson(0, 0).low, 0.0);
    assert!((wilson(20, 20).high - 1.0).abs() < 1e-12);
}

#[test]
fn calibration_bins_by_confidence() {
    let perfect = Calibration::measure([(1.0, true), (1.0, true)]);
    close(perfect.ece, 0.0);
    let boastful = Calibration::measure([(0.9, true), (0.9, false), (0.9, false), (0.3, true)]);
    close(boastful.ece, (0.9 - 1.0 / 3.0) * 0.75 + 0.7 * 0.25);
    assert_eq!(boastful.bins.iter().map(|bin| bin.count).sum::<u64>(), 4);
    // The edges 0 and 1 have a bin.
    assert_eq!(Calibration::measure([(0.0, false)]).bins[0].count, 1);
}

#[test]
fn an_empty_split_and_a_foreign_target_are_refused() {
    let post = Postprocess::new(Task::MultiClass, names(&["a", "b"]));
    assert_eq!(score(&post, "test", &[]).unwrap_err().to_string(), "the test split has no samples");
    let pairs = vec![(Target::Values(vec![1.0]), vec![1.0, 0.0])];
    let message = "sample 0 has a target that does not belong to a multi_class model";
    assert_eq!(score(&post, "test", &outcomes(&post, pairs)).unwrap_err().to_string(), message);
    let pairs = vec![(Target::Class(2), vec![1.0, 0.0])];
    assert!(score(&post, "test", &outcomes(&post, pairs)).is_err());
}

#[test]
fn precisions_are_compared_sample_by_sample() {
    use model::Precision::{F16, F32};

    let post = Postprocess::new(Task::MultiClass, names(&["a", "b"]));
    let answers = |logits: [[f32; 2]; 4]| {
        let pairs = [0, 0, 1, 1].into_iter().zip(logits);
        outcomes(&post, pairs.map(|(class, logits)| (Target::Class(class), logits.to_vec())).collect())
    };
    let compare = |before: &[Outcome], after: &[Outcome]| {
        let evaluations = [before, after].map(|outcomes| score(&post, "test", outcomes).unwrap());
        let [before, after] = [(F32, before, &evaluations[0]), (F16, after, &evaluations[1])]
            .map(|(precision, outcomes, evaluation)| Scored { precision, outcomes, evaluation });
        compare_precisions(before, after)
    };
    let before = answers([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.25]]);
    let after = answers([[2.0, 0.5], [1.0, 0.0], [1.25, 1.0], [0.0, 0.25]]);
    let report = compare(&before, &after);
    assert_eq!((report.reference, report.precision), (F32, F16));
    assert_eq!((report.changed, report.changed_share), (Some(2), Some(0.5)));
    assert_eq!(report.largest_difference, Some(1.25));
    let accuracy = report.metrics["accuracy"];
    assert_eq!((accuracy.reference, accuracy.found, accuracy.difference), (0.75, 0.75, 0.0));
    assert!(report.metrics["log_loss"].difference > 0.0);
    let same = compare(&before, &before);
    assert_eq!((same.changed, same.largest_difference), (Some(0), Some(0.0)));
}
