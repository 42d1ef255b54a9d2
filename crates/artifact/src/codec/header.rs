//! What a file holds: names, types and shapes, each coded by what the one before makes likely.
//!
//! Tensors are sorted by their layers, and within a layer backwards by their parameters, so that the weights of a
//! layer come before its bias.

use std::cmp::Reverse;

use network::{DType, element_count};

use super::bits::{self, TYPES};
use super::coder::Coder;
use super::mixing::{Counter, HALF};
use super::numbers::{Numbers, Text, Tree};
use super::{CodecError, view, within};
use crate::limits::Limits;
use crate::record::Entry;

/// Parameters that have a number of their own.
const PARAMETERS: [&str; 7] = ["weight", "bias", "scale", "gamma", "beta", "running_mean", "running_var"];
/// The number of a name without a point.
const NONE: u32 = 14;
/// The number of any other parameter.
const OTHER: u32 = 15;

const SAME: u32 = 0;
const NEXT: u32 = 1;
const NEW: u32 = 2;

/// The order in which a file holds its tensors.
pub(super) fn order(name: &str) -> (&str, Reverse<Option<&str>>) {
    let (layer, parameter) = split(name);
    (layer, Reverse(parameter))
}

fn split(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once('.') {
        Some((layer, parameter)) => (layer, Some(parameter)),
        None => (name, None),
    }
}

struct Model {
    numbers: Numbers,
    lengths: Numbers,
    text: Text,
    relations: Tree,
    /// By the parameter before.
    parameters: Vec<Tree>,
    /// By the parameter.
    types: Vec<Tree>,
    ranks: Vec<Tree>,
    wide: Counter,
    dimensions: Vec<Tree>,
}

/// Codes the list of tensors. What is read keeps within the limits; `available` is the size of the file.
pub(super) fn code<C: Coder>(
    coder: &mut C,
    told: &[Entry],
    limits: &Limits,
    available: u64,
) -> Result<Vec<Entry>, CodecError> {
    let mut model = Model {
        numbers: Numbers::new(),
        lengths: Numbers::new(),
        text: Text::new(),
        relations: Tree::new(2),
        parameters: vec![Tree::new(4); 16],
        types: vec![Tree::new(4); 16],
        ranks: vec![Tree::new(3); 16],
        wide: Counter::new(HALF / 64),
        dimensions: vec![Tree::new(2); 4],
    };
    let count = model.numbers.code(coder, told.len() as u64);
    within("number of tensors", count, limits.tensors as u64)?;
    let mut entries: Vec<Entry> = Vec::new();
    let (mut total, mut units, mut parameter) = (0u64, 0usize, NONE);
    for index in 0..count {
        let told = usize::try_from(index).ok().and_then(|index| told.get(index));
        let before = entries.last().map_or("", |entry| entry.name.as_str());
        let name = model.code_name(coder, told, before, &mut parameter, limits)?;
        if !entries.is_empty() && order(before) >= order(&name) {
            return Err(CodecError::damaged(format!("`{name}` is out of order")));
        }
        let which = told.and_then(|entry| TYPES.iter().position(|&dtype| dtype == entry.dtype));
        let which = model.types[parameter as usize].code(coder, which.unwrap_or_default() as u32);
        let unknown = || CodecError::damaged(format!("`{name}` has a type of the number {which}"));
        let dtype = *TYPES.get(which as usize).ok_or_else(unknown)?;
        let shape = model.code_shape(coder, told, parameter, units, &name, limits)?;
        let size = size_bytes(dtype, &shape)
            .ok_or_else(|| CodecError::damaged(format!("the shape {shape:?} of `{name}` is impossible")))?;
        within(&format!("tensor `{name}` in bytes"), size, limits.tensor_bytes)?;
        total = total.saturating_add(size);
        if coder.failed() {
            return Err(CodecError::damaged("it ends inside its list of tensors"));
        }
        if shape.len() > 1 {
            units = view::units(&shape);
        }
        entries.push(Entry { name, dtype, shape });
    }
    within("sum of all tensors in bytes", total, limits.total_bytes.min(limits.expanded(available)))?;
    Ok(entries)
}

/// The bytes of a tensor; nothing when its elements cannot be counted.
pub(super) fn size_bytes(dtype: DType, shape: &[usize]) -> Option<u64> {
    (element_count(shape)? as u64).checked_mul(u64::from(bits::width(dtype) / 8))
}

impl Model {
    fn code_name<C: Coder>(
        &mut self,
        coder: &mut C,
        told: Option<&Entry>,
        before: &str,
        parameter: &mut u32,
        limits: &Limits,
    ) -> Result<String, CodecError> {
        let (last_layer, _) = split(before);
        let next = successor(last_layer);
        let (layer, word) = told.map_or(("", None), |entry| split(&entry.name));
        let relation = match () {
            () if layer == last_layer && !before.is_empty() => SAME,
            () if Some(layer) == next.as_deref() => NEXT,
            () => NEW,
        };
        let layer = match (self.relations.code(coder, relation), next) {
            (SAME, _) => last_layer.to_owned(),
            (NEXT, Some(next)) => next,
            (NEW, _) => {
                let shared = last_layer.bytes().zip(layer.bytes()).take_while(|(a, b)| a == b).count();
                let shared = self.lengths.code(coder, shared as u64);
                let kept =
                    usize::try_from(shared).ok().and_then(|shared| last_layer.as_bytes().get(..shared));
                let kept =
                    kept.ok_or_else(|| CodecError::damaged("a name goes on from one that is shorter"))?;
                let rest = layer.as_bytes().get(kept.len()..).unwrap_or_default();
                let rest = self.code_text(coder, rest, limits)?;
                text([kept, &rest].concat())?
            }
            _ => return Err(CodecError::damaged("a name has no number to count on from")),
        };
        let known = word.map_or(NONE, |word| {
            PARAMETERS.iter().position(|&known| known == word).map_or(OTHER, |index| index as u32)
        });
        *parameter = self.parameters[*parameter as usize].code(coder, known);
        let name = match *parameter {
            NONE => layer,
            OTHER => {
                let word = self.code_text(coder, word.unwrap_or_default().as_bytes(), limits)?;
                format!("{layer}.{}", text(word)?)
            }
            number => match PARAMETERS.get(number as usize) {
                Some(word) => format!("{layer}.{word}"),
                None => return Err(CodecError::damaged(format!("no parameter has the number {number}"))),
            },
        };
        within("longest name in bytes", name.len() as u64, limits.name_bytes as u64)?;
        Ok(name)
    }

    fn code_text<C: Coder>(
        &mut self,
        coder: &mut C,
        told: &[u8],
        limits: &Limits,
    ) -> Result<Vec<u8>, CodecError> {
        let length = self.lengths.code(coder, told.len() as u64);
        within("longest name in bytes", length, limits.name_bytes as u64)?;
        let told = told.iter().copied().chain(std::iter::repeat(0)).take(length as usize);
        Ok(told.map(|byte| self.text.code(coder, byte)).collect())
    }

    fn code_shape<C: Coder>(
        &mut self,
        coder: &mut C,
        told: Option<&Entry>,
        parameter: u32,
        units: usize,
        name: &str,
        limits: &Limits,
    ) -> Result<Vec<usize>, CodecError> {
        let told = told.map_or(&[][..], |entry| &entry.shape);
        let rank = match self.wide.code(coder, told.len() > 7) {
            false => u64::from(self.ranks[parameter as usize].code(coder, told.len().min(7) as u32)),
            true => self.numbers.code(coder, told.len() as u64),
        };
        within(&format!("tensor `{name}` in dimensions"), rank, limits.rank as u64)?;
        let mut shape: Vec<usize> = Vec::new();
        for index in 0..rank as usize {
            let size = told.get(index).copied().unwrap_or_default();
            let relation = match () {
                () if size == units && units > 0 => 1,
                () if shape.last() == Some(&size) => 2,
                () => 0,
            };
            let size = match (self.dimensions[index.min(3)].code(coder, relation), shape.last()) {
                (1, _) => units,
                (2, Some(&last)) => last,
                _ => usize::try_from(self.numbers.code(coder, size as u64))
                    .map_err(|_| CodecError::damaged(format!("a dimension of `{name}` is too large")))?,
            };
            shape.push(size);
        }
        Ok(shape)
    }
}

/// The name with its number one higher: `conv2` after `conv1`.
fn successor(layer: &str) -> Option<String> {
    let stem = layer.trim_end_matches(|character: char| character.is_ascii_digit());
    let number: u32 = layer.get(stem.len()..)?.parse().ok()?;
    Some(format!("{stem}{}", number.checked_add(1)?))
}

fn text(bytes: Vec<u8>) -> Result<String, CodecError> {
    String::from_utf8(bytes).map_err(|_| CodecError::damaged("a name is no UTF-8"))
}
