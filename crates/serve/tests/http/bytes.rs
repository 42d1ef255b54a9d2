//! The server as a process, and bytes that are hardly requests: many chunks, long heads, claims that are not kept, and
//! damage. Afterwards the server is alive and has not grown.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::thread::scope;

use serve::compression::{Coding, pack};

use crate::binary::gzip;
use crate::h2;
use crate::network::{BODY, Client, PREDICT, alive, server};
use crate::registry::Models;

#[test]
fn bodies_in_many_chunks_are_bodies() {
    let models = Models::new();
    let server = server(&models, "");
    alive(&server);
    let before = server.resident();
    let send = |chunks: usize, extension: &str| {
        let mut client = Client::new(&server.address);
        client.send(format!("{PREDICT}Transfer-Encoding: chunked\r\n\r\n")).unwrap();
        let blank = format!("1{extension}\r\n \r\n");
        let mut feed = client.stream.get_ref().try_clone().unwrap();
        std::thread::spawn(move || {
            let many = blank.repeat(10_000);
            for _ in 0..chunks / 10_000 {
                if feed.write_all(many.as_bytes()).is_err() {
                    return;
                }
            }
            let rest = blank.repeat(chunks % 10_000);
            let end = format!("{rest}{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
            // A server that refuses reads no further.
            let _ = feed.write_all(end.as_bytes());
        });
        client.answer().unwrap()
    };
    for chunks in [65_536, 65_537, 1_000_000] {
        let (status, text) = send(chunks, "");
        assert_eq!(status, 200, "{chunks}: {text}");
    }
    let (status, text) = send(20_000, ";name=value");
    assert!(status == 200 || status == 400, "{text}");
    let after = server.resident();
    assert!(after < before + (64 << 20), "{} MB more", (after - before) >> 20);
    alive(&server);
}

#[test]
fn heads_are_bounded_and_bodies_have_the_servers_own_limits() {
    let models = Models::new();
    let server = server(&models, "");
    let status = |head: &str| {
        let mut client = Client::new(&server.address);
        // The server may have refused before it has all.
        let _ = client.send(head);
        client.answer().map_or(0, |(status, _)| status)
    };
    let with = |headers: &str| format!("GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n");
    let many = |count: usize| (0..count).map(|i| format!("x-{i}: y\r\n")).collect::<String>();
    assert_eq!(status(&with(&many(90))), 200);
    assert_eq!(status(&with(&many(200))), 431);
    assert_eq!(status(&with(&format!("x: {}\r\n", "y".repeat(32 << 10)))), 200);
    assert_eq!(status(&with(&format!("x: {}\r\n", "y".repeat(256 << 10)))), 431);
    for wrong in [
        with("Content-Length: 5\r\nContent-Length: 6\r\n"),
        with("Content-Length: -1\r\n"),
        with("Content-Length: 99999999999999999999999\r\n"),
        with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        with("Transfer-Encoding: gzip, identity\r\n"),
        with(" folded: x\r\n"),
        with("na me: x\r\n"),
        "GET /v2/health/live HTTP/1.1\r\n\r\n".to_owned(),
        "GET /v2/health/live HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n".to_owned(),
        "G\0T / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_owned(),
        "GET /a b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_owned(),
    ] {
        assert_eq!(status(&wrong), 400, "{wrong:?}");
        assert_eq!(server.ask("/v2/health/live", None).0, 200, "after {wrong:?}");
    }
    // More than the library's own 2 MiB for JSON, and less than ours.
    let padded = format!("{}{BODY}", " ".repeat(3 << 20));
    assert_eq!(status(&format!("{PREDICT}Content-Length: {}\r\n\r\n{padded}", padded.len())), 200);
    alive(&server);
}

/// What a small body would become is never in memory, not for a moment.
#[test]
fn packed_bodies_do_not_grow_beyond_their_limit() {
    let models = Models::new();
    let server = server(&models, "threads = 2\n");
    alive(&server);
    let before = server.peak();
    let zeros = vec![0; 100 << 20];
    for coding in Coding::ALL {
        let packed = match coding {
            Coding::Zstd => pack(coding, &zeros).unwrap(),
            Coding::Gzip => gzip(&zeros),
            Coding::Deflate => {
                let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
                zlib.write_all(&zeros).and_then(|()| zlib.finish()).unwrap()
            }
        };
        assert!(packed.len() < 128 << 10, "it fits into one read of the socket");
        let head = format!(
            "{PREDICT}Content-Encoding: {}\r\nContent-Length: {}\r\n\r\n",
            coding.name(),
            packed.len()
        );
        scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut client = Client::new(&server.address);
                    client.send([head.as_bytes(), &packed].concat()).unwrap();
                    assert_eq!(client.answer().map(|(status, _)| status), Some(413), "{coding:?}");
                });
            }
        });
    }
    // Of what may be 16 MiB each thread makes that and, while its memory grows, the double.
    let grown = server.peak() - before;
    assert!(grown < 192 << 20, "{} MB more", grown >> 20);
    alive(&server);
}

/// Two bytes are an empty input, for which a parser makes a hundred times as much.
#[test]
fn messages_of_grpc_do_not_become_more_than_they_may() {
    let models = Models::new();
    let server = server(&models, "");
    alive(&server);
    let before = server.peak();
    let message = h2::message(true, &gzip(&[0x2a, 0].repeat(8 << 20)));
    for method in ["ModelInfer", "ModelStreamInfer"] {
        let path = format!("/inference.GRPCInferenceService/{method}");
        let answer = h2::call(&server.grpc, &path, &[("grpc-encoding", "gzip")], &message).unwrap();
        assert!(answer.is_empty(), "{method}");
    }
    let grown = server.peak() - before;
    assert!(grown < 128 << 20, "{} MB more", grown >> 20);
    alive(&server);
}

#[test]
fn messages_of_grpc_are_bounded_packed_and_unpacked() {
    let models = Models::new();
    let server = server(&models, "[limits]\nmax_body_bytes = 65536\n");
    alive(&server);
    let before = server.resident();
    let path = "/inference.GRPCInferenceService/ModelMetadata";
    let request = [&[10, 6], &b"prices"[..]].concat();
    let ask = |more: &[(&str, &str)], body: &[u8]| h2::call(&server.grpc, path, more, body).unwrap();
    assert!(!ask(&[], &h2::message(false, &request)).is_empty());
    // One that claims to be longer than it may be, or than it is.
    assert!(ask(&[], &[0, 0xff, 0xff, 0xff, 0xff, 10, 6]).is_empty());
    assert!(ask(&[], &[0, 0, 1, 0, 1, 10, 6]).is_empty());
    assert!(ask(&[], &h2::message(false, &request)[..9]).is_empty());
    let packed = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(bytes).unwrap();
        h2::message(true, &gzip.finish().unwrap())
    };
    let gzip = [("grpc-encoding", "gzip")];
    assert!(!ask(&gzip, &packed(&request)).is_empty());
    // An unknown field of 32 MB, in as many KB.
    let bomb = [&[0xfa, 0x3f, 0x80, 0x80, 0x80, 0x10], &vec![0; 32 << 20][..], &request].concat();
    assert!(ask(&gzip, &packed(&bomb)).is_empty());
    for _ in 0..20 {
        ask(&gzip, &packed(&bomb));
    }
    let after = server.resident();
    assert!(after < before + (64 << 20), "{} MB more", (after - before) >> 20);
    // Whoever accepts packed answers gets them as they are.
    let accepts = [("grpc-accept-encoding", "identity, deflate, gzip")];
    assert_eq!(ask(&accepts, &h2::message(false, &request)), ask(&[], &h2::message(false, &request)));
    for junk in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 100], &[h2::HELLO, &[0xff; 100]].concat()] {
        let mut client = Client::new(&server.grpc);
        client.send(junk).unwrap();
        client.ended();
    }
    alive(&server);
}

/// Random damage to the bytes of requests, as the fuzzers of other servers do it.
#[test]
fn damaged_bytes_leave_the_server_alive() {
    let models = Models::new();
    let server = server(&models, "[limits]\nheader_timeout_s = 1\nbody_timeout_s = 1\nkeep_alive_s = 1\n");
    let paths = [
        "/",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/prices",
        "/v2/models/prices/ready",
        "/v2/models/prices/config",
        "/v2/models/prices/stats",
        "/v2/models/stats",
        "/v2/models/prices/infer",
        "/v2/models/prices/versions/1/infer",
        "/v2/repository/index",
        "/v2/repository/models/prices/load",
        "/v2/repository/models/prices/unload",
        "/v2/logging",
        "/v2/trace/setting",
        "/models/prices/predict",
        "/predict",
        "/invocations",
        "/openapi.json",
    ];
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"];
    let (address, next) = (server.address.as_str(), std::sync::atomic::AtomicUsize::new(0));
    scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let case = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let (Some(path), method) = (paths.get(case / methods.len() / 2), methods[case % methods.len()])
                    else {
                        return;
                    };
                    let good = format!(
                        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                         Inference-Header-Content-Length: 9\r\nAccept-Encoding: gzip\r\n\r\n{BODY}",
                        BODY.len()
                    );
                    let bad = crate::hostile::damaged(good.as_bytes(), case as u64 + 1);
                    let mut client = Client::new(address);
                    if client.send(bad).is_err() || client.stream.get_ref().shutdown(Shutdown::Write).is_err() {
                        continue;
                    }
                    let mut answer = Vec::new();
                    // The server may reset a connection whose bytes it does not want.
                    let _ = client.stream.read_to_end(&mut answer);
                    let answer = String::from_utf8_lossy(&answer);
                    assert!(!answer.starts_with("HTTP/1.1 500"), "{case}: {answer}");
                }
            });
        }
    });
    alive(&server);
}
