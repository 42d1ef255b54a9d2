//! Other data for a finished model: how it is read, and its classes in the model's order.

use std::path::Path;
use std::sync::Arc;

use network::{Postprocess, RawInput, Task};

use crate::data::config::Columns;
use crate::data::{DataConfig, DataError, DataSet, Source, SourceKind, Target};

/// Data that does not fit a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum AlignError {
    #[error("the model tells {model}, but the data has {data} targets")]
    Task { model: &'static str, data: &'static str },
    #[error("the data has the class `{found}`, which the model does not know; it knows {known}")]
    Class { found: String, known: String },
    #[error("the model tells {model}, but the data has {data}")]
    Labels { model: String, data: String },
}

/// How a file or folder is read for a model whose own data table is `packed`: as that says where the kind
/// is the same, otherwise by what the path is.
///
/// # Errors
/// When the path is neither a folder nor a table.
pub fn data_config_for(
    path: &Path,
    packed: Option<&DataConfig>,
    label: Option<&str>,
) -> Result<DataConfig, DataError> {
    let table = path
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("csv") || end.eq_ignore_ascii_case("tsv"));
    let kind = match packed {
        Some(packed) if path.is_dir() && matches!(packed.source, SourceKind::Cifar | SourceKind::Idx) => {
            packed.source
        }
        _ if table => SourceKind::Csv,
        _ if path.is_dir() => SourceKind::Folder,
        _ => {
            let problem =
                "expected a folder with one sub-folder per class, or a .csv or .tsv file".to_owned();
            return Err(DataError::File { file: path.display().to_string(), problem });
        }
    };
    let mut config = match packed {
        Some(packed) if packed.source == kind => packed.clone(),
        Some(packed) => {
            let mut config = DataConfig::new(kind);
            config.positive.clone_from(&packed.positive);
            if kind == SourceKind::Csv {
                config.table = packed.table;
            } else {
                config.image = packed.image.clone();
                config.image.max_value = None;
            }
            config
        }
        None => DataConfig::new(kind),
    };
    config.path = Some(path.to_owned());
    config.test_path = None;
    config.drop_duplicates = false;
    config.split = crate::data::SplitRules::default();
    if let Some(label) = label {
        config.label = Some(Columns::One(label.to_owned()));
    }
    Ok(config)
}

/// Puts the classes of a data set into the order of a model's. Classes of the model that the data lacks are
/// fine.
///
/// # Errors
/// When the data has another task, or a class or target that the model does not know.
pub fn align(data: DataSet, postprocess: &Postprocess) -> Result<DataSet, AlignError> {
    let classes = |task| matches!(task, Task::MultiClass | Task::Binary);
    if data.task != postprocess.task && !(classes(data.task) && classes(postprocess.task)) {
        return Err(AlignError::Task { model: postprocess.task.name(), data: data.task.name() });
    }
    if data.labels == postprocess.labels {
        return Ok(DataSet { task: postprocess.task, ..data });
    }
    let list =
        |labels: &[String]| labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
    if !classes(postprocess.task) {
        return Err(AlignError::Labels { model: list(&postprocess.labels), data: list(&data.labels) });
    }
    let place = |label: &String| {
        let found = postprocess.labels.iter().position(|known| known == label);
        found.ok_or_else(|| AlignError::Class { found: label.clone(), known: list(&postprocess.labels) })
    };
    let map = data.labels.iter().map(place).collect::<Result<Vec<usize>, _>>()?;
    let source: Arc<dyn Source> = Arc::new(Relabelled { source: data.source.clone(), map });
    Ok(DataSet { source, task: postprocess.task, labels: postprocess.labels.clone(), ..data })
}

struct Relabelled {
    source: Arc<dyn Source>,
    map: Vec<usize>,
}

impl Source for Relabelled {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn read(&self, index: usize) -> Result<RawInput, DataError> {
        self.source.read(index)
    }

    fn target(&self, index: usize) -> Result<Target, DataError> {
        Ok(match self.source.target(index)? {
            Target::Class(class) => Target::Class(self.map.get(class).copied().unwrap_or(class)),
            other => other,
        })
    }

    fn describe(&self, index: usize) -> String {
        self.source.describe(index)
    }
}
