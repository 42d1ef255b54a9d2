//! One connection to an HTTP server, with as little work for each request as there can be.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The most bytes of an answer.
const LIMIT: usize = 64 << 20;
/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// A connection that is kept from request to request.
#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// An answer; the body lies in the connection's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
}

impl Connection {
    /// A connection that is made with the first request.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: Vec::new() }
    }

    /// Sends a request, head and body, and reads the answer.
    ///
    /// # Errors
    /// When the server cannot be reached, is silent for a minute, or answers what is no HTTP/1.1 with a length. The
    /// next request then makes a new connection.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => open(self.address)?,
        };
        let Head { status, body, close } = exchange(&stream, request, &mut self.buffer)?;
        if !close {
            self.stream = Some(stream);
        }
        Ok(Answer { status, body: self.buffer.get(body..).unwrap_or_default() })
    }
}

pub(crate) fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    Ok(stream)
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Where the body begins.
    pub(crate) body: usize,
    close: bool,
}

impl Head {
    /// Whether the server ends the connection with this answer.
    pub(crate) fn is_last(&self) -> bool {
        self.close
    }
}

fn exchange(mut stream: &TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> io::Result<Head> {
    stream.write_all(request)?;
    let mut answer = Incoming::new(buffer);
    loop {
        if let Some(head) = answer.read(stream, buffer)? {
            return Ok(head);
        }
    }
}

/// An answer that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    found: Option<(Head, usize)>,
}

impl Incoming {
    /// The next answer, which is read into `buffer`.
    pub(crate) fn new(buffer: &mut Vec<u8>) -> Self {
        buffer.clear();
        Self::default()
    }

    /// Reads a piece; the head, once all of the answer is there.
    pub(crate) fn read(&mut self, mut stream: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Head>> {
        let mut chunk = [0; 16 << 10];
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if buffer.len() > LIMIT {
            return Err(io::Error::other("the answer is too long"));
        }
        if self.found.is_none() {
            self.found = read_head(buffer)?;
        }
        Ok(self.found.filter(|(_, end)| buffer.len() >= *end).map(|(head, _)| head))
    }
}

/// The head of an answer and where its body ends, once all of the head is there.
fn read_head(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    const END: &[u8] = b"\r\n\r\n";
    let Some(end) = bytes.windows(END.len()).position(|window| window == END) else { return Ok(None) };
    let wrong = |what: &str| io::Error::other(format!("the answer has {what}"));
    let text =
        std::str::from_utf8(bytes.get(..end).unwrap_or_default()).map_err(|_| wrong("no readable head"))?;
    let mut lines = text.split("\r\n");
    let status =
        lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok());
    let status = status.ok_or_else(|| wrong("no status of HTTP/1.1"))?;
    let (mut length, mut close) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse::<usize>().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            close = value.eq_ignore_ascii_case("close");
        }
    }
    let body = end + END.len();
    let length = length.ok_or_else(|| wrong("no length"))?;
    Ok(Some((Head { status, body, close }, body.saturating_add(length))))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers each request with the next of these pieces, as they are.
    fn server(answers: &'static [&'static [&'static str]]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for pieces in answers {
                let mut request = [0; 1024];
                if stream.read(&mut request).unwrap() == 0 {
                    break;
                }
                for piece in *pieces {
                    stream.write_all(piece.as_bytes()).unwrap();
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        address
    }

    #[test]
    fn answers_may_come_in_pieces_and_one_after_the_other() {
        let address = server(&[
            &["HTTP/1.1 200 OK\r\ncontent-le", "ngth: 5\r\n\r\nhe", "llo"],
            &["HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"],
        ]);
        let mut connection = Connection::new(address);
        let answer = connection.ask(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.body), (200, &b"hello"[..]));
        let answer = connection.ask(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.body), (503, &b""[..]));
        assert!(connection.ask(b"GET / HTTP/1.1\r\n\r\n").is_err(), "the server has gone");
    }

    #[test]
    fn what_has_no_length_is_refused() {
        for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "SSH-2.0\r\n\r\n"] {
            assert!(read_head(head.as_bytes()).is_err(), "{head}");
        }
        assert!(read_head(b"HTTP/1.1 200 OK\r\n").unwrap().is_none());
    }
}
