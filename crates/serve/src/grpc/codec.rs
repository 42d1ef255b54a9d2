//! How messages are read from what a call sends: looked over before anything is made of it.
//!
//! In protobuf two bytes are an empty message, for which a parser reserves a structure of hundreds: a message within its
//! limit in bytes could be a thousand times as large in memory. So fields are counted first, as
//! [`crate::json::check_structure`] counts objects.

use std::fmt;
use std::marker::PhantomData;

use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use crate::oip::request::TENSORS;

/// How many fields one message may have, apart from those inside of them: as many as JSON may have objects.
pub const FIELDS: usize = 8 * TENSORS;

/// Reads messages that have been looked over, and writes them as they are.
pub struct Checked<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Checked<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> fmt::Debug for Checked<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checked")
    }
}

impl<T, U> Codec for Checked<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Reader<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader(PhantomData)
    }
}

/// The half that reads.
pub struct Reader<U>(PhantomData<U>);

impl<U> fmt::Debug for Reader<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl<U: Message + Default> Decoder for Reader<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        use prost::bytes::Buf as _;
        // A whole message lies in one piece.
        if !is_small(buffer.chunk(), FIELDS) {
            return Err(Status::invalid_argument(format!(
                "the message has more than {FIELDS} fields; a request may name at most {TENSORS} inputs and outputs"
            )));
        }
        let read = U::decode(buffer);
        read.map(Some)
            .map_err(|error| Status::invalid_argument(format!("the message cannot be read: {error}")))
    }
}

/// Whether a message has at most so many fields. What is malformed is left to the parser, which comes no further.
fn is_small(mut bytes: &[u8], most: usize) -> bool {
    for _ in 0..=most {
        if bytes.is_empty() {
            return true;
        }
        let skipped = decode_key(&mut bytes)
            .and_then(|(tag, wire)| skip_field(wire, tag, &mut bytes, DecodeContext::default()));
        if skipped.is_err() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_and_not_what_is_in_them() {
        // Empty inputs; one that holds as much as it likes; what breaks off; nothing.
        let empty = [0x2a, 0];
        assert!(is_small(&empty.repeat(FIELDS), FIELDS));
        assert!(!is_small(&empty.repeat(FIELDS + 1), FIELDS));
        let filled = [&[0x2a, 0x80, 0x20][..], &[0; 4096]].concat();
        assert!(is_small(&filled, 1));
        assert!(!is_small(&[&filled[..], &filled].concat(), 1));
        assert!(is_small(&filled[..100], 0), "the parser says what is wrong");
        assert!(is_small(&[], 0));
    }
}
