//! Makes a network without some of its channels.

use std::collections::{BTreeMap, HashMap};

use super::{Group, Groups, Part};
use crate::shape::{Network, ShapeError};
use crate::spec::{Layer, Op};
use crate::tensor::{LengthError, Tensor};
use crate::weights::{self, Weights, WeightsError};

/// The channels to remove, ascending, by the name of their group.
pub type Removal = BTreeMap<String, Vec<usize>>;

/// Channels that cannot be removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum RemoveError {
    #[error("there is no group of channels `{name}`; there are {known}")]
    UnknownGroup { name: String, known: String },
    #[error("the channels of `{name}` cannot be removed: {reason}")]
    Fixed { name: String, reason: String },
    #[error("group `{group}` has {channels} channels, 0 to {}, and {channel} is none of them", channels - 1)]
    Channel { group: String, channel: usize, channels: usize },
    #[error("the channels to remove from group `{group}` must be ascending, each named once")]
    Order { group: String },
    #[error("group `{group}` would have {kept} channels; it has {channels} and must keep at least 1")]
    Kept { group: String, kept: usize, channels: usize },
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("the smaller network is not valid")]
    Network(#[from] ShapeError),
    #[error("a smaller tensor is not valid")]
    Length(#[from] LengthError),
}

/// The network without the channels of `removal`, and the record that belongs to it. The tensors of other layers,
/// and others that are in the record, stay as they are.
///
/// # Errors
/// When a group does not exist, a channel is not one of it, none would be left, or the record is not one of 32-bit
/// floats for the network.
pub fn remove(
    network: &Network,
    weights: &Weights,
    removal: &Removal,
) -> Result<(Network, Weights), RemoveError> {
    let groups = Groups::of(network);
    network.parameters().try_for_each(|parameter| weights::parameter(weights, parameter).map(drop))?;
    let mut kept = BTreeMap::new();
    let mut smaller = weights.clone();
    for (name, removed) in removal {
        let group = find(&groups, name)?;
        let channels = group.channels;
        if !removed.is_sorted_by(|a, b| a < b) {
            return Err(RemoveError::Order { group: name.clone() });
        }
        if let Some(&channel) = removed.last().filter(|&&last| last >= channels) {
            return Err(RemoveError::Channel { group: name.clone(), channel, channels });
        }
        kept.insert(name.clone(), channels - removed.len());
        let stays: Vec<bool> =
            (0..channels).map(|channel| removed.binary_search(&channel).is_err()).collect();
        if !stays.contains(&true) {
            return Err(RemoveError::Kept { group: name.clone(), kept: 0, channels });
        }
        for slice in &group.slices {
            if let Some(tensor) = smaller.remove(&slice.key) {
                let entries = |entry: usize| stays.get(entry / slice.block).copied().unwrap_or(true);
                smaller.insert(slice.key.clone(), select(tensor, slice.dimension, entries)?);
            }
        }
    }
    let network = resize(network, &kept)?;
    network.parameters().try_for_each(|parameter| weights::parameter(&smaller, parameter).map(drop))?;
    Ok((network, smaller))
}

/// The network with so many channels in each group that is named, whichever they are: what [`remove`] would give,
/// without weights. It answers what a choice would cost.
///
/// # Errors
/// When a group does not exist, or would be larger than it is or empty.
pub fn resize(network: &Network, kept: &BTreeMap<String, usize>) -> Result<Network, RemoveError> {
    let groups = Groups::of(network);
    let mut sizes: HashMap<&str, [usize; 2]> = HashMap::new();
    for (name, &kept) in kept {
        let group = find(&groups, name)?;
        if kept == 0 || kept > group.channels {
            return Err(RemoveError::Kept { group: name.clone(), kept, channels: group.channels });
        }
        for slice in group.slices.iter().filter(|slice| slice.part != Part::Consumer) {
            let layer = slice.key.rsplit_once('.').map_or(slice.key.as_str(), |(layer, _)| layer);
            sizes.insert(layer, [kept, group.channels]);
        }
    }
    let mut spec = network.spec().clone();
    shrink(&mut spec.layers, &sizes);
    Ok(Network::new(spec)?)
}

fn find<'a>(groups: &'a Groups, name: &str) -> Result<&'a Group, RemoveError> {
    if let Some(group) = groups.get(name) {
        return Ok(group);
    }
    let name = name.to_owned();
    if let Some(fixed) = groups.fixed.iter().find(|fixed| fixed.name == name) {
        return Err(RemoveError::Fixed { name, reason: fixed.reason.to_string() });
    }
    let names: Vec<String> = groups.groups.iter().map(|group| format!("`{}`", group.name)).collect();
    let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(RemoveError::UnknownGroup { name, known })
}

/// Gives each layer what is left of its channels: `[kept, of]` by name. Both divide what the layer has.
fn shrink(layers: &mut [Layer], sizes: &HashMap<&str, [usize; 2]>) {
    for layer in layers {
        let [kept, of] = sizes.get(layer.name.as_str()).copied().unwrap_or([1, 1]);
        match &mut layer.op {
            Op::Dense(dense) => dense.units = dense.units / of * kept,
            Op::Conv2d(conv) => {
                conv.channels = conv.channels / of * kept;
                // Whole groups go; the others are what they were.
                if conv.groups > 1 {
                    conv.groups = conv.groups / of * kept;
                }
            }
            Op::Residual(block) => {
                shrink(&mut block.body, sizes);
                shrink(&mut block.shortcut, sizes);
            }
            _ => {}
        }
    }
}

/// Keeps the entries along one dimension for which `stays` says so.
fn select(tensor: Tensor, dimension: usize, stays: impl Fn(usize) -> bool) -> Result<Tensor, LengthError> {
    let (mut shape, elements) = tensor.into_parts();
    let crate::Elements::F32(values) = elements else { return Tensor::new(shape, elements) };
    let entries = shape.get(dimension).copied().unwrap_or(1);
    let inner: usize = shape.iter().skip(dimension + 1).product();
    let kept: Vec<bool> = (0..entries).map(stays).collect();
    let mut selected = Vec::with_capacity(values.len());
    for (index, run) in values.chunks(inner.max(1)).enumerate() {
        if kept.get(index % entries.max(1)).copied().unwrap_or(true) {
            selected.extend_from_slice(run);
        }
    }
    if let Some(size) = shape.get_mut(dimension) {
        *size = kept.iter().filter(|&&kept| kept).count();
    }
    Tensor::from_f32(shape, selected)
}
