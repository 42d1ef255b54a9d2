//! The server as a process, and clients that do not behave: who send slowly, take nothing, go away, hold connections,
//! or send what is no HTTP. Afterwards it is alive and has not grown.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread::scope;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::h2;
use crate::life::Server;
use crate::registry::{Models, prices};

/// A server of `prices` with these limits.
fn server(models: &Models, limits: &str) -> Server {
    models.publish("prices", &prices(), 1);
    Server::start(models, limits)
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// The status and the body of the next answer; nothing when the connection has ended.
    fn answer(&mut self) -> Option<(u16, String)> {
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            status = status.or_else(|| line.split(' ').nth(1).and_then(|status| status.parse().ok()));
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some((status?, String::from_utf8_lossy(&body).into_owned()))
    }

    /// How long it takes until the server ends the connection; what it sends before is passed over.
    fn ended(&mut self) -> Duration {
        let began = Instant::now();
        let mut rest = [0; 4096];
        while self.stream.read(&mut rest).is_ok_and(|count| count > 0) {}
        assert!(began.elapsed() < Duration::from_secs(55), "the connection was not ended");
        began.elapsed()
    }
}

const PREDICT: &str = "POST /models/prices/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
const BODY: &str = "{\"input\":[1,2,3]}";

fn predict() -> String {
    format!("{PREDICT}Content-Length: {}\r\n\r\n{BODY}", BODY.len())
}

fn alive(server: &Server) {
    assert_eq!(server.ask("/v2/health/live", None).0, 200);
    assert!(h2::is_serving(&server.grpc));
    assert_eq!(server.ask("/models/prices/predict", Some(&json!({ "input": [1, 2, 3] }))).0, 200);
}

#[test]
fn who_sends_slowly_is_not_waited_for() {
    let models = Models::new();
    let limits = "[limits]\nheader_timeout_s = 1\nkeep_alive_s = 1\nbody_timeout_s = 2\n";
    let server = server(&models, limits);
    let (address, grpc) = (server.address.as_str(), server.grpc.as_str());
    scope(|scope| {
        scope.spawn(|| {
            let mut head = Client::new(address);
            head.send("GET /v2/health/live HTTP/1.1\r\nHos").unwrap();
            assert_eq!(head.answer().map(|(status, _)| status), Some(408));
            head.ended();
        });
        scope.spawn(|| {
            // One byte after the other does not help.
            let mut drops = Client::new(address);
            let began = Instant::now();
            while drops.send("G").is_ok() {
                assert!(began.elapsed() < Duration::from_secs(50), "it is still listened to");
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        scope.spawn(|| {
            let mut second = Client::new(address);
            second.send(predict()).unwrap();
            assert_eq!(second.answer().unwrap().0, 200);
            second.send("GET /v2/hea").unwrap();
            second.ended();
        });
        scope.spawn(|| {
            let mut idle = Client::new(address);
            idle.send(predict()).unwrap();
            assert_eq!(idle.answer().unwrap().0, 200);
            idle.ended();
        });
        scope.spawn(|| {
            let mut body = Client::new(address);
            body.send(format!("{PREDICT}Content-Length: 100\r\n\r\n{{\"inp")).unwrap();
            let (status, text) = body.answer().unwrap();
            assert_eq!(status, 408, "{text}");
            assert!(text.contains("within 2 s"), "{text}");
            body.ended();
        });
        scope.spawn(|| {
            let mut silent = Client::new(grpc);
            silent.ended();
            let mut half = Client::new(grpc);
            half.send(&h2::HELLO[..20]).unwrap();
            half.ended();
        });
        scope.spawn(|| {
            // The head of a call, and never its message: the call fails, the connection may stay.
            let mut call = Client::new(grpc);
            let path = "/inference.GRPCInferenceService/ModelInfer";
            call.send([h2::HELLO, &h2::head(path, 1, &[])].concat()).unwrap();
            let began = Instant::now();
            let mut seen: Vec<u8> = Vec::new();
            // The last frame of the answer: HEADERS with the end of stream 1.
            while !seen.windows(6).any(|bytes| bytes == [1, 5, 0, 0, 0, 1]) {
                let mut bytes = [0; 256];
                let count = call.stream.read(&mut bytes).unwrap();
                assert!(count > 0 && began.elapsed() < Duration::from_secs(50), "{seen:?}");
                seen.extend(&bytes[..count]);
            }
        });
    });
    alive(&server);
}

#[test]
fn a_body_that_trickles_is_refused_by_its_rate() {
    let models = Models::new();
    let server = server(&models, "[limits]\nmin_body_bytes_per_s = 1000\nbody_timeout_s = 50\n");
    let mut client = Client::new(&server.address);
    client.send(format!("{PREDICT}Content-Length: 100000\r\n\r\n")).unwrap();
    let mut feed = client.stream.get_ref().try_clone().unwrap();
    let feeding = std::thread::spawn(move || {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(50) && feed.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
        began.elapsed()
    });
    let (status, text) = client.answer().unwrap();
    assert_eq!(status, 408, "{text}");
    assert!(text.contains("more slowly than 1000 bytes a second, after 5 s"), "{text}");
    drop(client);
    assert!(feeding.join().unwrap() < Duration::from_secs(45));
    alive(&server);
}

/// A client that asks and asks and takes nothing holds neither memory nor its connection.
#[test]
fn who_takes_nothing_is_ended_and_costs_little() {
    let models = Models::new();
    let limits = "[limits]\nwrite_timeout_s = 1\nkeep_alive_s = 1\nheader_timeout_s = 1\nmax_rows = 20000\n";
    let server = server(&models, limits);
    let rows = vec!["[1,2,3]"; 20_000].join(",");
    let long = format!("{{\"inputs\":[{rows}]}}");
    let long = format!("{PREDICT}Content-Length: {}\r\n\r\n{long}", long.len());
    let mut first = Client::new(&server.address);
    first.send(&long).unwrap();
    let (status, whole) = first.answer().unwrap();
    assert_eq!(status, 200);
    assert!(whole.len() > 4 * serve::connections::PART, "{}", whole.len());
    let before = server.resident();
    let clients: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = Client::new(&server.address);
            let mut feed = client.stream.get_ref().try_clone().unwrap();
            let long = long.clone();
            std::thread::spawn(move || while feed.write_all(long.as_bytes()).is_ok() {});
            client.stream.get_mut().set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            client
        })
        .collect();
    let began = Instant::now();
    let mut most = 0;
    while began.elapsed() < Duration::from_secs(5) {
        most = most.max(server.resident());
        std::thread::sleep(Duration::from_millis(100));
    }
    for mut client in clients {
        client.ended();
    }
    assert!(most < before + (128 << 20), "{} MB more", (most - before) >> 20);
    // Slow is well, as long as it goes on: each part within its second.
    let mut slow = Client::new(&server.address);
    slow.send(&long).unwrap();
    let mut taken: Vec<u8> = Vec::new();
    while taken.len() < whole.len() {
        let mut part = vec![0; 256 << 10];
        let count = slow.stream.get_mut().read(&mut part).unwrap();
        assert!(count > 0, "ended after {} bytes", taken.len());
        taken.extend(&part[..count]);
        std::thread::sleep(Duration::from_millis(50));
    }
    alive(&server);
}

#[test]
fn there_are_so_many_connections_at_a_time() {
    let models = Models::new();
    let server = server(&models, "threads = 2\n[limits]\nmax_connections = 2\n");
    let half = || {
        let mut client = Client::new(&server.address);
        client.send("GET /v2/health/live HTTP/1.1\r\n").unwrap();
        client
    };
    let (mut first, _second) = (half(), half());
    std::thread::sleep(Duration::from_millis(300));
    let mut third = Client::new(&server.address);
    third.send("GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    third.stream.get_mut().set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    assert_eq!(third.answer(), None, "it waits to be accepted");
    third.stream.get_mut().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    first.send("Host: x\r\n\r\n").unwrap();
    assert_eq!(first.answer().unwrap().0, 200);
    // Nearly all are in use, so the server keeps none.
    first.ended();
    assert_eq!(third.answer().unwrap().0, 200);
    drop((first, _second, third));
    alive(&server);

    let mut calls: Vec<Client> = (0..2).map(|_| Client::new(&server.grpc)).collect();
    for call in &mut calls {
        call.send(h2::HELLO).unwrap();
        assert!(call.stream.fill_buf().is_ok_and(|bytes| !bytes.is_empty()), "settings come back");
    }
    let mut waiting = Client::new(&server.grpc);
    waiting.send(h2::HELLO).unwrap();
    waiting.stream.get_mut().set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    assert!(waiting.stream.fill_buf().is_err());
    drop(calls);
    waiting.stream.get_mut().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert!(waiting.stream.fill_buf().is_ok_and(|bytes| !bytes.is_empty()));
    drop(waiting);
    alive(&server);
}

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
    let with = |headers: &str| format!("GET /v2/health/live HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
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
        "GET /v2/health/live HTTP/9.9\r\nHost: x\r\n\r\n".to_owned(),
        "G\0T / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
    ] {
        assert_eq!(status(&wrong), 400, "{wrong:?}");
        assert_eq!(server.ask("/v2/health/live", None).0, 200, "after {wrong:?}");
    }
    // More than the library's own 2 MiB for JSON, and less than ours.
    let padded = format!("{}{BODY}", " ".repeat(3 << 20));
    assert_eq!(status(&format!("{PREDICT}Content-Length: {}\r\n\r\n{padded}", padded.len())), 200);
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
    for junk in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 100], &[h2::HELLO, &[0xff; 100]].concat()] {
        let mut client = Client::new(&server.grpc);
        client.send(junk).unwrap();
        client.ended();
    }
    alive(&server);
}

/// Whose client goes away before it is computed costs nothing, whether it goes with a FIN or a RST; where half of a
/// connection may be closed, a FIN is no leaving.
#[test]
fn who_has_gone_is_not_computed() {
    let count = |server: &Server| {
        let (_, stats) = server.ask("/v2/models/prices/stats", None);
        stats["model_stats"][0]["inference_count"].as_u64().unwrap()
    };
    for allowed in [false, true] {
        let models = Models::new();
        // A second passes before a worker takes a request.
        let config =
            format!("[scheduler]\nmax_delay_us = 1000000\n[limits]\nallow_half_closed = {allowed}\n");
        let server = server(&models, &config);
        let before = count(&server);
        let send = || {
            let mut client = Client::new(&server.address);
            client.send(predict()).unwrap();
            std::thread::sleep(Duration::from_millis(200));
            client
        };
        let mut half = send();
        half.stream.get_mut().shutdown(Shutdown::Write).unwrap();
        let answered = half.answer().map(|(status, _)| status);
        if allowed {
            assert_eq!((answered, count(&server)), (Some(200), before + 1));
        } else {
            // The next one is computed, and was not kept waiting by the one before.
            assert_eq!(answered, None);
            std::thread::sleep(Duration::from_millis(1500));
            assert_eq!(count(&server), before);
        }
        let before = count(&server);
        // An answer that is not read makes the system end the connection with a RST.
        let mut reset = Client::new(&server.address);
        reset.send("GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        reset.send(predict()).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        drop(reset);
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(count(&server), before, "allow_half_closed = {allowed}");
        alive(&server);
    }
}

/// A connection that is kept goes on working until the server stops listening, and does not keep it from ending.
#[test]
fn a_kept_connection_works_while_draining_and_delays_nothing() {
    let models = Models::new();
    let mut server = server(&models, "[drain]\ndelay_ms = 1500\ntimeout_s = 30\n");
    let mut kept = Client::new(&server.address);
    kept.send(predict()).unwrap();
    assert_eq!(kept.answer().unwrap().0, 200);
    let mut calls = Client::new(&server.grpc);
    calls.send(h2::HELLO).unwrap();
    server.signal("-TERM");
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    kept.send("GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(kept.answer().unwrap().0, 503, "it is not ready any more");
    kept.send(predict()).unwrap();
    assert_eq!(kept.answer().unwrap().0, 200, "and still answers");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(20), "idle connections are not waited for");
    kept.ended();
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
                        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
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
