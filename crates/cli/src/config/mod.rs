//! Layered configuration: flag > environment > file > preset > default.
//!
//! [`Layers`] gathers what each source says and merges it into one tree that remembers the origin of every
//! value; [`Layers::resolve`] reads that tree into a typed configuration whose structs say
//! `#[serde(deny_unknown_fields)]`. Whatever is wrong is reported with the key, the place where it was
//! written, and what would be right.
//!
//! ```
//! #[derive(Debug, serde::Serialize, serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     epochs: u32,
//! }
//! let resolved = cli::config::Layers::new().set("epochs=3")?.resolve::<Config>()?;
//! assert_eq!(resolved.config.epochs, 3);
//! let error = cli::config::Layers::new().set("epoch=3")?.resolve::<Config>().unwrap_err();
//! assert_eq!(error.to_string(), "unknown key `epoch` from `--set epoch=…`");
//! assert_eq!(error.hint().as_deref(), Some("did you mean `epochs`?"));
//! # Ok::<(), cli::config::ConfigError>(())
//! ```

mod de;
mod error;
mod fault;
mod node;
mod origin;
mod write;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::{ConfigError, ConfigErrorKind};
use node::{Node, Places, split_key};
pub use origin::Origin;

/// The most bytes a configuration file may have.
pub const FILE_LIMIT_BYTES: u64 = 1 << 20;

/// What the sources say, before it is merged. The order of the calls matters only within one strength:
/// of two files, or of two `--set` of one key, the later wins.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    overlays: Vec<Overlay>,
}

#[derive(Clone, Debug)]
struct Overlay {
    path: Vec<String>,
    node: Node,
}

impl Layers {
    /// No layers: every value is the default that the configuration's own type gives it.
    pub fn new() -> Self {
        Layers::default()
    }

    fn with(mut self, path: Vec<String>, node: Node) -> Self {
        self.overlays.push(Overlay { path, node });
        self
    }

    /// Default values, where they are more convenient as a table than as `#[serde(default)]`.
    ///
    /// # Errors
    /// The value cannot be written as a TOML table.
    pub fn defaults(self, defaults: &impl Serialize) -> Result<Self, ConfigError> {
        Ok(self.with(Vec::new(), Node::from_serialize(defaults, Origin::Default)?))
    }

    /// The values of a named preset.
    ///
    /// # Errors
    /// The value cannot be written as a TOML table.
    pub fn preset(self, name: &str, values: &impl Serialize) -> Result<Self, ConfigError> {
        Ok(self.with(Vec::new(), Node::from_serialize(values, Origin::Preset(name.to_owned()))?))
    }

    /// A TOML file of at most [`FILE_LIMIT_BYTES`].
    ///
    /// # Errors
    /// The file cannot be read, is too large, or is not TOML.
    pub fn file(self, path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let failed = |source| ConfigErrorKind::Read { path: path.to_path_buf(), source };
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(FILE_LIMIT_BYTES + 1).read_to_string(&mut text))
            .map_err(failed)?;
        if text.len() as u64 > FILE_LIMIT_BYTES {
            return Err(ConfigErrorKind::TooLarge {
                path: path.to_path_buf(),
                limit_bytes: FILE_LIMIT_BYTES,
            }
            .into());
        }
        self.text(path, &text)
    }

    /// TOML text as if it had been read from the file `path`.
    ///
    /// # Errors
    /// The text is not TOML.
    pub fn text(self, path: &Path, text: &str) -> Result<Self, ConfigError> {
        let node = Node::parse(text, &Places::File { path, text })?;
        Ok(self.with(Vec::new(), node))
    }

    /// The environment variables of this process that begin with `prefix`: with the prefix
    /// `BRAZIER_TRAIN_`, `BRAZIER_TRAIN_OPTIMIZER__LEARNING_RATE` is `optimizer.learning_rate`. Values are
    /// TOML where they parse and strings otherwise; an empty variable counts as unset.
    ///
    /// # Errors
    /// A value begins like a TOML list, table or quoted string and is none.
    pub fn env(self, prefix: &str) -> Result<Self, ConfigError> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            // Only names of ours are looked at; the others need not even be Unicode.
            let name = name.into_string().ok()?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        self.env_from(prefix, variables)
    }

    /// As [`Layers::env`], from the given variables.
    ///
    /// # Errors
    /// See [`Layers::env`].
    pub fn env_from(
        mut self,
        prefix: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        // Sorted, so that the result does not depend on the order of the environment.
        let variables: BTreeMap<String, String> = variables.into_iter().collect();
        for (name, value) in variables {
            let Some(key) = name.strip_prefix(prefix) else { continue };
            if key.is_empty() || value.is_empty() {
                continue;
            }
            let path = key.to_lowercase().split("__").map(str::to_owned).collect();
            self = self.with(path, Node::from_typed(&value, Origin::Env(name))?);
        }
        Ok(self)
    }

    /// One `--set key=value`. The key is dotted, with a number for an element of a list
    /// (`network.layers.0.units`); the value is TOML where it parses and a string otherwise.
    ///
    /// # Errors
    /// There is no `=`, or a part of the key is empty, or the value begins like a TOML list, table or
    /// quoted string and is none.
    pub fn set(self, assignment: &str) -> Result<Self, ConfigError> {
        let origin = |key: &str| Origin::Set(key.to_owned());
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(ConfigErrorKind::Refused {
                key: String::new(),
                origin: origin(assignment),
                message: format!("`--set {assignment}` has no value: write `--set key=value`"),
            }
            .into());
        };
        let key = key.trim();
        let path = split_key(key);
        if path.iter().any(String::is_empty) {
            return Err(ConfigErrorKind::Refused {
                key: String::new(),
                origin: origin(key),
                message: format!(
                    "`--set {assignment}` has no proper key: write it as in `--set optimizer.learning_rate=3e-4`"
                ),
            }
            .into());
        }
        let node = Node::from_typed(value.trim(), origin(key))?;
        Ok(self.with(path, node))
    }

    /// A flag of its own, `--seed 7`, that sets the value at `key`; `None` says nothing.
    ///
    /// # Errors
    /// The value cannot be written as TOML.
    pub fn flag<T: Serialize>(self, key: &str, flag: &str, value: Option<T>) -> Result<Self, ConfigError> {
        let Some(value) = value else { return Ok(self) };
        let path = split_key(key);
        // Only tables can be written, so the value travels in one.
        let table = BTreeMap::from([("value", value)]);
        let mut node = Node::from_serialize(&table, Origin::Flag(flag.to_owned()))?;
        if let node::Kind::Table(children) = &mut node.kind
            && let Some(value) = children.remove("value")
        {
            node = value;
        }
        Ok(self.with(path, node))
    }

    /// The string at a dotted key, as the layers so far say it: to find the name of a preset before the
    /// preset itself is added.
    ///
    /// # Errors
    /// See [`Layers::resolve`].
    pub fn peek(&self, key: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.merged()?.get(&split_key(key)).and_then(Node::as_str).map(str::to_owned))
    }

    fn merged(&self) -> Result<Node, ConfigError> {
        let mut overlays: Vec<&Overlay> = self.overlays.iter().collect();
        overlays.sort_by_key(|overlay| overlay.node.origin.rank());
        let mut merged = Node::empty();
        for overlay in overlays {
            merged.set(&overlay.path, overlay.node.clone())?;
        }
        Ok(merged)
    }

    /// `--set seed=1 --seed 2` leaves open what was meant, so it is refused.
    fn refuse_conflicts(&self) -> Result<(), ConfigError> {
        for flag in self.overlays.iter().filter(|overlay| matches!(overlay.node.origin, Origin::Flag(_))) {
            let other = self.overlays.iter().find(|other| {
                matches!(other.node.origin, Origin::Set(_))
                    && other.path == flag.path
                    && write::value_text(&other.node) != write::value_text(&flag.node)
            });
            if let Some(other) = other {
                return Err(ConfigErrorKind::Conflict {
                    key: flag.path.join("."),
                    first: other.node.origin.clone(),
                    second: flag.node.origin.clone(),
                }
                .into());
            }
        }
        Ok(())
    }

    /// Merges the layers and reads the configuration. What no layer mentions is filled in by serde, so
    /// `T` is also written back to find those values.
    ///
    /// # Errors
    /// An unknown key, a missing key, a value of the wrong type, a flag that contradicts a `--set`.
    pub fn resolve<T: DeserializeOwned + Serialize>(&self) -> Result<Resolved<T>, ConfigError> {
        self.refuse_conflicts()?;
        let merged = self.merged()?;
        let config: T = de::from_node(&merged)?;
        let full = Node::from_serialize(&config, Origin::Default)?;
        let mut entries = Vec::new();
        write::entries(&full, Some(&merged), String::new(), &mut entries);
        Ok(Resolved { config, full, entries, merged })
    }
}

/// One value of a resolved configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The dotted path, `network.layers[2].units`.
    pub key: String,
    /// The value as TOML.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// A configuration with the origin of each value.
#[derive(Clone, Debug)]
pub struct Resolved<T> {
    /// The typed configuration.
    pub config: T,
    full: Node,
    merged: Node,
    entries: Vec<Entry>,
}

impl<T> Resolved<T> {
    /// Every value, in the order of the keys.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Every value that is not a default.
    pub fn non_defaults(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.origin != Origin::Default)
    }

    /// Where the value at a dotted key came from. A table came from where it was first opened.
    pub fn origin(&self, key: &str) -> Origin {
        self.merged.get(&split_key(key)).map_or(Origin::Default, |node| node.origin.clone())
    }

    /// The refusal of a value that has the right type and is wrong all the same: names its key and place.
    ///
    /// `message` says what would be right: `must be at least 1`.
    pub fn refuse(&self, key: &str, message: impl Into<String>) -> ConfigError {
        ConfigErrorKind::Refused { key: key.to_owned(), origin: self.origin(key), message: message.into() }
            .into()
    }

    /// The whole configuration as TOML that loads again, each value followed by a comment that names its
    /// origin.
    pub fn write_with_origins(&self) -> String {
        write::document(&self.full, &self.merged)
    }
}

#[cfg(test)]
mod tests;
