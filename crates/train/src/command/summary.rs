//! Results in words.

use cli::Table;
use network::Task;
use train::evaluate::{Evaluation, PrecisionReport};
use train::fit::Finish;
use train::pipeline::Trained;
use train::run::REPORT_FILE;

/// `accuracy 99.17 % (95 % interval 97.58–99.72, 357 of 360)  log loss 0.0312  ECE 0.0101`
pub(super) fn scores(evaluation: &Evaluation) -> String {
    let value = |name: &str| evaluation.metrics.get(name).copied().unwrap_or(f64::NAN);
    let percent = |name: &str| format!("{:.2} %", 100.0 * value(name));
    let interval = evaluation.interval.as_ref().map_or_else(String::new, |interval| {
        let (low, high) = (100.0 * interval.low, 100.0 * interval.high);
        format!(" (95 % interval {low:.2}–{high:.2}, {} of {})", interval.correct, interval.total)
    });
    match evaluation.task {
        Task::MultiClass => format!(
            "accuracy {}{interval}  log loss {:.4}  ECE {:.4}",
            percent("accuracy"),
            value("log_loss"),
            value("ece")
        ),
        Task::Binary => format!(
            "accuracy {}{interval}  AUROC {:.4}  log loss {:.4}  ECE {:.4}",
            percent("accuracy"),
            value("auroc"),
            value("log_loss"),
            value("ece")
        ),
        Task::MultiLabel => format!(
            "micro F1 {:.4}  macro F1 {:.4}  all labels right {}{interval}  Hamming loss {:.4}",
            value("micro_f1"),
            value("macro_f1"),
            percent("subset_accuracy"),
            value("hamming_loss")
        ),
        Task::Regression => {
            format!("MAE {:.4}  RMSE {:.4}  R² {:.4}", value("mae"), value("rmse"), value("r2"))
        }
    }
}

/// What another precision changes: a table of the metrics, then the samples.
pub(super) fn precisions(report: &PrecisionReport) -> String {
    let PrecisionReport { precision, reference, changed, changed_share, largest_difference, .. } = report;
    let mut table = Table::new(["metric", reference.name(), precision.name(), "difference"]).numbers(1..=3);
    for (name, change) in &report.metrics {
        let numbers = [change.reference, change.found].map(|value| format!("{value:.6}"));
        let [before, after] = numbers;
        table.row([name.clone(), before, after, format!("{:+.6}", change.difference)]);
    }
    let mut text = table.to_string();
    if let (Some(changed), Some(share)) = (changed, changed_share) {
        text += &format!("\nsamples with another answer: {changed} ({:.2} %)", 100.0 * share);
    }
    text += &match largest_difference {
        Some(difference) => format!("\nlargest difference of an output: {difference:.3e}"),
        None => "\nlargest difference of an output: some are not finite".to_owned(),
    };
    text
}

/// A mean and its standard deviation, for shares as percent.
pub(super) fn spread(name: &str, values: &[f64]) -> String {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    // The standard deviation of a sample, as scikit-learn's tables give it, divides by one less.
    let deviation = if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
    if is_share(name) {
        format!("{:.2} ± {:.2} %", 100.0 * mean, 100.0 * deviation)
    } else {
        format!("{mean:.4} ± {deviation:.4}")
    }
}

fn is_share(name: &str) -> bool {
    name.ends_with("accuracy")
}

/// The lines at the end of a training.
pub(super) fn finished(trained: &Trained, evaluation: &Evaluation) -> String {
    let record = &trained.record;
    let why = match trained.finish {
        Finish::StoppedEarly => {
            format!("{} epochs, stopped early, weights of epoch {}", record.epochs, record.best_epoch)
        }
        _ if record.best_epoch < record.epochs => {
            format!("{} epochs, weights of epoch {}", record.epochs, record.best_epoch)
        }
        _ => format!("{} epochs", record.epochs),
    };
    let mut text = format!(
        "test     {}\ntrained  {why}, in {}\nreport   {}",
        scores(evaluation),
        cli::duration(trained.elapsed),
        trained.run.path().join(REPORT_FILE).display()
    );
    if let Some(package) = &trained.published {
        text += &format!("\npackage  {}@{} in {}", package.name, package.version, package.path.display());
    }
    text
}
