//! Compressed bodies: which content encodings there are, which one a client prefers, packing and unpacking.
//!
//! A body is unpacked when all of it is there, and whatever is unpacked is bounded as it grows, so that a small body
//! cannot become a large one unnoticed. Deflate is zlib, as HTTP has it. Pure functions, without HTTP.

use std::io::{Read, Write as _};

use flate2::Compression;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use ruzstd::decoding::FrameDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// A content encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
    /// zlib (RFC 1950), which HTTP calls deflate.
    Deflate,
}

/// What is shorter is sent as it is: packing it costs more than it saves.
pub const SHORTEST: usize = 2048;

/// How far back a frame may refer; clients of HTTP use no more (RFC 9659).
const WINDOW: u64 = 8 << 20;

impl Coding {
    /// In the order of preference, where a client has none.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Gzip, Self::Deflate];

    /// Its name in `Content-Encoding`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// The encoding of that name, upper or lower case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name()))
    }
}

/// The encoding that the items of `Accept-Encoding` ask for: the one of the highest weight, or none.
#[must_use]
pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> Option<Coding> {
    let mut weights = [None; 3];
    let (mut rest, mut identity) = (None, None);
    for item in accept {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or("");
        let given = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        // A weight that is none is that of something not wanted.
        let weight = given.map_or(1.0, |text| text.trim().parse::<f32>().unwrap_or(0.0));
        match name {
            "*" => rest = Some(weight),
            name if name.eq_ignore_ascii_case("identity") => identity = Some(weight),
            name => {
                let place = Coding::ALL.iter().position(|coding| name.eq_ignore_ascii_case(coding.name()));
                if let Some(slot) = place.and_then(|place| weights.get_mut(place)) {
                    *slot = Some(weight);
                }
            }
        }
    }
    let mut best: Option<(Coding, f32)> = None;
    for (coding, weight) in Coding::ALL.into_iter().zip(weights) {
        let weight = weight.or(rest).unwrap_or(0.0);
        if weight > best.map_or(0.0, |(_, weight)| weight) {
            best = Some((coding, weight));
        }
    }
    // What a client likes better unpacked stays so.
    best.filter(|(_, weight)| identity.is_none_or(|identity| *weight >= identity)).map(|(coding, _)| coding)
}

/// Packs a body, quickly rather than tightly.
///
/// # Errors
/// When memory cannot be written to, which does not happen.
pub fn pack(coding: Coding, body: &[u8]) -> std::io::Result<Vec<u8>> {
    match coding {
        Coding::Zstd => Ok(compress_to_vec(body, CompressionLevel::Fastest)),
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
            encoder.write_all(body)?;
            encoder.finish()
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
            encoder.write_all(body)?;
            encoder.finish()
        }
    }
}

/// Why a body cannot be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// There is more in it than is allowed.
    #[error("the body is larger than allowed once it is unpacked")]
    TooLarge,
    /// It is damaged, breaks off, or refers too far back.
    #[error("the body cannot be unpacked")]
    Damaged,
}

/// Unpacks a body, to at most `limit` bytes: all members of gzip, all frames of zstd.
///
/// # Errors
/// When it is damaged or holds more.
pub fn unpack(coding: Coding, packed: &[u8], limit: usize) -> Result<Vec<u8>, UnpackError> {
    if packed.is_empty() {
        return Ok(Vec::new());
    }
    match coding {
        Coding::Zstd => unpack_zstd(packed, limit),
        Coding::Gzip => inflate(MultiGzDecoder::new(packed), limit).map(|(unpacked, _)| unpacked),
        Coding::Deflate => match inflate(ZlibDecoder::new(packed), limit)? {
            (unpacked, decoder) if decoder.get_ref().is_empty() => Ok(unpacked),
            _ => Err(UnpackError::Damaged),
        },
    }
}

/// Reads to the end, or to one byte more than is allowed.
fn inflate<R: Read>(decoder: R, limit: usize) -> Result<(Vec<u8>, R), UnpackError> {
    let mut out = Vec::new();
    let mut bounded = decoder.take((limit as u64).saturating_add(1));
    bounded.read_to_end(&mut out).map_err(|_| UnpackError::Damaged)?;
    if out.len() > limit {
        return Err(UnpackError::TooLarge);
    }
    Ok((out, bounded.into_inner()))
}

fn unpack_zstd(packed: &[u8], limit: usize) -> Result<Vec<u8>, UnpackError> {
    use ruzstd::decoding::BlockDecodingStrategy::UptoBytes;
    use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
    const STEP: usize = 64 << 10;
    let damaged = |_| UnpackError::Damaged;
    let mut source = packed;
    let mut out = Vec::new();
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(WINDOW);
    while !source.is_empty() {
        match decoder.init(&mut source) {
            Ok(()) => {}
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                let length = usize::try_from(length).map_err(|_| UnpackError::Damaged)?;
                source = source.get(length..).ok_or(UnpackError::Damaged)?;
                continue;
            }
            Err(_) => return Err(UnpackError::Damaged),
        }
        loop {
            decoder.decode_blocks(&mut source, UptoBytes(STEP)).map_err(|_| UnpackError::Damaged)?;
            let room = limit.saturating_sub(out.len()).saturating_add(1);
            (&mut decoder).take(room as u64).read_to_end(&mut out).map_err(damaged)?;
            if out.len() > limit {
                return Err(UnpackError::TooLarge);
            }
            if decoder.is_finished() && decoder.can_collect() == 0 {
                break;
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_they_like_best() {
        let cases = [
            ("", None),
            ("gzip", Some(Coding::Gzip)),
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip;q=0.5, deflate;q=0.9", Some(Coding::Deflate)),
            ("GZIP ; q=1.0", Some(Coding::Gzip)),
            ("*", Some(Coding::Zstd)),
            ("*;q=0, gzip", Some(Coding::Gzip)),
            ("zstd;q=0, *", Some(Coding::Gzip)),
            ("identity", None),
            ("identity, gzip;q=0.5", None),
            ("gzip;q=x", None),
            ("br", None),
            (",;q=,;;", None),
        ];
        for (accept, expected) in cases {
            assert_eq!(negotiate(accept.split(',')), expected, "{accept}");
        }
    }

    #[test]
    fn zstd_comes_back_and_is_bounded() {
        let text = "a line of text, and another one; ".repeat(20_000);
        let packed = pack(Coding::Zstd, text.as_bytes()).unwrap();
        assert!(packed.len() < text.len() / 10);
        assert_eq!(unpack(Coding::Zstd, &packed, text.len()).unwrap(), text.as_bytes());
        assert_eq!(unpack(Coding::Zstd, &packed, text.len() - 1), Err(UnpackError::TooLarge));
        // Frames may follow each other, and some are to be skipped.
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let twice = [&skipped[..], &packed, &packed].concat();
        assert_eq!(unpack(Coding::Zstd, &twice, 2 * text.len()).unwrap().len(), 2 * text.len());
        assert_eq!(unpack(Coding::Zstd, b"", 9).unwrap(), b"");
        for broken in [&packed[..packed.len() / 2], &packed[1..], b"not packed", &skipped[..9]] {
            assert_eq!(unpack(Coding::Zstd, broken, 1 << 20), Err(UnpackError::Damaged));
        }
    }

    #[test]
    fn gzip_and_deflate_come_back_and_are_bounded() {
        let text = "a line of text, and another one; ".repeat(20_000);
        for coding in [Coding::Gzip, Coding::Deflate] {
            let packed = pack(coding, text.as_bytes()).unwrap();
            assert_eq!(unpack(coding, &packed, text.len()).unwrap(), text.as_bytes());
            assert_eq!(unpack(coding, &packed, text.len() - 1), Err(UnpackError::TooLarge));
            assert_eq!(unpack(coding, b"", 9).unwrap(), b"");
            let longer = [&packed[..], b"and more"].concat();
            for broken in
                [&packed[..packed.len() / 2], &packed[..packed.len() - 1], &packed[1..], b"x", &longer]
            {
                assert_eq!(unpack(coding, broken, 1 << 20), Err(UnpackError::Damaged), "{coding:?}");
            }
            // Of a hundred megabytes no more is made than is allowed, and something of a vector's growth.
            let bomb = pack(coding, &vec![0; 100 << 20]).unwrap();
            assert_eq!(unpack(coding, &bomb, 1000), Err(UnpackError::TooLarge));
        }
        // Members of gzip may follow each other.
        let packed = pack(Coding::Gzip, b"one").unwrap();
        assert_eq!(unpack(Coding::Gzip, &[&packed[..], &packed].concat(), 9).unwrap(), b"oneone");
    }
}
