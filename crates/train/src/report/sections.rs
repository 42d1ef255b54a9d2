//! The sections that are made of numbers and tables.

use network::Task;

use super::Page;
use super::chart::{self, Series};
use super::html::{escape, grouped, percent, seconds, section, table};
use crate::config::Metric;
use crate::evaluate::Evaluation;
use crate::fit::{EpochRecord, Finish};

pub(super) fn header(page: &Page<'_>) -> String {
    let record = page.record;
    let data = &page.prepared.data;
    let splits = &data.splits.record;
    let made = record
        .model
        .as_ref()
        .map_or_else(String::new, |model| format!(" · package <b>{}</b>", escape(model)));
    let origin = [&data.origin.citation, &data.origin.licence];
    let origin: Vec<String> =
        origin.into_iter().filter(|text| !text.is_empty()).map(|text| escape(text)).collect();
    let origin = if origin.is_empty() { String::new() } else { format!("<br>Data: {}", origin.join("; ")) };
    format!(
        "<header>\n<p class=\"brand\">Brazier</p>\n<h1>{}</h1>\n<p class=\"soft\">{}{}{made}<br>\
         {}: {} training, {} validation and {} test samples ({}){origin}</p>\n</header>\n",
        escape(&record.id),
        escape(&data.task.name().replace('_', " ")),
        record.started.as_ref().map_or_else(String::new, |time| format!(" · {}", escape(time))),
        escape(&record.data),
        grouped(splits.train as u64),
        grouped(splits.validation as u64),
        grouped(splits.test as u64),
        escape(&splits.rule),
    )
}

/// The scores that count, large.
pub(super) fn tiles(evaluation: &Evaluation) -> String {
    let value = |name: &str| evaluation.metrics.get(name).copied();
    let names: &[(&str, &str, bool)] = match evaluation.task {
        Task::MultiClass => &[
            ("accuracy", "test accuracy", true),
            ("macro_f1", "macro F1", false),
            ("top5_accuracy", "right among the first five", true),
            ("log_loss", "log loss", false),
            ("ece", "calibration error (ECE)", false),
        ],
        Task::Binary => &[
            ("accuracy", "test accuracy", true),
            ("auroc", "AUROC", false),
            ("f1", "F1 of the second class", false),
            ("log_loss", "log loss", false),
            ("ece", "calibration error (ECE)", false),
        ],
        Task::MultiLabel => &[
            ("micro_f1", "micro F1", false),
            ("macro_f1", "macro F1", false),
            ("subset_accuracy", "all labels right", true),
            ("hamming_loss", "Hamming loss", false),
            ("log_loss", "log loss", false),
        ],
        Task::Regression => &[
            ("mae", "mean absolute error", false),
            ("rmse", "root mean squared error", false),
            ("r2", "R²", false),
        ],
    };
    let mut out = String::from("<div class=\"tiles\">\n");
    for (index, (name, title, share)) in names.iter().enumerate() {
        let Some(value) = value(name) else { continue };
        let text = if *share { percent(value) } else { format!("{value:.4}") };
        let class = if index == 0 { "tile first" } else { "tile" };
        let mut note = (*title).to_owned();
        if let (0, Some(interval)) = (index, &evaluation.interval) {
            note += &format!(", 95 % interval {:.2}–{:.2} %", 100.0 * interval.low, 100.0 * interval.high);
        }
        out += &format!("<div class=\"{class}\"><b>{text}</b><span>{}</span></div>\n", escape(&note));
    }
    out + "</div>\n"
}

pub(super) fn curves(page: &Page<'_>) -> String {
    let metric = Metric::of(page.prepared.data.task);
    let series = |train: fn(&EpochRecord) -> f64, valid: fn(&EpochRecord) -> Option<f64>| {
        let points = |get: &dyn Fn(&EpochRecord) -> f64| -> Vec<(f64, f64)> {
            page.history.iter().map(|record| (record.epoch as f64, get(record))).collect()
        };
        [
            Series { name: "training", points: points(&train) },
            Series { name: "validation", points: points(&|record| valid(record).unwrap_or(f64::NAN)) },
        ]
    };
    let chosen = page.record.best_epoch < page.history.len();
    let mark = chosen.then_some((page.record.best_epoch as f64, "the epoch whose weights were taken"));
    let loss = chart::lines("Loss per epoch", "epoch", &series(|r| r.train_loss, |r| r.valid_loss), mark);
    let score =
        chart::lines("Metric per epoch", "epoch", &series(|r| r.train_score, |r| r.valid_score), mark);
    let rate = |record: &EpochRecord| (record.epoch as f64, record.learning_rate);
    let rate = [Series { name: "learning rate", points: page.history.iter().map(rate).collect() }];
    let rate = chart::lines("Learning rate per epoch", "epoch", &rate, mark);
    let note = "The training line is measured while the weights change, with dropout and augmentation on; \
                the validation line after each epoch, without.";
    section(
        "Learning curves",
        &format!(
            "<div class=\"pair\"><div><h3>Loss</h3>{loss}</div><div><h3>{}</h3>{score}</div><div><h3>Learning rate</h3>{rate}</div></div><p class=\"soft\">{note}</p>",
            escape(&metric.name().replace('_', " "))
        ),
    )
}

pub(super) fn classes(evaluation: &Evaluation) -> String {
    if evaluation.classes.is_empty() {
        return String::new();
    }
    let number = |value: f64| format!("{value:.4}");
    let row = |class: &crate::evaluate::ClassScore| {
        let numbers =
            [number(class.precision), number(class.recall), number(class.f1), grouped(class.support)];
        std::iter::once(class.label.clone()).chain(numbers).collect()
    };
    let rows: Vec<Vec<String>> = evaluation.classes.iter().map(row).collect();
    let kind = if evaluation.task == Task::MultiLabel { "label" } else { "class" };
    section(&format!("Per {kind}"), &table(&[kind, "precision", "recall", "F1", "support"], &rows, 1))
}

pub(super) fn targets(evaluation: &Evaluation) -> String {
    if evaluation.targets.is_empty() {
        return String::new();
    }
    let row = |target: &crate::evaluate::TargetScore| {
        vec![
            target.label.clone(),
            format!("{:.4}", target.mae),
            format!("{:.4}", target.rmse),
            format!("{:.4}", target.r2),
        ]
    };
    let rows: Vec<Vec<String>> = evaluation.targets.iter().map(row).collect();
    section("Per target", &table(&["target", "MAE", "RMSE", "R²"], &rows, 1))
}

pub(super) fn calibration(evaluation: &Evaluation) -> String {
    let Some(calibration) = &evaluation.calibration else { return String::new() };
    let chart = chart::reliability(&calibration.bins);
    let text = format!(
        "When the model says 80 %, is it right in 80 % of the cases? On the dotted line it is; below it the model is \
         too sure of itself. The mean distance, weighted by the samples (the bars), is the expected calibration \
         error: {:.4}.",
        calibration.ece
    );
    section("Calibration", &format!("<div class=\"pair\"><div>{chart}</div><div><p>{text}</p></div></div>"))
}

pub(super) fn network(page: &Page<'_>) -> String {
    let summary = network::summary(&page.prepared.network);
    let mut body = format!("<pre>{}</pre>", escape(&summary));
    if let Some(init) = &page.prepared.init {
        let fresh: String = init
            .fresh
            .iter()
            .map(|(key, reason)| format!("<br>new: {} ({})", escape(key), escape(reason)))
            .collect();
        let frozen = match page.prepared.freeze.is_empty() {
            true => String::new(),
            false => format!("<br>frozen: {}", escape(&page.prepared.freeze.join(", "))),
        };
        body += &format!(
            "<p class=\"soft\">Begun with {}: {} tensors loaded{fresh}{frozen}</p>",
            escape(&init.parent),
            init.loaded.len()
        );
    }
    section("Network", &body)
}

pub(super) fn timings(page: &Page<'_>) -> String {
    let record = page.record;
    let epochs = page.history.len().max(1) as f64;
    let speed = page.history.iter().map(|epoch| epoch.samples_per_second).sum::<f64>() / epochs;
    let finish = match record.finish {
        Some(Finish::StoppedEarly) => "stopped early: the validation part did not improve any more",
        Some(Finish::Completed) => "all epochs were run",
        Some(Finish::Interrupted) => "interrupted",
        None => "under way",
    };
    let crates: Vec<String> =
        record.crates.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let rows: Vec<Vec<String>> = [
        ("training and validation", seconds(record.train_seconds)),
        ("of which one epoch", seconds(record.train_seconds / epochs)),
        ("training samples per second", grouped(speed.round() as u64)),
        ("evaluation of the test split", seconds(record.evaluate_seconds)),
        ("epochs", format!("{} ({finish})", record.epochs)),
        ("weights from epoch", record.best_epoch.to_string()),
        ("device and threads", format!("{}, {}", record.device, record.threads)),
        ("seed", record.seed.to_string()),
        ("crates", crates.join(", ")),
        ("SHA-256 of the data", record.data_sha256.clone()),
        ("SHA-256 of the split", record.split.sha256.clone()),
        ("SHA-256 of the configuration", record.config_sha256.clone()),
    ]
    .into_iter()
    .map(|(name, value)| vec![name.to_owned(), value])
    .collect();
    section("Timings and origin", &table(&["", ""], &rows, 2))
}

pub(super) fn config(page: &Page<'_>) -> String {
    section(
        "Configuration",
        &format!(
            "<details><summary>every value with its origin</summary><pre>{}</pre></details>",
            escape(page.config_text)
        ),
    )
}
