//! Answers that are kept, to answer the same inputs again without computing.
//!
//! A model is a function, so an answer is right for as long as its version serves. The key is a SHA-256 digest over
//! the version and the inputs with their types and shapes: with a faster hash a client could make two inputs that meet
//! and poison the answers of others. What was not asked for longest goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use network::{Elements, NamedTensor};
use sha2::{Digest as _, Sha256};

use crate::oip::binary;

/// What an entry costs beside its tensors: keys, order, shapes and names, roughly.
const ENTRY_BYTES: usize = 256;

/// Identifies inputs of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// The digest of inputs in the order of the signature; nothing for element types that have no bytes of their own.
    pub(crate) fn of(version: u64, inputs: &[NamedTensor]) -> Option<Self> {
        let mut hash = Sha256::new();
        hash.update(version.to_le_bytes());
        for NamedTensor { tensor, .. } in inputs {
            hash.update(tensor.dtype().name());
            hash.update((tensor.shape().len() as u64).to_le_bytes());
            tensor.shape().iter().for_each(|size| hash.update((*size as u64).to_le_bytes()));
            update(&mut hash, tensor.elements())?;
        }
        Some(Self(hash.finalize().into()))
    }
}

/// Feeds numbers in blocks, so that the hash is not called for each.
fn feed<T: Copy, const BYTES: usize>(hash: &mut Sha256, values: &[T], bytes: impl Fn(T) -> [u8; BYTES]) {
    let mut block = Vec::with_capacity(4096 + BYTES);
    for value in values {
        block.extend_from_slice(&bytes(*value));
        if block.len() >= 4096 {
            hash.update(&block);
            block.clear();
        }
    }
    hash.update(&block);
}

fn update(hash: &mut Sha256, elements: &Elements) -> Option<()> {
    match elements {
        Elements::Bool(values) => feed(hash, values, |value| [u8::from(value)]),
        Elements::U8(values) => hash.update(values),
        Elements::U16(values) | Elements::F16(values) | Elements::Bf16(values) => {
            feed(hash, values, u16::to_le_bytes);
        }
        Elements::U32(values) => feed(hash, values, u32::to_le_bytes),
        Elements::U64(values) => feed(hash, values, u64::to_le_bytes),
        Elements::I8(values) => feed(hash, values, i8::to_le_bytes),
        Elements::I16(values) => feed(hash, values, i16::to_le_bytes),
        Elements::I32(values) => feed(hash, values, i32::to_le_bytes),
        Elements::I64(values) => feed(hash, values, i64::to_le_bytes),
        // By their bits: 0 and -0 are different inputs, and a NaN equals itself.
        Elements::F32(values) => feed(hash, values, |value| value.to_bits().to_le_bytes()),
        Elements::F64(values) => feed(hash, values, |value| value.to_bits().to_le_bytes()),
        Elements::Bytes(values) => {
            for value in values {
                hash.update((value.len() as u64).to_le_bytes());
                hash.update(value);
            }
        }
        _ => return None,
    }
    Some(())
}

/// The answers of all versions.
#[derive(Debug)]
pub(crate) struct Cache {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    answers: HashMap<Digest, Entry>,
    /// Who was asked for when; the first longest ago.
    order: BTreeMap<u64, Digest>,
    bytes: usize,
    time: u64,
}

#[derive(Debug)]
struct Entry {
    version: u64,
    outputs: Arc<[NamedTensor]>,
    bytes: usize,
    time: u64,
}

impl Cache {
    /// Keeps at most `most` bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Vec<NamedTensor>> {
        let outputs = self.kept().touch(digest)?;
        // Not under the lock, for it may be long.
        Some(outputs.to_vec())
    }

    /// Keeps an answer of a version, unless it alone is too large.
    pub(crate) fn put(&self, version: u64, digest: Digest, outputs: &[NamedTensor]) {
        let bytes = ENTRY_BYTES + outputs.iter().map(footprint).sum::<usize>();
        if bytes > self.most {
            return;
        }
        let outputs: Arc<[NamedTensor]> = outputs.into();
        let mut kept = self.kept();
        kept.remove(&digest);
        while kept.bytes + bytes > self.most {
            let Some((_, oldest)) = kept.order.pop_first() else { break };
            kept.remove(&oldest);
        }
        kept.time += 1;
        kept.bytes += bytes;
        let time = kept.time;
        kept.order.insert(time, digest);
        kept.answers.insert(digest, Entry { version, outputs, bytes, time });
    }

    /// Forgets the answers of a version that serves no more.
    pub(crate) fn forget(&self, version: u64) {
        let mut kept = self.kept();
        let of_it: Vec<Digest> = kept
            .answers
            .iter()
            .filter(|(_, entry)| entry.version == version)
            .map(|(digest, _)| *digest)
            .collect();
        of_it.iter().for_each(|digest| kept.remove(digest));
        if kept.answers.is_empty() {
            // A map that was large once gives its memory back.
            *kept = Kept { time: kept.time, ..Kept::default() };
        }
    }
}

impl Kept {
    /// An answer, which was asked for now.
    fn touch(&mut self, digest: &Digest) -> Option<Arc<[NamedTensor]>> {
        let entry = self.answers.get_mut(digest)?;
        self.order.remove(&entry.time);
        self.time += 1;
        entry.time = self.time;
        self.order.insert(self.time, *digest);
        Some(Arc::clone(&entry.outputs))
    }

    fn remove(&mut self, digest: &Digest) {
        if let Some(entry) = self.answers.remove(digest) {
            self.order.remove(&entry.time);
            self.bytes -= entry.bytes;
        }
    }
}

/// The bytes that the elements of a tensor take up in memory.
pub(crate) fn footprint(tensor: &NamedTensor) -> usize {
    match tensor.tensor.elements() {
        Elements::Bytes(values) => values.iter().map(|value| value.len() + size_of::<Vec<u8>>()).sum(),
        other => binary::size(other),
    }
}

#[cfg(test)]
mod tests {
    use network::Tensor;

    use super::*;

    fn tensor(shape: &[usize], elements: Elements) -> Vec<NamedTensor> {
        let tensor = Tensor::new(shape.to_vec(), elements).unwrap();
        vec![NamedTensor { name: "x".to_owned(), tensor }]
    }

    fn floats(values: &[f32]) -> Vec<NamedTensor> {
        tensor(&[values.len()], Elements::F32(values.to_vec()))
    }

    #[test]
    fn whatever_differs_has_another_digest() {
        let inputs = [
            floats(&[0.0, 1.0]),
            floats(&[-0.0, 1.0]),
            floats(&[f32::NAN, 1.0]),
            tensor(&[1, 2], Elements::F32(vec![0.0, 1.0])),
            tensor(&[2], Elements::I32(vec![0, 1])),
            tensor(&[2], Elements::U32(vec![0, 1])),
            tensor(&[2], Elements::Bytes(vec![b"ab".to_vec(), b"c".to_vec()])),
            tensor(&[2], Elements::Bytes(vec![b"a".to_vec(), b"bc".to_vec()])),
            tensor(&[2], Elements::Bool(vec![false, true])),
            tensor(&[2], Elements::U16(vec![0, 1])),
            tensor(&[2], Elements::F16(vec![0, 1])),
            tensor(&[2], Elements::Bf16(vec![0, 1])),
        ];
        let digest = |version, inputs: &[NamedTensor]| Digest::of(version, inputs).unwrap();
        let mut all: Vec<Digest> = inputs.iter().map(|inputs| digest(1, inputs)).collect();
        all.push(digest(2, &inputs[0]));
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{index}");
        }
        assert_eq!(digest(1, &floats(&[f32::NAN])), digest(1, &floats(&[f32::NAN])));
    }

    #[test]
    fn what_was_not_asked_for_longest_goes_first() {
        let cost = ENTRY_BYTES + 4;
        let cache = Cache::new(2 * cost);
        let digests: Vec<Digest> = [1.0, 2.0, 3.0].map(|x| Digest::of(0, &floats(&[x])).unwrap()).into();
        cache.put(7, digests[0], &floats(&[10.0]));
        cache.put(7, digests[1], &floats(&[20.0]));
        assert_eq!(cache.get(&digests[0]), Some(floats(&[10.0])));
        cache.put(8, digests[2], &floats(&[30.0]));
        assert_eq!(
            digests.iter().map(|digest| cache.get(digest).is_some()).collect::<Vec<_>>(),
            [true, false, true]
        );
        assert_eq!(cache.kept().bytes, 2 * cost);
        // The same again takes no more.
        cache.put(8, digests[2], &floats(&[30.0]));
        assert_eq!(cache.kept().bytes, 2 * cost);
        // More than there is room for at all.
        cache.put(8, digests[1], &floats(&[0.0; 1000]));
        assert_eq!((cache.get(&digests[1]), cache.kept().bytes), (None, 2 * cost));
        cache.forget(7);
        assert_eq!((cache.get(&digests[0]), cache.kept().bytes), (None, cost));
        cache.forget(8);
        let kept = cache.kept();
        assert_eq!((kept.bytes, kept.order.len()), (0, 0));
    }
}
