//! Data that the project makes, to show tasks for which no free data is at hand. Every sample is a function
//! of (seed, index), so a larger set begins with the smaller one.

use std::sync::Arc;

use network::preprocess::ColumnKind;
use network::{Bitmap, Cell, RawInput, Row, Task};

use super::DataError;
use super::config::{DataConfig, GenerateRules, GeneratedKind};
use super::draws::{Purpose, below, normal, stream, unit};
use super::opened::Opened;
use super::source::{DataKind, Source, TableColumn, Target};

/// More samples than this are not made: each one takes work, and they are for trying things out.
const MAX_SAMPLES: usize = 1_000_000;
/// The side of the pictures of shapes.
const SIDE: usize = 12;
/// What the pictures may show; any of them may be there together.
const SHAPES: [&str; 4] = ["box", "cross", "dot", "stripe"];
/// Friedman's function reads five of these ten columns.
const COLUMNS: usize = 10;

/// Opens generated data.
pub(crate) fn open(config: &DataConfig) -> Result<Opened, DataError> {
    let rules = &config.generate;
    if !(10..=MAX_SAMPLES).contains(&rules.samples) {
        let problem = format!("must lie between 10 and {MAX_SAMPLES}, but is {}", rules.samples);
        return Err(DataError::config("generate.samples", problem));
    }
    if !(rules.noise >= 0.0 && rules.noise.is_finite()) {
        return Err(DataError::config(
            "generate.noise",
            format!("must be 0 or more, but is {}", rules.noise),
        ));
    }
    // The digest names the recipe; its number changes when the recipe does.
    let recipe =
        format!("{:?} 1 seed {} samples {} noise {}", rules.kind, rules.seed, rules.samples, rules.noise);
    let sha256 = digest(&recipe);
    let (name, task, labels, kind, citation) = match rules.kind {
        GeneratedKind::Friedman1 => {
            let names = names();
            let columns =
                names.iter().map(|name| TableColumn { name: name.clone(), kind: ColumnKind::Numeric });
            let citation = "Made by Brazier after J. Friedman (1991). Multivariate Adaptive Regression Splines. \
                            The Annals of Statistics 19(1).";
            (
                "friedman1",
                Task::Regression,
                vec!["y".to_owned()],
                DataKind::Table { columns: columns.collect() },
                citation,
            )
        }
        GeneratedKind::Shapes => {
            let kind = DataKind::Image { channels: 1, height: SIDE, width: SIDE, max_value: 255.0 };
            ("shapes", Task::MultiLabel, SHAPES.map(str::to_owned).to_vec(), kind, "Made by Brazier.")
        }
    };
    let source = Generated { rules: rules.clone(), columns: names() };
    let mut opened =
        Opened::new(name, source, labels, kind, sha256).with_origin(citation, "MIT OR Apache-2.0", true);
    opened.task = task;
    Ok(opened)
}

fn digest(recipe: &str) -> String {
    use sha2::{Digest, Sha256};
    super::hex(&Sha256::digest(recipe))
}

fn names() -> Arc<[String]> {
    (1..=COLUMNS).map(|number| format!("x{number}")).collect()
}

struct Generated {
    rules: GenerateRules,
    columns: Arc<[String]>,
}

impl Generated {
    fn check(&self, index: usize) -> Result<(), DataError> {
        if index < self.rules.samples {
            Ok(())
        } else {
            Err(DataError::NoSuchSample { index, len: self.rules.samples })
        }
    }
}

impl Source for Generated {
    fn len(&self) -> usize {
        self.rules.samples
    }

    fn read(&self, index: usize) -> Result<RawInput, DataError> {
        self.check(index)?;
        let input = match self.rules.kind {
            GeneratedKind::Friedman1 => {
                let cells = friedman(&self.rules, index).0.iter().map(|value| Cell::Number(*value)).collect();
                Row::new(self.columns.clone(), cells).map(RawInput::Row)
            }
            GeneratedKind::Shapes => {
                Bitmap::new(SIDE, SIDE, 1, shapes(&self.rules, index).0).map(RawInput::Bitmap)
            }
        };
        input.ok_or(DataError::NoSuchSample { index, len: self.rules.samples })
    }

    fn target(&self, index: usize) -> Result<Target, DataError> {
        self.check(index)?;
        Ok(match self.rules.kind {
            GeneratedKind::Friedman1 => Target::Values(vec![friedman(&self.rules, index).1 as f32]),
            GeneratedKind::Shapes => Target::Labels(shapes(&self.rules, index).1.to_vec()),
        })
    }

    fn describe(&self, index: usize) -> String {
        format!("generated sample {index}")
    }
}

/// `10 sin(π x₁ x₂) + 20 (x₃ − ½)² + 10 x₄ + 5 x₅ + noise`, all columns uniform on [0, 1).
fn friedman(rules: &GenerateRules, index: usize) -> ([f64; COLUMNS], f64) {
    let mut rng = stream(rules.seed, Purpose::Generate, 1, index as u64);
    let x: [f64; COLUMNS] = std::array::from_fn(|_| unit(&mut rng));
    let y = 10.0 * (std::f64::consts::PI * x[0] * x[1]).sin()
        + 20.0 * (x[2] - 0.5).powi(2)
        + 10.0 * x[3]
        + 5.0 * x[4];
    (x, y + rules.noise * normal(&mut rng))
}

/// A picture with each shape in it or not, at a random place and brightness, under noise.
fn shapes(rules: &GenerateRules, index: usize) -> (Vec<u8>, [bool; SHAPES.len()]) {
    let mut rng = stream(rules.seed, Purpose::Generate, 2, index as u64);
    let shown: [bool; SHAPES.len()] = std::array::from_fn(|_| below(&mut rng, 2) == 1);
    let mut pixels = [0.0f64; SIDE * SIDE];
    for (shape, _) in shown.iter().enumerate().filter(|(_, shown)| **shown) {
        let shade = 0.6 + 0.4 * unit(&mut rng);
        let (row, column) =
            (below(&mut rng, SIDE as u64 - 4) as usize, below(&mut rng, SIDE as u64 - 4) as usize);
        let mut ink = |row: usize, column: usize| pixels[row * SIDE + column] = shade;
        match SHAPES[shape] {
            // The outline of a square of side 5.
            "box" => (0..5).for_each(|i| {
                [(0, i), (4, i), (i, 0), (i, 4)].iter().for_each(|(r, c)| ink(row + r, column + c))
            }),
            // Two diagonals of length 5.
            "cross" => {
                (0..5).for_each(|i| [(i, i), (i, 4 - i)].iter().for_each(|(r, c)| ink(row + r, column + c)))
            }
            // A filled square of side 2.
            "dot" => (0..2).for_each(|i| (0..2).for_each(|j| ink(row + i, column + j))),
            // A line from edge to edge.
            _ => (0..SIDE).for_each(|i| ink(row, i)),
        }
    }
    let pixels = pixels
        .iter()
        .map(|value| ((value + rules.noise * normal(&mut rng)).clamp(0.0, 1.0) * 255.0).round() as u8);
    (pixels.collect(), shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{SourceKind, fit_preprocess, load};

    fn config(kind: GeneratedKind) -> DataConfig {
        let mut config = DataConfig::new(SourceKind::Generated);
        (config.generate.kind, config.generate.samples) = (kind, 500);
        config
    }

    #[test]
    fn friedman_is_a_regression_of_known_mean() {
        let config = config(GeneratedKind::Friedman1);
        let data = load(&config, 1).unwrap();
        assert_eq!((data.task, data.splits.test.len()), (Task::Regression, 100));
        let values: Vec<f32> = (0..500)
            .map(|index| match data.source.target(index).unwrap() {
                Target::Values(values) => values[0],
                other => panic!("{other:?}"),
            })
            .collect();
        let mean = values.iter().sum::<f32>() / 500.0;
        // The mean of the function is 14.41.
        assert!((13.8..15.0).contains(&mean), "{mean}");
        assert_eq!(fit_preprocess(&data, &config).unwrap().output_shape(), [10]);
    }

    #[test]
    fn shapes_show_what_their_labels_say() {
        let mut config = config(GeneratedKind::Shapes);
        config.generate.noise = 0.0;
        let data = load(&config, 1).unwrap();
        let counts = data.label_counts(&(0..500).collect::<Vec<_>>()).unwrap();
        assert!(counts.iter().all(|count| (200..300).contains(count)), "{counts:?}");
        for index in 0..50 {
            let RawInput::Bitmap(bitmap) = data.source.read(index).unwrap() else { panic!("a bitmap") };
            let Target::Labels(labels) = data.source.target(index).unwrap() else { panic!("labels") };
            assert_eq!(bitmap.pixels().iter().any(|pixel| *pixel > 0), labels.contains(&true));
            assert_eq!(bitmap.pixels(), shapes(&config.generate, index).0, "the same every time");
        }
        config.generate.samples = 3;
        assert!(
            load(&config, 1)
                .unwrap_err()
                .to_string()
                .starts_with("`data.generate.samples`: must lie between")
        );
    }
}
