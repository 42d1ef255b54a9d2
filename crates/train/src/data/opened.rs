//! What a reader hands over: samples that are not split yet.

use std::sync::Arc;

use network::{RawInput, Task};

use super::DataError;
use super::config::{DataConfig, ImageRules};
use super::source::{DataKind, Origin, Source, Target};
use super::split::Part;

/// Opened data before it is split.
pub(crate) struct Opened {
    pub(crate) name: String,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) task: Task,
    pub(crate) labels: Vec<String>,
    pub(crate) kind: DataKind,
    /// The part that the data gives to each sample; empty: none.
    pub(crate) given: Vec<Option<Part>>,
    /// Samples that cleaning leaves out, ascending.
    pub(crate) dropped: Vec<usize>,
    pub(crate) sha256: String,
    pub(crate) redistributable: bool,
    pub(crate) origin: Origin,
}

impl Opened {
    /// Samples of classes, with nothing known about parts, origin and licence.
    pub(crate) fn new(
        name: &str,
        source: impl Source + 'static,
        labels: Vec<String>,
        kind: DataKind,
        sha256: String,
    ) -> Self {
        let task = if labels.len() == 2 { Task::Binary } else { Task::MultiClass };
        Self {
            name: name.to_owned(),
            source: Arc::new(source),
            task,
            labels,
            kind,
            given: Vec::new(),
            dropped: Vec::new(),
            sha256,
            redistributable: false,
            origin: Origin::default(),
        }
    }

    pub(crate) fn with_origin(mut self, citation: &str, licence: &str, redistributable: bool) -> Self {
        self.origin = Origin { citation: citation.to_owned(), licence: licence.to_owned() };
        self.redistributable = redistributable;
        self
    }

    /// Applies `image.size` and `image.channels`: what the network reads, to which each image is fitted when it
    /// is prepared.
    fn resized(mut self, rules: &ImageRules) -> Result<Self, DataError> {
        match &mut self.kind {
            DataKind::Image { channels, height, width, .. } if rules.change(*channels, [*height, *width]) => {
                if matches!(self.source.read(0)?, RawInput::Numbers(_)) {
                    let problem = format!(
                        "{} holds images of {height}×{width}×{channels} (height × width × channels) that are not of \
                         8 bits, and only such images are brought to another size; remove `size` and `channels`",
                        self.name
                    );
                    return Err(DataError::config("image", problem));
                }
                *channels = rules.channels.unwrap_or(*channels);
                [*height, *width] = rules.size.unwrap_or([*height, *width]);
            }
            DataKind::Numbers { shape }
                if rules.size.is_some() || rules.channels.is_some() || rules.fit.is_some() =>
            {
                let problem = format!(
                    "{} holds arrays of shape {shape:?}, which are no images; remove this key",
                    self.name
                );
                return Err(DataError::config("image", problem));
            }
            _ => {}
        }
        Ok(self)
    }

    /// Applies `task`, `positive`, `redistributable` and the size of images of the configuration.
    pub(crate) fn configured(self, config: &DataConfig) -> Result<Self, DataError> {
        let mut this = self.resized(&config.image)?;
        this.redistributable = config.redistributable.unwrap_or(this.redistributable);
        this.told(config)
    }

    /// Applies what shall be told: `task` and `positive`.
    fn told(mut self, config: &DataConfig) -> Result<Self, DataError> {
        let classes = matches!(self.task, Task::Binary | Task::MultiClass);
        if classes && self.labels.len() < 2 {
            let only = self.labels.first().map_or("none", String::as_str);
            let problem = format!("one class alone (`{only}`) teaches nothing; at least two are needed");
            return Err(DataError::file(&self.name, problem));
        }
        if let Some(task) = config.task.filter(|task| *task != self.task) {
            match task {
                Task::MultiClass if self.task == Task::Binary => self.task = task,
                Task::Binary if self.task == Task::MultiClass => {
                    let problem =
                        format!("`binary` needs two classes, but the data has {}", self.labels.len());
                    return Err(DataError::config("task", problem));
                }
                _ => {
                    let problem =
                        format!("`{}` does not fit this data; it is for `{}`", task.name(), self.task.name());
                    return Err(DataError::config("task", problem));
                }
            }
        }
        if let Some(positive) = &config.positive {
            if self.task != Task::Binary {
                let problem =
                    format!("only a `binary` task has a positive class; this one is `{}`", self.task.name());
                return Err(DataError::config("positive", problem));
            }
            match self.labels.iter().position(|label| label == positive) {
                Some(0) => {
                    self.labels.swap(0, 1);
                    self.source = Arc::new(Swapped(self.source));
                }
                Some(_) => {}
                None => {
                    let problem =
                        format!("`{positive}` is no class of the data; it has {}", self.labels.join(", "));
                    return Err(DataError::config("positive", problem));
                }
            }
        }
        Ok(self)
    }
}

/// The names of `count` classes: the given ones, or their numbers.
pub(crate) fn class_names(
    file: &str,
    given: Option<&[String]>,
    count: usize,
) -> Result<Vec<String>, DataError> {
    let Some(given) = given else {
        return Ok((0..count).map(|class| class.to_string()).collect());
    };
    if given.len() < count {
        let problem = format!(
            "there are {count} classes or more, but names for {} only: {}",
            given.len(),
            given.join(", ")
        );
        return Err(DataError::file(file, problem));
    }
    for (index, name) in given.iter().enumerate() {
        if name.trim().is_empty() || given[..index].contains(name) {
            return Err(DataError::file(file, format!("the class name `{name}` is empty or given twice")));
        }
    }
    Ok(given.to_vec())
}

/// A source of two classes in the other order.
struct Swapped(Arc<dyn Source>);

impl Source for Swapped {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn read(&self, index: usize) -> Result<RawInput, DataError> {
        self.0.read(index)
    }

    fn target(&self, index: usize) -> Result<Target, DataError> {
        Ok(match self.0.target(index)? {
            Target::Class(class) => Target::Class(1 - class.min(1)),
            other => other,
        })
    }

    fn describe(&self, index: usize) -> String {
        self.0.describe(index)
    }
}
