//! The program `load` from outside.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use load::http::Connection;
use load::requests::post;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_load"))
}

#[test]
fn the_bare_server_gives_back_what_it_is_sent() {
    let mut child = program().args(["echo", "--threads", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address: SocketAddr =
        told["listening"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    let mut connection = Connection::new(address);
    for body in [&b"once"[..], b"", b"and again"] {
        let answer = connection.ask(&post("/", "", body)).unwrap();
        assert_eq!((answer.status, answer.body), (200, body));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn flags_that_cannot_be_are_refused_by_name() {
    let cases = [
        (&["--batch", "0"][..], "--batch"),
        (&["--connections", "5000"], "--connections"),
        (&["--form", "xml"], "--form"),
        (&["--peer", "triton"], "--peer"),
        (&["--python", "python3", "--venv", "peers"], "--venv"),
    ];
    for (flags, named) in cases {
        let output = program().arg("serve").args(flags).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
        assert!(said.contains(named) && output.stdout.is_empty(), "{flags:?}: {said}");
    }
}
