//! Fine-tuning: initial weights from another package, with a list of what was loaded and what was not.

use std::collections::BTreeSet;

use artifact::{ModelRef, NameError, Package, PackageError, Registry, RegistryError};
use network::spec::{InputSpec, Layer, NetworkSpec, Op};
use network::{Network, Weights};
use serde::{Deserialize, Serialize};

use crate::config::NetworkConfigError;

/// What came from the parent, and what did not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitReport {
    /// The parent: `name@version`.
    pub parent: String,
    /// Keys that were loaded.
    pub loaded: Vec<String>,
    /// Keys that begin afresh, each with the reason.
    pub fresh: Vec<(String, String)>,
    /// Keys of the parent that nothing here wanted.
    pub unused: Vec<String>,
}

/// A parent that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum InitError {
    #[error("`init` is no model")]
    Name(#[from] NameError),
    #[error("the model that `init` names cannot be opened")]
    Registry(#[from] RegistryError),
    #[error("the weights that `init` names cannot be read")]
    Package(#[from] PackageError),
    #[error(transparent)]
    Network(#[from] NetworkConfigError),
    #[error("`init`: no parameter of {parent} fits this network; its layers are {layers}")]
    Nothing { parent: String, layers: String },
    #[error("`freeze`: no layer is called `{name}`; there are {known}")]
    Unknown { name: String, known: String },
    #[error("`freeze`: the layer `{name}` cannot stay as it is, because {key} was not loaded: {reason}")]
    Fresh { name: String, key: String, reason: String },
    #[error("`freeze` leaves nothing to train")]
    Everything,
}

/// Opens the parent.
///
/// # Errors
/// When there is no such package or it is damaged.
pub fn open(registry: &Registry, reference: &str) -> Result<Package, InitError> {
    let reference: ModelRef = reference.parse()?;
    Ok(registry.package(&reference)?)
}

/// The parent's network for another input and another number of outputs: the last layer with weights gets
/// as many units as there are outputs.
///
/// # Errors
/// When the layers cannot read the new input.
pub fn network_of(parent: &Package, input: &[usize], outputs: usize) -> Result<Network, InitError> {
    let spec = parent.network().spec();
    let mut layers = spec.layers.clone();
    if let Some(Op::Dense(head)) =
        layers.iter_mut().rev().map(|layer| &mut layer.op).find(|op| matches!(op, Op::Dense(_)))
    {
        head.units = outputs;
    }
    let name = spec.inputs.first().map_or_else(|| "input".to_owned(), |input| input.name.clone());
    let inputs = vec![InputSpec { name, shape: input.to_vec() }];
    let spec = NetworkSpec { inputs, layers, outputs: spec.outputs.clone() };
    let network = Network::new(spec).map_err(NetworkConfigError::from)?;
    crate::config::check_outputs(&network, outputs)?;
    Ok(network)
}

/// Takes from the parent every parameter of the same key and shape; the head begins afresh when the classes
/// differ, because its rows would mean something else.
///
/// # Errors
/// When the parent's record cannot be read, or nothing of it fits.
pub fn load(
    parent: &Package,
    network: &Network,
    mut weights: Weights,
    same_labels: bool,
) -> Result<(Weights, InitReport), InitError> {
    let manifest = parent.manifest();
    let mut given = parent.f32_weights()?;
    let mut report =
        InitReport { parent: format!("{}@{}", manifest.name, manifest.version), ..InitReport::default() };
    let head = network
        .layers()
        .iter()
        .rev()
        .find(|layer| !layer.parameters.is_empty())
        .map(|layer| layer.name.as_str());
    for layer in network.layers() {
        for parameter in &layer.parameters {
            let key = &parameter.key;
            let reason = match given.remove(key) {
                None => format!("{} has no such parameter", report.parent),
                Some(tensor) if tensor.shape() != parameter.shape => {
                    format!("its shape is {:?} there and {:?} here", tensor.shape(), parameter.shape)
                }
                Some(_) if !same_labels && head == Some(layer.name.as_str()) => {
                    "the classes differ".to_owned()
                }
                Some(tensor) => {
                    weights.insert(key.clone(), tensor);
                    report.loaded.push(key.clone());
                    continue;
                }
            };
            report.fresh.push((key.clone(), reason));
        }
    }
    report.unused = given.into_keys().collect();
    if report.loaded.is_empty() {
        let names: Vec<String> = network.layers().iter().map(|layer| format!("`{}`", layer.name)).collect();
        return Err(InitError::Nothing { parent: report.parent, layers: names.join(", ") });
    }
    Ok((weights, report))
}

/// Whether a pattern of a configuration names this layer: by its whole name, or, with a `*` at the end, by the
/// beginning of it.
#[must_use]
pub fn names_layer(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

/// The layers that the patterns of `freeze` name; `conv*` names every layer that begins with `conv`.
///
/// # Errors
/// When a pattern names no layer, a layer was not loaded, or nothing would be left to train.
pub fn freeze(
    network: &Network,
    patterns: &[String],
    report: Option<&InitReport>,
) -> Result<Vec<String>, InitError> {
    let names: Vec<&str> = network.layers().iter().map(|layer| layer.name.as_str()).collect();
    let mut frozen: BTreeSet<String> = BTreeSet::new();
    for pattern in patterns {
        let found: Vec<&&str> = names.iter().filter(|name| names_layer(pattern, name)).collect();
        if found.is_empty() {
            let known = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(InitError::Unknown { name: pattern.clone(), known });
        }
        frozen.extend(found.iter().map(|name| (**name).to_owned()));
    }
    // A block that is frozen freezes the layers inside it.
    for layer in network.spec().all_layers() {
        if frozen.contains(&layer.name) {
            let mut inner = Vec::new();
            inside(layer, &mut inner);
            frozen.extend(inner);
        }
    }
    for layer in network.layers().iter().filter(|layer| frozen.contains(&layer.name)) {
        for parameter in &layer.parameters {
            let fresh = report.and_then(|report| report.fresh.iter().find(|(key, _)| *key == parameter.key));
            if let Some((key, reason)) = fresh {
                let (name, key, reason) = (layer.name.clone(), format!("`{key}`"), reason.clone());
                return Err(InitError::Fresh { name, key, reason });
            }
        }
    }
    let trains = |layer: &network::LayerInfo| {
        !frozen.contains(&layer.name) && layer.parameters.iter().any(|parameter| parameter.role.is_trained())
    };
    if !patterns.is_empty() && !network.layers().iter().any(trains) {
        return Err(InitError::Everything);
    }
    Ok(frozen.into_iter().collect())
}

fn inside(layer: &Layer, names: &mut Vec<String>) {
    if let Op::Residual(block) = &layer.op {
        for inner in block.body.iter().chain(&block.shortcut) {
            names.push(inner.name.clone());
            inside(inner, names);
        }
    }
}
