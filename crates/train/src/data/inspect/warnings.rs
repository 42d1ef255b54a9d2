//! What will hurt, in sentences that say what to do.

use network::Task;
use network::preprocess::{ColumnKind, MissingRule};

use super::super::source::DataKind;
use super::super::split::Part;
use super::super::{DataConfig, SourceKind, shorten};
use super::{ColumnSummary, Inspection, LabelCounts};

/// Fewer samples of a class than this teach little.
const FEW: usize = 10;
/// From this ratio between the largest and the smallest class on, the small ones are easily ignored.
const IMBALANCE: usize = 10;
/// A value so many deviations from the mean rules the scaling of its column.
const OUTLIER: f64 = 15.0;
/// Classes or columns that a sentence names.
const NAMED: usize = 5;

pub(super) fn of(inspection: &Inspection, config: &DataConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    duplicates(inspection, &mut warnings);
    labels(inspection, &mut warnings);
    columns(inspection, config, &mut warnings);
    pictures(inspection, config, &mut warnings);
    let features = inspection.columns.len();
    if features > 0 && inspection.split.train < features {
        warnings.push(format!(
            "{features} columns, but {} training samples only: a network can learn them by heart",
            inspection.split.train
        ));
    }
    warnings
}

fn duplicates(inspection: &Inspection, warnings: &mut Vec<String>) {
    let found = &inspection.duplicates;
    for shared in &found.across {
        let effect = if shared.judged == Part::Test {
            "the test score will be too good"
        } else {
            "training stops by what it knows"
        };
        warnings.push(format!(
            "leakage: {} of {} {} samples are also in the {} part, so {effect}; remove them, or split so that equal \
             samples stay together",
            shared.samples,
            part_size(inspection, shared.judged),
            shared.judged.name(),
            shared.known.name(),
        ));
    }
    if found.within_train * 100 > inspection.split.train {
        warnings.push(format!(
            "{} of {} training samples are repetitions, which count more than others; data.drop_duplicates = true \
             leaves them out",
            found.within_train, inspection.split.train
        ));
    }
    if found.contradictions > 0 {
        warnings.push(format!(
            "{} samples equal another one but have another target: one of the two is wrong",
            found.contradictions
        ));
    }
}

fn part_size(inspection: &Inspection, part: Part) -> usize {
    match part {
        Part::Train => inspection.split.train,
        Part::Validation => inspection.split.validation,
        Part::Test => inspection.split.test,
    }
}

fn labels(inspection: &Inspection, warnings: &mut Vec<String>) {
    let labels = &inspection.labels;
    let named = |problem: &dyn Fn(&LabelCounts) -> bool| {
        names(labels.iter().filter(|label| problem(label)).map(|label| &*label.label))
    };
    if let Some(names) = named(&|label| label.train == 0) {
        warnings.push(format!("no training sample for {names}, which therefore cannot be learned"));
    }
    if let Some(names) = named(&|label| label.train > 0 && label.train < FEW) {
        warnings.push(format!("fewer than {FEW} training samples for {names}"));
    }
    if let Some(names) = named(&|label| label.train > 0 && label.test == 0) {
        warnings.push(format!("no test sample for {names}, about which the score says nothing"));
    }
    if let Some(names) = named(&|label| label.train > 0 && label.validation == 0) {
        warnings.push(format!("no validation sample for {names}, for which training is not stopped in time"));
    }
    let one_class = matches!(inspection.task, Task::Binary | Task::MultiClass);
    let counts = || labels.iter().filter(|label| label.train > 0);
    let largest = counts().max_by_key(|label| label.train);
    let smallest = counts().min_by_key(|label| label.train);
    if let (true, Some(largest), Some(smallest)) = (one_class, largest, smallest)
        && largest.train >= IMBALANCE * smallest.train
    {
        warnings.push(format!(
            "imbalance: {} training samples of `{}`, but {} of `{}`; train.class_weights = \"balanced\" weighs them, \
             and accuracy alone will look better than it is",
            largest.train, largest.label, smallest.train, smallest.label
        ));
    }
}

fn columns(inspection: &Inspection, config: &DataConfig, warnings: &mut Vec<String>) {
    let columns = &inspection.columns;
    let named = |problem: &dyn Fn(&ColumnSummary) -> bool| {
        names(columns.iter().filter(|column| problem(column)).map(|column| &*column.name))
    };
    if let (DataKind::Table { .. }, Some(names)) = (&inspection.data, named(&|column| column.distinct <= 1)) {
        warnings.push(format!(
            "constant: {names} always the same, which teaches nothing; list it in data.ignore"
        ));
    }
    if let Some(names) = named(&|column| column.counts_rows) {
        warnings.push(format!(
            "row number: {names} counts the rows, which a network can learn by heart; list it in data.ignore"
        ));
    }
    let unique = |column: &ColumnSummary| {
        column.kind == ColumnKind::Categorical && column.samples > 20 && column.distinct * 2 > column.samples
    };
    if let Some(names) = named(&unique) {
        warnings.push(format!("nearly every row has another value in {names}, so it tells rows apart and teaches nothing; list it in data.ignore"));
    }
    if let Some(names) = named(&|column| column.missing * 2 > column.samples) {
        warnings.push(format!("more than half of the values are missing in {names}"));
    }
    if let (MissingRule::Impute, Some(names)) = (config.table.missing, named(&|column| column.missing > 0)) {
        warnings.push(format!(
            "values are missing in {names}: they are replaced by the median or the most frequent category \
             (data.table.missing = \"drop\" leaves such rows out)"
        ));
    }
    let extreme = |column: &ColumnSummary| match (column.min, column.max, column.mean, column.std) {
        (Some(min), Some(max), Some(mean), Some(std)) => {
            (max - mean).max(mean - min) > OUTLIER * std && std > 0.0
        }
        _ => false,
    };
    if let (None, Some(names)) = (config.table.clip_quantiles, named(&extreme)) {
        warnings.push(format!(
            "outliers more than {OUTLIER} deviations from the mean in {names}; data.table.clip_quantiles = [0.001, 0.999] \
             moves them in"
        ));
    }
    for column in columns.iter().filter(|column| !column.unseen.is_empty()).take(NAMED) {
        let values = names(column.unseen.iter().map(String::as_str)).unwrap_or_default();
        warnings.push(format!(
            "column `{}` has values that no training sample has: {values}",
            shorten(&column.name)
        ));
    }
}

fn pictures(inspection: &Inspection, config: &DataConfig, warnings: &mut Vec<String>) {
    if inspection.unreadable > 0 {
        warnings.push(format!(
            "{} samples cannot be read, and training will stop at the first: remove or repair them, such as {}",
            inspection.unreadable,
            inspection.unreadable_examples.first().map_or("", String::as_str)
        ));
    }
    let (Some(pictures), DataKind::Image { channels, height, width, max_value }) =
        (&inspection.pictures, &inspection.data)
    else {
        return;
    };
    if pictures.distinct_sizes > 1 {
        warnings.push(format!(
            "{} different sizes, all of which become {height}×{width}: data.image.fit says how",
            pictures.distinct_sizes
        ));
    }
    if pictures.blank > 0 {
        warnings.push(format!("{} pictures show nothing: all of their pixels are the same", pictures.blank));
    }
    if *channels == 1 && pictures.colour > 0 {
        warnings.push(format!("{} pictures have colours, which are turned into grey", pictures.colour));
    }
    if pictures.max * 4.0 < *max_value {
        let remedy = match config.source {
            SourceKind::Idx => format!("; if that is white, set data.image.max_value = {}", pictures.max),
            _ => String::new(),
        };
        warnings.push(format!(
            "the pictures are dark: no pixel is larger than {} of {max_value}{remedy}",
            pictures.max
        ));
    }
}

/// The first names for a sentence, or none.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> Option<String> {
    let all: Vec<String> = all.map(|name| format!("`{}`", shorten(name))).collect();
    match all.len() {
        0 => None,
        1..=NAMED => Some(all.join(", ")),
        more => Some(format!("{} and {} more", all[..NAMED].join(", "), more - NAMED)),
    }
}
