//! What is watched of a model's inputs and answers: a few numbers for each sample, by which the data that a model meets
//! is compared with the data it was trained on.
//!
//! They are taken from the *prepared* input, because that is what every way in ends at (an image file, a table row, an
//! array of numbers, a tensor of a client that prepares its own), and from the typed answer. Scaling is undone first,
//! so that a table's numbers are in the units of its columns and a picture's between dark (0) and full (1), whatever
//! the preprocessing of a version scales by. What preparing loses stays lost: a missing value is its substitute here.

use crate::postprocess::{Postprocess, Prediction, Task};
use crate::preprocess::{ColumnRule, ImagePreprocess, Preprocess};

/// Columns of a table, labels or targets that are watched, the first ones.
pub const MAX_WATCHED: usize = 128;
/// Up to so many numbers of a sample are watched each for itself; of more, a summary is.
pub const MAX_NUMBERS: usize = 64;

/// One thing that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What it is called, once among the inputs and once among the outputs.
    pub name: String,
    /// The categories, in the order of their numbers; empty where the feature is a number.
    pub categories: Vec<String>,
}

/// Takes what is watched out of prepared inputs and answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Observer {
    rule: Rule,
    inputs: Vec<Feature>,
    outputs: Vec<Feature>,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    Image(ImagePreprocess),
    Columns(Vec<ColumnAt>),
    Each,
    Summary,
}

/// Where a column's features begin in a prepared row, and what undoes its scaling.
#[derive(Clone, Debug, PartialEq)]
struct ColumnAt {
    start: usize,
    kind: Scale,
}

#[derive(Clone, Debug, PartialEq)]
enum Scale {
    Numeric { offset: f64, factor: f64 },
    OneHot { width: usize },
}

fn number(name: impl Into<String>) -> Feature {
    Feature { name: name.into(), categories: Vec::new() }
}

impl Observer {
    /// What is watched of a model that reads and answers in this way.
    #[must_use]
    pub fn new(preprocess: &Preprocess, postprocess: &Postprocess) -> Self {
        let (rule, inputs) = match preprocess {
            Preprocess::Image(image) => {
                let colours: &[&str] = if image.channels == 3 { &["red", "green", "blue"] } else { &[] };
                let names = ["brightness", "contrast", "detail", "centre across", "centre down"];
                let names = names.iter().chain(colours).map(|name| number(*name)).collect();
                (Rule::Image(image.clone()), names)
            }
            Preprocess::Table(table) => {
                let (mut columns, mut names, mut start) = (Vec::new(), Vec::new(), 0);
                for column in table.columns.iter().take(MAX_WATCHED) {
                    let (kind, categories, width) = match &column.rule {
                        ColumnRule::Numeric { offset, factor, .. } => {
                            (Scale::Numeric { offset: *offset, factor: *factor }, Vec::new(), 1)
                        }
                        ColumnRule::Categorical { categories, .. } => {
                            let width = categories.len();
                            (Scale::OneHot { width }, categories.clone(), width)
                        }
                    };
                    names.push(Feature { name: column.name.clone(), categories });
                    columns.push(ColumnAt { start, kind });
                    start += width;
                }
                (Rule::Columns(columns), names)
            }
            Preprocess::Numbers { shape } => match crate::element_count(shape) {
                Some(count) if count <= MAX_NUMBERS => {
                    (Rule::Each, (0..count).map(|index| number(format!("number {index}"))).collect())
                }
                _ => {
                    let names = ["mean", "standard deviation", "smallest", "largest", "share of zeros"];
                    (Rule::Summary, names.map(number).to_vec())
                }
            },
        };
        Self { rule, inputs, outputs: outputs(postprocess) }
    }

    /// What is watched of the inputs.
    #[must_use]
    pub fn inputs(&self) -> &[Feature] {
        &self.inputs
    }

    /// What is watched of the answers.
    #[must_use]
    pub fn outputs(&self) -> &[Feature] {
        &self.outputs
    }

    /// Appends the value of every watched input of one prepared sample, in the order of [`Observer::inputs`]: a number,
    /// or the place of the category. What is not there (an unknown category, a row that is too short) is NaN.
    pub fn observe_input(&self, sample: &[f32], out: &mut Vec<f32>) {
        match &self.rule {
            Rule::Image(image) => picture(image, sample, out),
            Rule::Columns(columns) => out.extend(columns.iter().map(|column| column.value(sample))),
            Rule::Each => {
                let given = sample.iter().copied().chain(std::iter::repeat(f32::NAN));
                out.extend(given.take(self.inputs.len()));
            }
            Rule::Summary => summary(sample, out),
        }
    }

    /// Appends the value of every watched output of one answer, in the order of [`Observer::outputs`], in the same way.
    pub fn observe_output(&self, answer: &Prediction, out: &mut Vec<f32>) {
        let end = out.len() + self.outputs.len();
        match answer {
            Prediction::Class { index, probability, .. } => out.extend([*index as f32, *probability]),
            Prediction::Labels { labels, .. } => {
                let given = |feature: &Feature| f32::from(u8::from(labels.contains(&feature.name)));
                out.extend(self.outputs.iter().map(given));
            }
            Prediction::Values { values } => out.extend(values.iter().take(self.outputs.len())),
        }
        // An answer of another task, which a predictor does not give.
        out.resize(end, f32::NAN);
    }
}

fn outputs(postprocess: &Postprocess) -> Vec<Feature> {
    let labels = postprocess.labels.iter().take(MAX_WATCHED);
    match postprocess.task {
        Task::MultiClass | Task::Binary => {
            let class = Feature { name: "class".to_owned(), categories: postprocess.labels.clone() };
            vec![class, number("confidence")]
        }
        Task::MultiLabel => {
            let categories = vec!["not given".to_owned(), "given".to_owned()];
            labels.map(|label| Feature { name: label.clone(), categories: categories.clone() }).collect()
        }
        Task::Regression => labels.map(|label| number(label.clone())).collect(),
    }
}

impl ColumnAt {
    fn value(&self, sample: &[f32]) -> f32 {
        match self.kind {
            Scale::Numeric { offset, factor } => {
                let scaled = sample.get(self.start).copied().unwrap_or(f32::NAN);
                // A column that never changed in the training data has the factor 0 and is always its offset.
                let value = if factor == 0.0 { 0.0 } else { f64::from(scaled) / factor };
                (value + offset) as f32
            }
            Scale::OneHot { width } => {
                let hot = sample.get(self.start..self.start + width).unwrap_or_default();
                hot.iter().position(|value| *value > 0.5).map_or(f32::NAN, |place| place as f32)
            }
        }
    }
}

/// Brightness and contrast (mean and standard deviation of all pixels), detail (the mean difference of neighbours in a
/// row), where the middle of the brightness lies (0 is left or top, 1 right or bottom; without any brightness 0.5),
/// and of colour pictures the brightness of each colour.
fn picture(image: &ImagePreprocess, sample: &[f32], out: &mut Vec<f32>) {
    let (height, width) = (image.height.max(1), image.width.max(1));
    let size = height * width;
    let (mut sum, mut squares, mut steps) = (0.0f64, 0.0f64, 0.0f64);
    let (mut across, mut down) = (0.0f64, 0.0f64);
    let mut colours = Vec::with_capacity(image.channels);
    for (plane, (mean, std)) in sample.chunks(size).zip(image.mean.iter().zip(&image.std)) {
        let mut channel = 0.0f64;
        for (y, row) in plane.chunks(width).enumerate() {
            let (mut mass, mut before) = (0.0f64, None::<f64>);
            for (x, scaled) in row.iter().enumerate() {
                let value = f64::from(scaled * std + mean);
                mass += value;
                squares += value * value;
                across += value * (x as f64 + 0.5);
                steps += before.map_or(0.0, |before| (value - before).abs());
                before = Some(value);
            }
            channel += mass;
            down += mass * (y as f64 + 0.5);
        }
        sum += channel;
        colours.push((channel / size as f64) as f32);
    }
    let count = (size * image.channels) as f64;
    let brightness = sum / count;
    let contrast = (squares / count - brightness * brightness).max(0.0).sqrt();
    let pairs = (height * (width - 1) * image.channels).max(1) as f64;
    let middle = |moment: f64, side: usize| {
        // Rounding leaves a little brightness in a dark picture.
        if sum > 1e-4 * count { (moment / sum / side as f64).clamp(0.0, 1.0) } else { 0.5 }
    };
    // What is not a number stays that: `max` and `clamp` above would hide it.
    let known = |value: f64| if brightness.is_finite() { value as f32 } else { f32::NAN };
    let values = [brightness, contrast, steps / pairs, middle(across, width), middle(down, height)];
    out.extend(values.map(known));
    if image.channels == 3 {
        colours.resize(3, f32::NAN);
        out.extend(colours);
    }
}

fn summary(sample: &[f32], out: &mut Vec<f32>) {
    let count = sample.len().max(1) as f64;
    let sum: f64 = sample.iter().map(|value| f64::from(*value)).sum();
    let mean = sum / count;
    let squares: f64 = sample.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum();
    // Of numbers that are none, nothing is known.
    let known = |value: f32| if mean.is_finite() { value } else { f32::NAN };
    let smallest = sample.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = sample.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let zeros = sample.iter().filter(|value| **value == 0.0).count() as f64 / count;
    out.extend([mean as f32, (squares / count).sqrt() as f32, smallest, largest, zeros as f32].map(known));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Column, Fit, TablePreprocess, UnknownRule};

    fn classes() -> Postprocess {
        Postprocess::new(Task::MultiClass, ["a", "b"].map(str::to_owned).to_vec())
    }

    fn inputs(preprocess: &Preprocess, sample: &[f32]) -> Vec<f32> {
        let observer = Observer::new(preprocess, &classes());
        let mut out = Vec::new();
        observer.observe_input(sample, &mut out);
        assert_eq!(out.len(), observer.inputs().len());
        out
    }

    fn grey(mean: f32, std: f32) -> Preprocess {
        Preprocess::Image(ImagePreprocess {
            channels: 1,
            height: 2,
            width: 2,
            max_value: 16.0,
            mean: vec![mean],
            std: vec![std],
            fit: Fit::Stretch,
        })
    }

    #[test]
    fn a_picture_is_told_in_shares_of_full_brightness_whatever_it_was_scaled_by() {
        // One full pixel, at the right of the top.
        let expected = [0.25, 0.433_012_7, 0.5, 0.75, 0.25];
        assert_eq!(inputs(&grey(0.0, 1.0), &[0.0, 1.0, 0.0, 0.0]), expected);
        assert_eq!(inputs(&grey(0.5, 0.25), &[-2.0, 2.0, -2.0, -2.0]), expected);
        assert_eq!(inputs(&grey(0.0, 1.0), &[0.0; 4]), [0.0, 0.0, 0.0, 0.5, 0.5]);
        assert!(inputs(&grey(0.0, 1.0), &[f32::NAN, 0.0, 0.0, 0.0]).iter().all(|value| value.is_nan()));
        let Preprocess::Image(mut image) = grey(0.0, 1.0) else { unreachable!() };
        (image.channels, image.mean, image.std) = (3, vec![0.0; 3], vec![1.0; 3]);
        let colour: Vec<f32> = [1.0; 4].into_iter().chain([0.5; 4]).chain([0.0; 4]).collect();
        let found = inputs(&Preprocess::Image(image), &colour);
        assert_eq!((found[0], &found[5..]), (0.5, &[1.0, 0.5, 0.0][..]));
    }

    #[test]
    fn columns_are_told_in_their_units() {
        let columns = vec![
            Column {
                name: "age".to_owned(),
                rule: ColumnRule::Numeric { impute: None, clip: None, offset: 40.0, factor: 0.1 },
            },
            Column {
                name: "town".to_owned(),
                rule: ColumnRule::Categorical {
                    categories: ["Rom", "Ulm"].map(str::to_owned).to_vec(),
                    unknown: UnknownRule::Zeros,
                    impute: None,
                },
            },
            Column {
                name: "never".to_owned(),
                rule: ColumnRule::Numeric { impute: None, clip: None, offset: 7.0, factor: 0.0 },
            },
        ];
        let table = Preprocess::Table(TablePreprocess { columns });
        assert_eq!(inputs(&table, &[1.5, 0.0, 1.0, 3.0]), [55.0, 1.0, 7.0]);
        assert!(inputs(&table, &[0.0, 0.0, 0.0, 0.0])[1].is_nan());
        assert!(inputs(&table, &[]).iter().take(2).all(|value| value.is_nan()));
    }

    #[test]
    fn few_numbers_are_watched_each_and_many_in_sum() {
        let numbers = |count| Preprocess::Numbers { shape: vec![count] };
        assert_eq!(inputs(&numbers(3), &[1.0, f32::NAN, 3.0])[2], 3.0);
        assert_eq!(inputs(&numbers(3), &[1.0])[0], 1.0);
        let mut many = vec![0.0; 98];
        many.extend([-1.0, 3.0]);
        let found = inputs(&numbers(100), &many);
        assert_eq!((found[0], found[2], found[3], found[4]), (0.02, -1.0, 3.0, 0.98));
        many[0] = f32::INFINITY;
        assert!(inputs(&numbers(100), &many).iter().all(|value| value.is_nan()));
    }

    #[test]
    fn answers_of_every_task() {
        let told = |task, answer: &Postprocess, logits: &[f32]| {
            let observer = Observer::new(&grey(0.0, 1.0), answer);
            let mut out = Vec::new();
            observer.observe_output(&answer.apply(logits).unwrap(), &mut out);
            assert_eq!(out.len(), observer.outputs().len(), "{task:?}");
            out
        };
        let names = |count: usize| (0..count).map(|index| format!("l{index}")).collect::<Vec<_>>();
        let post = Postprocess::new(Task::MultiClass, names(3));
        let [class, confidence] = told(Task::MultiClass, &post, &[0.0, 30.0, 0.0])[..] else { panic!() };
        assert!(class == 1.0 && confidence > 0.99);
        assert_eq!(told(Task::Binary, &Postprocess::new(Task::Binary, names(2)), &[40.0]), [1.0, 1.0]);
        let post = Postprocess::new(Task::MultiLabel, names(3));
        assert_eq!(told(Task::MultiLabel, &post, &[9.0, -9.0, 9.0]), [1.0, 0.0, 1.0]);
        assert_eq!(told(Task::Regression, &Postprocess::new(Task::Regression, names(1)), &[2.5]), [2.5]);
    }
}
