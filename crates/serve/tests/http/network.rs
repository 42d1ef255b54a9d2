//! The server as a process, and clients that do not behave: who send slowly, take nothing, go away, or hold connections.
//! Afterwards it is alive and has not grown.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread::scope;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::h2;
use crate::life::Server;
use crate::registry::{Models, prices};

/// A server of `prices` with these limits.
pub(crate) fn server(models: &Models, limits: &str) -> Server {
    models.publish("prices", &prices(), 1);
    Server::start(models, limits)
}

pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// The status and the body of the next answer; nothing when the connection has ended.
    pub(crate) fn answer(&mut self) -> Option<(u16, String)> {
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
    pub(crate) fn ended(&mut self) -> Duration {
        let began = Instant::now();
        let mut rest = [0; 4096];
        while self.stream.read(&mut rest).is_ok_and(|count| count > 0) {}
        assert!(began.elapsed() < Duration::from_secs(55), "the connection was not ended");
        began.elapsed()
    }
}

pub(crate) const PREDICT: &str =
    "POST /models/prices/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n";
pub(crate) const BODY: &str = "{\"input\":[1,2,3]}";

pub(crate) fn predict() -> String {
    format!("{PREDICT}Content-Length: {}\r\n\r\n{BODY}", BODY.len())
}

pub(crate) fn alive(server: &Server) {
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
            h2_ended(&mut call);
        });
    });
    alive(&server);
}

/// Waits until an answer has the status.
fn until(server: &Server, padding: usize, wanted: u16) {
    let body = format!("{}{BODY}", " ".repeat(padding));
    let request = format!("{PREDICT}Content-Length: {}\r\n\r\n{body}", body.len());
    let began = Instant::now();
    loop {
        let mut client = Client::new(&server.address);
        client.send(&request).unwrap();
        let answer = client.answer().unwrap();
        if answer.0 == wanted {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(50), "{answer:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A stream may last, but not with a message that was begun and does not go on, and it counts as long as it is there.
#[test]
fn half_a_message_of_a_stream_counts_and_is_not_waited_for() {
    let models = Models::new();
    let limits = "[limits]\nbody_timeout_s = 10\nmax_body_bytes = 65536\nmax_bytes_in_flight = 65536\n";
    let server = server(&models, limits);
    let path = "/inference.GRPCInferenceService/ModelStreamInfer";
    let mut idle = Client::new(&server.grpc);
    idle.send([h2::HELLO, &h2::head(path, 1, &[])].concat()).unwrap();
    let message = h2::message(false, &vec![0; 60_000]);
    let mut half = Client::new(&server.grpc);
    half.send([h2::HELLO, &h2::head(path, 1, &[])].concat()).unwrap();
    for part in message[..50_000].chunks(10_000) {
        half.send(h2::frame(0, 0, 1, part)).unwrap();
    }
    // Of two that come at once, either may find no room: this one must be there before the other.
    std::thread::sleep(Duration::from_secs(1));
    // There is no room for another body; then the time of the message is up.
    until(&server, 30_000, 503);
    h2_ended(&mut half);
    until(&server, 30_000, 200);
    // Between messages there is no time, and a whole one is answered: here with what is wrong with it.
    idle.send(h2::frame(0, 0, 1, &h2::message(false, &[10, 6, b'n', b'o', b'b', b'o', b'd', b'y']))).unwrap();
    let mut seen = Vec::new();
    while !seen.windows(8).any(|bytes| bytes == b"no model") {
        let mut bytes = [0; 1024];
        let count = idle.stream.read(&mut bytes).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend(&bytes[..count]);
    }
    drop((half, idle));
    alive(&server);
}

/// Reads until stream 1 has ended with trailers.
fn h2_ended(call: &mut Client) {
    let mut seen: Vec<u8> = Vec::new();
    // HEADERS with the end of stream 1.
    while !seen.windows(6).any(|bytes| bytes == [1, 5, 0, 0, 0, 1]) {
        let mut bytes = [0; 256];
        let count = call.stream.read(&mut bytes).unwrap();
        assert!(count > 0, "{seen:?}");
        seen.extend(&bytes[..count]);
    }
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
    third.send("GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    third.stream.get_mut().set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    assert_eq!(third.answer(), None, "it waits to be accepted");
    third.stream.get_mut().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    first.send("Host: 127.0.0.1\r\n\r\n").unwrap();
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
        reset.send("GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        reset.send(predict()).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        drop(reset);
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(count(&server), before, "allow_half_closed = {allowed}");
        alive(&server);
    }
}

/// The program tells the check that it listens on loopback: without keys no page may make its own name mean this machine.
#[test]
fn a_name_that_is_not_ours_is_refused() {
    let models = Models::new();
    let server = server(&models, "");
    for (host, status) in [("evil.example", 403), ("localhost", 200)] {
        let mut client = Client::new(&server.address);
        client.send(format!("GET /models HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
        assert_eq!(client.answer().unwrap().0, status, "{host}");
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
    // Streams that stay open without anything under way: of requests, of reflection, of a watcher.
    let open = [
        ("/inference.GRPCInferenceService/ModelStreamInfer", 0, vec![]),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", 0, vec![]),
        ("/grpc.health.v1.Health/Watch", 1, h2::message(false, &[])),
    ];
    for (stream, (path, flags, bytes)) in (1..).step_by(2).zip(open) {
        calls.send([h2::head(path, stream, &[]), h2::frame(0, flags, stream, &bytes)].concat()).unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    server.signal("-TERM");
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    kept.send("GET /v2/health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    assert_eq!(kept.answer().unwrap().0, 503, "it is not ready any more");
    kept.send(predict()).unwrap();
    assert_eq!(kept.answer().unwrap().0, 200, "and still answers");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(20), "idle connections are not waited for");
    kept.ended();
}

#[test]
fn who_asks_when_memory_is_short_is_told_so() {
    let models = Models::new();
    // Less than the program has when it does nothing.
    let server = server(&models, "[limits]\nmax_memory_mb = 1\n");
    until(&server, 0, 503);
    let mut client = Client::new(&server.address);
    client.send(predict()).unwrap();
    let (status, text) = client.answer().unwrap();
    assert!(status == 503 && text.contains("short of memory"), "{text}");
    client.ended();
    // Whether it lives is still told, and the connection is not kept.
    let mut client = Client::new(&server.address);
    client.send("GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    assert_eq!(client.answer().unwrap().0, 200);
    client.ended();
}
