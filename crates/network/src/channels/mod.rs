//! Channels that can only be removed together, and removing them.
//!
//! A channel is made by a *producer* (a filter of a convolution, a unit of a dense layer), passed on by *carriers*
//! (normalisation, activation, pooling, dropout, flatten, additions of residual blocks, grouped convolutions), and
//! read by *consumers* (the input side of the next convolutions and dense layers). Without it all of them are
//! smaller. What is tied together is a *group* (Fang et al. 2023, "DepGraph"): the filters of every convolution whose
//! results are added in the blocks of one stage of a residual network are one.
//!
//! A *channel of a group* may be several neighbours in a layer, [`Slice::block`]: behind `flatten` it is a plane of
//! pixels, and a grouped convolution can only lose whole groups.
//!
//! [`remove`] makes the smaller network. It computes, to the last bit of exact arithmetic, what the network itself
//! would if its consumers read zeros in place of the removed channels; layer normalisation over features normalises
//! those that stay.
//!
//! ```
//! use network::channels::Groups;
//!
//! let network = network::Network::new(network::preset("lenet5", &[1, 28, 28], 10)?)?;
//! let groups = Groups::of(&network);
//! let names: Vec<(&str, usize)> = groups.groups.iter().map(|group| (&*group.name, group.channels)).collect();
//! assert_eq!(names, [("conv1", 20), ("conv2", 50), ("fc1", 500)]);
//! // The last layer's units are the answers.
//! assert_eq!(groups.fixed[0].name, "fc2");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod axis;
mod remove;
mod trace;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

pub use self::remove::{Removal, RemoveError, remove, resize};
use crate::shape::{Network, Role};

/// All channels of a network: those that can go, in groups, and those that cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// In the order of their first producers.
    pub groups: Vec<Group>,
    /// In the order of the layers.
    pub fixed: Vec<Fixed>,
}

/// Channels that are removed together, here and in every layer that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The first producer. No other group has it.
    pub name: String,
    /// How many channels there are.
    pub channels: usize,
    /// How many filters or units of the first producer one channel is: 1 but where a grouped convolution ties
    /// several.
    pub width: usize,
    /// Convolutions and dense layers that make the channels.
    pub producers: Vec<String>,
    /// Layers that pass them on.
    pub carriers: Vec<String>,
    /// Convolutions and dense layers that read them and mix them with others.
    pub consumers: Vec<String>,
    /// What is cut out of the record with them.
    pub slices: Vec<Slice>,
    /// Multiply–accumulates of one sample that one channel costs, while all others are there.
    pub macs_per_channel: u64,
    /// Trained values that one channel costs, while all others are there.
    pub parameters_per_channel: u64,
}

/// The part that a layer has in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the module says what they are")]
pub enum Part {
    Producer,
    Carrier,
    Consumer,
}

/// Where the channels of a group lie in a tensor of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// `<layer>.<parameter>`.
    pub key: String,
    /// What the tensor is for.
    pub role: Role,
    /// The part of its layer in this group.
    pub part: Part,
    /// The tensor's shape.
    pub shape: Vec<usize>,
    /// The dimension that shrinks.
    pub dimension: usize,
    /// Channel `c` is the entries `c · block .. (c + 1) · block` of that dimension.
    pub block: usize,
}

impl Slice {
    /// Calls `each` with the number of the channel and the position of each value in the tensor.
    pub fn for_each(&self, mut each: impl FnMut(usize, usize)) {
        let entries = self.shape.get(self.dimension).copied().unwrap_or(1).max(1);
        let inner: usize = self.shape.iter().skip(self.dimension + 1).product();
        let total: usize = self.shape.iter().product();
        for at in 0..total {
            each(at / inner.max(1) % entries / self.block.max(1), at);
        }
    }
}

/// Channels that cannot be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fixed {
    /// The first layer with weights that makes or carries them.
    pub name: String,
    /// How many there are.
    pub channels: usize,
    /// Why.
    pub reason: FixedReason,
}

/// Why channels cannot be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum FixedReason {
    /// They are those of an input, or added to it, or in groups with it.
    Input { input: String },
    /// They are what the network answers.
    Output { output: String },
    /// There is only one.
    Single,
}

impl fmt::Display for FixedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input { input } => write!(f, "its channels are tied to those of the input `{input}`"),
            Self::Output { output } => write!(f, "its channels are the output `{output}`"),
            Self::Single => f.write_str("it has one channel, or all are tied together as one"),
        }
    }
}

impl Groups {
    /// Follows the channels of a network.
    #[must_use]
    pub fn of(network: &Network) -> Self {
        trace::trace(network)
    }

    /// The group of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// How many channels each group has, by its name.
    #[must_use]
    pub fn sizes(&self) -> BTreeMap<String, usize> {
        self.groups.iter().map(|group| (group.name.clone(), group.channels)).collect()
    }
}
