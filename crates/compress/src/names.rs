//! Layers by name, as configurations write them: `fc1`, or `conv*` for every name that begins with conv.

use std::collections::BTreeSet;

use network::Network;
use network::spec::Op;
use train::init::names_layer;

/// A pattern that names no layer with weights.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` in `{key}` names no layer with weights; there are {known}")]
pub struct UnknownLayer {
    /// The key of the configuration.
    pub key: String,
    /// What it says.
    pub pattern: String,
    /// The layers that could be meant.
    pub known: String,
}

/// The dense layers and convolutions, in the order of the network, inside residual blocks too.
#[must_use]
pub fn with_weights(network: &Network) -> Vec<String> {
    let layers = network.spec().all_layers().into_iter();
    let weighty = layers.filter(|layer| matches!(layer.op, Op::Dense(_) | Op::Conv2d(_)));
    weighty.map(|layer| layer.name.clone()).collect()
}

/// The layers with weights that a pattern names.
///
/// # Errors
/// When it names none; `key` says where it stands.
pub fn matching(network: &Network, pattern: &str, key: &str) -> Result<BTreeSet<String>, UnknownLayer> {
    let known = with_weights(network);
    let found: BTreeSet<String> = known.iter().filter(|name| names_layer(pattern, name)).cloned().collect();
    if found.is_empty() {
        let known = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return Err(UnknownLayer { key: key.to_owned(), pattern: pattern.to_owned(), known });
    }
    Ok(found)
}

/// [`matching`] for a list of patterns.
///
/// # Errors
/// The first pattern that names none.
pub fn matching_any(
    network: &Network,
    patterns: &[String],
    key: &str,
) -> Result<BTreeSet<String>, UnknownLayer> {
    let mut found = BTreeSet::new();
    for pattern in patterns {
        found.extend(matching(network, pattern, key)?);
    }
    Ok(found)
}
