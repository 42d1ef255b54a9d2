//! As much of HTTP/2 as a call of gRPC needs, by hand, so that a test can also send what no client would.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// What a client sends first: the preface, and empty settings.
pub(crate) const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// The head of a call, in the plainest form that HPACK has.
pub(crate) fn head(path: &str, stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in usual.iter().chain(more) {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "longer texts have longer lengths");
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// A message as gRPC frames it.
pub(crate) fn message(packed: bool, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[u8::from(packed)], &length[..], bytes].concat()
}

/// One call on a connection of its own; the messages that came back, without their framing. None at all is a refusal.
pub(crate) fn call(
    address: &str,
    path: &str,
    more: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(HELLO)?;
    stream.write_all(&head(path, 1, more))?;
    let mut parts = body.chunks(16_384).peekable();
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_none() { END_STREAM } else { 0 };
        stream.write_all(&frame(DATA, flags, 1, part))?;
    }
    let mut messages = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        match (head[3], head[4]) {
            (SETTINGS, flags) if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            (DATA, flags) => {
                messages.extend(payload);
                if flags & END_STREAM != 0 {
                    break;
                }
            }
            (HEADERS, flags) if flags & END_STREAM != 0 => break,
            (RESET | GOAWAY, _) => break,
            _ => {}
        }
    }
    Ok(messages.get(5..).unwrap_or_default().to_vec())
}

/// Whether the server says by gRPC's health checking that it serves.
pub(crate) fn is_serving(address: &str) -> bool {
    let answer = call(address, "/grpc.health.v1.Health/Check", &[], &message(false, &[]));
    // The field `status`, 1: SERVING.
    answer.is_ok_and(|answer| answer == [8, 1])
}
