//! A request to the server beside us. It is HTTP/1.0, which a server must answer without chunks and then
//! close; a client library would have to be compiled before the first command could say a word.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// The most bytes of an answer that are read.
const LIMIT_BYTES: u64 = 4 << 20;
/// How long the server may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Sends `GET path`, or `POST path` with a JSON body, to a port of this machine.
pub(super) fn request(port: u16, path: &str, json: Option<&str>) -> anyhow::Result<Answer> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).context("cannot connect")?;
    stream.set_read_timeout(Some(TIMEOUT)).context("cannot set a time limit")?;
    stream.set_write_timeout(Some(TIMEOUT)).context("cannot set a time limit")?;
    stream.write_all(head_and_body(port, path, json).as_bytes()).context("cannot send the request")?;
    let mut answer = Vec::new();
    stream.take(LIMIT_BYTES).read_to_end(&mut answer).context("cannot read the answer")?;
    parse(&String::from_utf8_lossy(&answer))
}

fn head_and_body(port: u16, path: &str, json: Option<&str>) -> String {
    let host = format!("Host: 127.0.0.1:{port}\r\nConnection: close\r\n");
    match json {
        None => format!("GET {path} HTTP/1.0\r\n{host}\r\n"),
        Some(json) => {
            let length = json.len();
            format!(
                "POST {path} HTTP/1.0\r\n{host}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
            )
        }
    }
}

fn parse(text: &str) -> anyhow::Result<Answer> {
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        bail!("the answer is not HTTP: {:?}", text.chars().take(80).collect::<String>());
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("the answer has no status: {head:?}"))?;
    Ok(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn requests_are_sent_and_answers_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let answer = request(port, "/predict", Some("[1]")).unwrap();
        assert_eq!(answer, Answer { status: 200, body: "{}".to_owned() });
        let sent = server.join().unwrap();
        assert_eq!(sent, head_and_body(port, "/predict", Some("[1]")));
        assert!(sent.starts_with("POST /predict HTTP/1.0\r\nHost: 127.0.0.1:"), "{sent}");
        assert!(sent.ends_with("Content-Length: 3\r\n\r\n[1]"), "{sent}");
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for text in ["", "hello", "HTTP/1.1\r\n\r\n", "HTTP/1.1 abc OK\r\n\r\nx"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
