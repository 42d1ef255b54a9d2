//! Whole numbers and short texts of which little is known: the descriptions at the beginning of a file.

use super::coder::Coder;
use super::mixing::{Counter, HALF};

/// Symbols of a few bits, each bit known by those before it.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    bits: u32,
    nodes: Vec<Counter>,
}

impl Tree {
    /// For symbols below 2^`bits`.
    pub(super) fn new(bits: u32) -> Self {
        Self { bits, nodes: vec![Counter::new(HALF); 1 << bits] }
    }

    pub(super) fn code<C: Coder>(&mut self, coder: &mut C, symbol: u32) -> u32 {
        let mut node = 1;
        for bit in (0..self.bits).rev() {
            let set = self.nodes[node].code(coder, symbol >> bit & 1 == 1);
            node = node * 2 + usize::from(set);
        }
        (node - (1 << self.bits)) as u32
    }
}

/// Numbers by their lengths: the length adapts, the digits behind the first one do not.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    lengths: Tree,
}

impl Numbers {
    pub(super) fn new() -> Self {
        Self { lengths: Tree::new(7) }
    }

    /// Any number; what is read is at most 64 bits long whatever the stream says.
    pub(super) fn code<C: Coder>(&mut self, coder: &mut C, number: u64) -> u64 {
        let length = self.lengths.code(coder, 64 - number.leading_zeros()).min(64);
        match length {
            0 => 0,
            1 => 1,
            _ => {
                let digits = length - 1;
                1 << digits | coder.uniform_wide(number & ((1 << digits) - 1), digits)
            }
        }
    }
}

/// Bytes of names, each known by the one before.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// By the last byte.
    bytes: Vec<Tree>,
    last: u8,
}

impl Text {
    /// What names of layers look like, learnt before the first one is coded.
    const PRIMER: &[u8] = b"\0conv1\0conv2\0norm1\0norm2\0fc1\0fc2\0dense1\0dense2\0block1.conv1\0\
        stage1.block2.norm2\0stage3.block1.conv2\0shortcut\0dense\0conv\0";

    pub(super) fn new() -> Self {
        let mut text = Self { bytes: vec![Tree::new(8); 256], last: 0 };
        let mut nowhere = super::coder::Cost::default();
        for &byte in Self::PRIMER {
            text.code(&mut nowhere, byte);
        }
        text
    }

    pub(super) fn code<C: Coder>(&mut self, coder: &mut C, byte: u8) -> u8 {
        let read = self.bytes[usize::from(self.last)].code(coder, u32::from(byte));
        self.last = read as u8;
        self.last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::coder::{Cost, Decoder, Encoder};

    fn play<C: Coder>(coder: &mut C, numbers: &[u64], text: &[u8]) -> (Vec<u64>, Vec<u8>) {
        let (mut model, mut letters) = (Numbers::new(), Text::new());
        let numbers = numbers.iter().map(|&number| model.code(coder, number)).collect();
        (numbers, text.iter().map(|&byte| letters.code(coder, byte)).collect())
    }

    proptest! {
        #[test]
        fn numbers_and_texts_come_back(
            numbers in proptest::collection::vec(prop_oneof![any::<u64>(), 0u64..300], 0..20),
            text in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut encoder = Encoder::default();
            play(&mut encoder, &numbers, &text);
            let bytes = encoder.finish();
            let back = play(&mut Decoder::new(&bytes), &vec![0; numbers.len()], &vec![0; text.len()]);
            prop_assert_eq!(back, (numbers, text));
        }
    }

    #[test]
    fn usual_names_are_cheap() {
        let mut cost = Cost::default();
        let mut text = Text::new();
        for &byte in b"conv1\0fc1\0" {
            text.code(&mut cost, byte);
        }
        assert!(cost.units < 32 << 12, "{} bits", cost.units >> 12);
    }
}
