//! The `[data]` table of a configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use network::Task;
use network::preprocess::{ColumnKind, TableRules};
use serde::{Deserialize, Serialize};

use super::split::SplitRules;
use super::{DataError, shorten};

/// Where data comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", try_from = "String")]
#[non_exhaustive]
pub enum SourceKind {
    /// Embedded: the UCI optical digits, 1,797 grey images of 8×8.
    Digits,
    /// Embedded: the Wisconsin diagnostic breast cancer table, 569 rows of 30 numbers.
    BreastCancer,
    /// `artifacts/data/mnist`, as `data fetch mnist` leaves it.
    Mnist,
    /// `artifacts/data/fashion-mnist`, as `data fetch fashion-mnist` leaves it.
    FashionMnist,
    /// `artifacts/data/cifar10`, as `data fetch cifar10` leaves it.
    Cifar10,
    /// A folder with the binary version of CIFAR-10 or CIFAR-100.
    Cifar,
    /// A folder with pairs of IDX files, or one file of images beside its labels.
    Idx,
    /// A folder with one sub-folder of PNG and JPEG files per class.
    Folder,
    /// A CSV or TSV file with a header.
    Csv,
    /// Made by the project, for trying things out.
    Generated,
}

impl SourceKind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Digits,
        Self::BreastCancer,
        Self::Mnist,
        Self::FashionMnist,
        Self::Cifar10,
        Self::Cifar,
        Self::Idx,
        Self::Folder,
        Self::Csv,
        Self::Generated,
    ];

    /// The name as configurations write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::BreastCancer => "breast-cancer",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::Cifar10 => "cifar10",
            Self::Cifar => "cifar",
            Self::Idx => "idx",
            Self::Folder => "folder",
            Self::Csv => "csv",
            Self::Generated => "generated",
        }
    }

    fn is_table(self) -> bool {
        matches!(self, Self::BreastCancer | Self::Csv)
    }
}

impl std::str::FromStr for SourceKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
            // The one data set that people look for under a name of its own.
            let hint = match name.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
                "cifar100" => "; CIFAR-100 is read by `source = \"cifar\"`",
                _ => "",
            };
            format!("unknown source `{}`; expected one of {}{hint}", shorten(name), names.join(", "))
        })
    }
}

impl TryFrom<String> for SourceKind {
    type Error = String;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl std::fmt::Display for SourceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The `[data]` table: which data, how it is read, cleaned and split. Paths are relative to the current
/// directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Where the data comes from.
    pub source: SourceKind,
    /// The file or folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A second CSV file that holds the test data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_path: Option<PathBuf>,
    /// What is to be told; left out: inferred from the label (see the table reader).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// CSV: the column or columns to predict. CIFAR-100: `fine` or `coarse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Columns>,
    /// Of two classes, the one whose probability is told; left out: the second in sorted order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<String>,
    /// IDX: the names of the classes 0, 1, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// CSV: columns that are left out, such as a row number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// CSV: the kind of columns where it shall not be inferred.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, ColumnKind>,
    /// CSV: what separates fields; left out: tab for `.tsv`, otherwise the most frequent of comma,
    /// semicolon and tab in the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Whether rows (or images) that occur again in the training split are left out of it.
    #[serde(default)]
    pub drop_duplicates: bool,
    /// Whether sixteen samples may be put into packages; left out: yes for data whose licence allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redistributable: Option<bool>,
    /// Samples are held prepared in memory when they need no more than this, in MiB.
    #[serde(default = "default_cache_mib")]
    pub cache_mib: u64,
    /// How the data is split.
    #[serde(default)]
    pub split: SplitRules,
    /// How tables are prepared.
    #[serde(default)]
    pub table: TableRules,
    /// How images are prepared.
    #[serde(default)]
    pub image: ImageRules,
    /// What is generated.
    #[serde(default)]
    pub generate: GenerateRules,
}

fn default_cache_mib() -> u64 {
    512
}

/// One column or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Columns {
    /// `"diagnosis"`
    One(String),
    /// `["height", "weight"]`
    Many(Vec<String>),
}

impl Columns {
    /// The names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

/// How images are prepared; what is left out follows from the data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageRules {
    /// 1 (grey) or 3 (colour).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// `[height, width]` that the network reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// How images of other sizes are fitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<FitRule>,
    /// Whether pixels are standardised.
    pub standardize: Standardize,
    /// IDX: the value of a white pixel; left out: 255.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_value: Option<f32>,
}

impl ImageRules {
    /// Whether images of this form become others.
    pub(crate) fn change(&self, channels: usize, size: [usize; 2]) -> bool {
        self.channels.is_some_and(|wanted| wanted != channels)
            || self.size.is_some_and(|wanted| wanted != size)
    }
}

/// How images of other sizes are brought to the network's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FitRule {
    /// Height and width independently.
    Stretch,
    /// Cover the size and cut the middle out.
    Crop,
    /// Fit into the size and pad with black.
    Pad,
    /// As the optical digits were made: counts of ink in blocks of 4×4.
    DrawingCounts,
    /// As MNIST was made: ink in the middle 5/7 of the image.
    DrawingCentered,
}

/// Whether pixels are standardised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standardize {
    /// Each channel to mean 0 and deviation 1 over the training split.
    #[default]
    Channel,
    /// Pixels stay between 0 and 1.
    None,
}

/// What is generated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateRules {
    /// Which data.
    pub kind: GeneratedKind,
    /// How many samples.
    pub samples: usize,
    /// The deviation of the noise: in units of the target for `friedman1`, of a white pixel for `shapes`.
    pub noise: f64,
    /// The seed of the data, apart from the seed of the run, so that runs can be compared.
    pub seed: u64,
}

impl Default for GenerateRules {
    fn default() -> Self {
        Self { kind: GeneratedKind::Friedman1, samples: 2000, noise: 0.1, seed: 0 }
    }
}

/// Data that the project makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeneratedKind {
    /// Regression: ten numbers, of which five matter (Friedman 1991).
    Friedman1,
    /// Several labels: which shapes a grey picture of 12×12 shows.
    Shapes,
}

impl DataConfig {
    /// The defaults for a source.
    #[must_use]
    pub fn new(source: SourceKind) -> Self {
        Self {
            source,
            path: None,
            test_path: None,
            task: None,
            label: None,
            positive: None,
            classes: None,
            ignore: Vec::new(),
            types: BTreeMap::new(),
            delimiter: None,
            drop_duplicates: false,
            redistributable: None,
            cache_mib: default_cache_mib(),
            split: SplitRules::default(),
            table: TableRules::default(),
            image: ImageRules::default(),
            generate: GenerateRules::default(),
        }
    }

    /// Refuses keys that the source does not read: an ignored key is a mistake that nobody sees.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        use SourceKind as Kind;
        let source = self.source;
        let files = !matches!(source, Kind::Digits | Kind::BreastCancer | Kind::Generated);
        let rows = source.is_table()
            || (source == Kind::Generated && self.generate.kind == GeneratedKind::Friedman1);
        let csv = source == Kind::Csv;
        let unused = [
            ("path", self.path.is_some() && !files),
            ("test_path", self.test_path.is_some() && !csv),
            ("label", self.label.is_some() && !csv && source != Kind::Cifar),
            ("classes", self.classes.is_some() && source != Kind::Idx),
            ("ignore", !self.ignore.is_empty() && !source.is_table()),
            ("types", !self.types.is_empty() && !csv),
            ("delimiter", self.delimiter.is_some() && !csv),
            ("split.column", self.split.column.is_some() && !csv),
            ("table", self.table != TableRules::default() && !rows),
            ("image", self.image != ImageRules::default() && rows),
            ("image.max_value", self.image.max_value.is_some() && source != Kind::Idx),
            ("generate", self.generate != GenerateRules::default() && source != Kind::Generated),
        ];
        if let Some((key, _)) = unused.iter().find(|(_, unused)| *unused) {
            return Err(DataError::config(
                key,
                format!("the source `{source}` does not read this key; remove it"),
            ));
        }
        Ok(())
    }

    /// The path, for sources that cannot do without.
    pub(crate) fn required_path(&self) -> Result<&Path, DataError> {
        let problem = format!("the source `{}` needs the path of its files", self.source);
        self.path.as_deref().ok_or_else(|| DataError::config("path", problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_reads_and_a_stray_key_does_not() {
        let text = r#"
            source = "csv"
            path = "iris.csv"
            label = "species"
            split = { test = 0.3, stratified = true }
            table = { scaling = "min_max", missing = "drop" }
            types = { petals = "categorical" }
        "#;
        let config: DataConfig = toml::from_str(text).unwrap();
        assert_eq!(config.label.as_ref().unwrap().names(), ["species"]);
        config.check().unwrap();
        let back: DataConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(back, config);
        let error =
            toml::from_str::<DataConfig>("source = \"digits\"\npaht = \"x\"").unwrap_err().to_string();
        assert!(error.contains("unknown field `paht`"), "{error}");
    }

    #[test]
    fn keys_that_the_source_does_not_read_are_refused() {
        let cases = [
            ("source = \"digits\"\npath = \"x\"", "path"),
            ("source = \"folder\"\npath = \"x\"\nlabel = \"y\"", "label"),
            ("source = \"mnist\"\ntable = { missing = \"drop\" }", "table"),
            ("source = \"csv\"\npath = \"x\"\nimage = { channels = 1 }", "image"),
        ];
        for (text, key) in cases {
            let config: DataConfig = toml::from_str(text).unwrap();
            let error = config.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`data.{key}`: the source")), "{error}");
        }
    }

    #[test]
    fn names_read_back() {
        for kind in SourceKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(serde_json::from_value::<SourceKind>(kind.name().into()).unwrap(), kind);
        }
        let read = |name: &str| {
            toml::from_str::<DataConfig>(&format!("source = \"{name}\"")).unwrap_err().to_string()
        };
        for name in ["cifar100", "CIFAR-100"] {
            let error = read(name);
            assert!(error.contains("CIFAR-100 is read by `source = \"cifar\"`"), "{error}");
        }
        let error = read("imagenet");
        assert!(
            error.contains("unknown source `imagenet`; expected one of digits, ")
                && !error.contains("CIFAR-100")
        );
    }
}
