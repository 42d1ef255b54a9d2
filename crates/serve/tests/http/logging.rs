//! The log of the server as a process: what is in it, what never is, and what changes it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::access::write_keys;
use crate::registry::{Models, prices};

/// A running server, with what it says on standard error.
struct Server {
    child: Child,
    told: Value,
    log: Receiver<String>,
}

impl Server {
    fn start(models: &Models, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_serve"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("BRAZIER_SERVE_") || name.starts_with("OTEL_") {
                command.env_remove(&*name);
            }
        }
        command.current_dir(models.path()).env_remove("RUST_LOG").env("NO_COLOR", "1");
        command.args(["--port", "0", "--grpc-port", "0", "--models", ".", "--json"]).args(arguments);
        command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Self { child, told, log }
    }

    fn address(&self, key: &str) -> &str {
        let text = self.told[key].as_str().unwrap_or_else(|| panic!("{}", self.told));
        text.trim_start_matches("http://")
    }

    /// One request on a connection of its own; the whole answer.
    fn ask(&self, to: &str, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.address(to)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let length = body.len();
        write!(
            stream,
            "{head}\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// What was logged until a line that fits; that line is the last.
    fn until(&self, fits: impl Fn(&str) -> bool) -> Vec<String> {
        let (began, mut lines) = (Instant::now(), Vec::new());
        while began.elapsed() < Duration::from_secs(60) {
            let Ok(line) = self.log.recv_timeout(Duration::from_secs(60)) else { break };
            lines.push(line);
            if lines.last().is_some_and(|line| fits(line)) {
                return lines;
            }
        }
        panic!("no such line in {lines:#?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const INFER: &str = "POST /v2/models/prices/infer HTTP/1.1";

fn secret() -> String {
    let input = json!({ "name": "input", "shape": [1, 3], "datatype": "FP32", "data": [1234.5, 2, 3] });
    json!({ "inputs": [input] }).to_string()
}

#[test]
fn each_request_is_a_line_of_json_without_what_was_sent() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let folder = tempfile::tempdir().unwrap();
    let (keys, config) = (folder.path().join("keys.toml"), folder.path().join("serve.toml"));
    write_keys(&keys, &[("brz_ops", "scopes = [\"admin\"]")]);
    std::fs::write(&config, format!("[access]\nkeys = {keys:?}\nanonymous = [\"read\", \"infer\"]\n"))
        .unwrap();
    let config = config.to_str().unwrap();
    let arguments = ["--log-format", "json", "--access-log", "--metrics-port", "0", "--config", config];
    let server = Server::start(&models, &arguments, &[]);
    let answer = server.ask("listening", &format!("{INFER}\r\nX-Request-Id: order-7"), &secret());
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-request-id: order-7\r\n"), "{answer}");
    server.ask("listening", "GET /v2/models/a%0aERROR%20forged/ready HTTP/1.1", "");
    server.ask("listening", "GET /models HTTP/1.1\r\nX-API-Key: brz_ops", "");
    server.ask("listening", "POST /v2/logging HTTP/1.1", "{}");
    server.ask("listening", "GET /last HTTP/1.1\r\nX-Request-Id: last", "");
    let lines = server.until(|line| line.contains("\"last\""));
    let read =
        |line: &String| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let events: Vec<Value> = lines.iter().map(read).collect();
    let of: Vec<&Value> = events.iter().filter(|event| event["target"] == "serve::access").collect();
    assert_eq!(of.len(), 5, "{lines:#?}");
    let infer = of[0];
    for (key, value) in [
        ("protocol", json!("http")),
        ("method", json!("POST")),
        ("route", json!("/v2/models/{name}/infer")),
        ("status", json!(200)),
        ("model", json!("prices")),
        ("version", json!(1)),
        ("rows", json!(1)),
        ("level", json!("INFO")),
    ] {
        assert_eq!(infer[key], value, "{key} of {infer}");
    }
    assert_eq!(infer["span"]["request_id"], "order-7");
    assert!(infer["duration_us"].as_u64().unwrap() > 0 && infer["bytes"].as_u64().unwrap() > 10);
    assert_eq!((&of[1]["status"], &of[1]["route"]), (&json!(404), &json!("/v2/models/{name}/ready")));
    assert_eq!((&of[2]["status"], &of[2]["principal"]), (&json!(200), &json!("ops")));
    assert_eq!(
        (&of[3]["status"], &of[3]["route"]),
        (&json!(401), &json!("/v2/logging")),
        "refused, and known"
    );
    assert_eq!((&of[4]["status"], &of[4]["route"]), (&json!(404), &Value::Null));
    for other in [0, 1, 3, 4] {
        assert_eq!(of[other]["principal"], Value::Null, "nobody is not named");
    }
    assert!(lines.iter().all(|line| !line.contains("brz_ops")), "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains("1234.5")), "{lines:#?}");

    // The port of the metrics has them, and nothing else.
    let metrics = server.ask("metrics", "GET /metrics HTTP/1.1", "");
    assert!(
        metrics.contains("nv_inference_request_success{model=\"prices\",version=\"1\"} 1\n"),
        "{metrics}"
    );
    let held = TcpStream::connect(server.address("listening")).unwrap();
    let began = Instant::now();
    while !server.ask("metrics", "GET /metrics HTTP/1.1", "").contains("\nbrazier_http_connections 1\n") {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "those that have ended are not counted, this one is"
        );
    }
    drop(held);
    for head in [INFER, "GET /models HTTP/1.1", "POST /metrics HTTP/1.1"] {
        let refused = server.ask("metrics", head, "");
        assert!(refused.starts_with("HTTP/1.1 40"), "{refused}");
    }
    // The filter changes while the server runs.
    let change = |settings: &str| {
        let head = "POST /v2/logging HTTP/1.1\r\nAuthorization: Bearer brz_ops\r\nX-Request-Id: change";
        let answer = server.ask("listening", head, settings);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    change("{\"log_info\": false}");
    server.ask("listening", "GET /models HTTP/1.1\r\nX-Request-Id: unseen", "");
    change("{\"log_info\": true}");
    server.ask("listening", "GET /models HTTP/1.1\r\nX-Request-Id: seen", "");
    let lines = server.until(|line| line.contains("\"seen\""));
    assert!(lines.iter().all(|line| !line.contains("unseen")), "{lines:#?}");
}

#[test]
fn payloads_are_logged_where_that_is_asked_for_and_cannot_forge_a_line() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let variables = [
        ("BRAZIER_SERVE_LOG__PAYLOADS", "true"),
        ("BRAZIER_SERVE_LOG__PAYLOAD_BYTES", "40"),
        ("BRAZIER_SERVE_LOG__ACCESS", "info"),
    ];
    let server = Server::start(&models, &[], &variables);
    let body = "\n1999-01-01T00:00:00Z ERROR forged\u{1b}[31m: everything is lost, and this goes on and on";
    server.ask("listening", INFER, body);
    server.ask("listening", "GET /last HTTP/1.1\r\nX-Request-Id: last", "");
    let lines = server.until(|line| line.contains("request_id=last") && line.contains("protocol="));
    assert!(lines.iter().all(|line| !line.starts_with("1999")), "{lines:#?}");
    let payload = lines.iter().find(|line| line.contains("direction=")).unwrap();
    assert!(payload.contains("forged") && !payload.contains("goes on"), "{payload}");
    assert!(payload.contains("bytes=") && !payload.contains('\u{1b}'), "{payload}");
    assert!(payload.contains("request_id="), "{payload}");
}

#[test]
fn settings_of_a_model_that_is_not_there_are_told() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let config = models.path().with_extension("absent.toml");
    let ensemble = "[model.both.ensemble]\nkind = \"mean\"\nmembers = [\"prices\"]\n";
    std::fs::write(&config, format!("[model.prices]\n[model.typo]\nversions = \"all\"\n{ensemble}")).unwrap();
    let server = Server::start(&models, &["--config", config.to_str().unwrap()], &[]);
    let absent = |line: &str| line.contains("a model that is not there");
    let lines = server.until(absent);
    assert!(lines.last().unwrap().contains("model=\"typo\""), "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| absent(line)).count(), 1, "{lines:#?}");
    std::fs::remove_file(config).unwrap();
}

#[test]
fn traces_go_where_the_variables_of_opentelemetry_say() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let collector = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cr3t"),
    ];
    let server = Server::start(&models, &["--access-log", "-vv"], &variables);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let head = format!("{INFER}\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01");
    assert!(server.ask("listening", &head, &secret()).starts_with("HTTP/1.1 200"));
    let (mut stream, _) = collector.accept().unwrap();
    let mut head = [0; 17];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head[..], b"POST /v1/traces H");
    let lines = server.until(|line| line.contains(&format!("trace_id={trace}")));
    assert!(lines.iter().any(|line| line.contains("trace.headers")), "the settings are told: {lines:#?}");
    assert!(lines.iter().all(|line| !line.contains("s3cr3t")), "{lines:#?}");
}

/// Who blocks the places of connections blocks no scrape.
#[test]
fn the_port_of_the_metrics_is_not_held_by_who_sends_slowly() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let variables =
        [("BRAZIER_SERVE_LIMITS__HEADER_TIMEOUT_S", "1"), ("BRAZIER_SERVE_LIMITS__KEEP_ALIVE_S", "1")];
    let server = Server::start(&models, &["--metrics-port", "0"], &variables);
    let held: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address("metrics")).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            stream.write_all(b"GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
            // The beginning of its answer has come.
            stream.read_exact(&mut [0; 12]).unwrap();
            // It may have been ended already, which is what is wanted.
            let _ = stream.write_all(b"G");
            stream
        })
        .collect();
    let metrics = server.ask("metrics", "GET /metrics HTTP/1.1", "");
    assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("brazier_ready 1"), "{metrics}");
    drop(held);
}

#[test]
fn settings_that_cannot_be_written_down_stay_and_keys_are_read_all_the_same() {
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let folder = tempfile::tempdir().unwrap();
    let [keys, config, audit] =
        ["keys.toml", "serve.toml", "audit.jsonl"].map(|name| folder.path().join(name));
    write_keys(&keys, &[("brz_ops", "scopes = [\"admin\"]")]);
    let configure = |more: &str| {
        let text = format!("[access]\nkeys = {keys:?}\naudit = {audit:?}\npoll_s = 0\n{more}");
        std::fs::write(&config, text).unwrap();
    };
    configure("");
    let server = Server::start(&models, &["--config", config.to_str().unwrap()], &[]);
    let hangup = || {
        let id = server.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
        server.until(|line| line.contains("keys and certificates have been read again"))
    };
    let taken =
        |lines: &[String]| lines.iter().any(|line| line.contains("settings of models have been read"));
    assert!(taken(&hangup()));
    let began = Instant::now();
    while !std::fs::read_to_string(&audit).unwrap().contains("\"done\"") {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "what came of it is written after the word in the log"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::remove_file(&audit).unwrap();
    std::os::unix::fs::symlink("/dev/full", &audit).unwrap();
    write_keys(&keys, &[("brz_new", "scopes = [\"admin\"]")]);
    configure("[model.prices]\nversions = \"1\"\n");
    let lines = hangup();
    assert!(
        !taken(&lines) && lines.iter().any(|line| line.contains("the settings of models and traffic stay"))
    );
    for (key, status) in [("brz_ops", "401"), ("brz_new", "200")] {
        let answer = server.ask("listening", &format!("GET /models HTTP/1.1\r\nX-API-Key: {key}"), "");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{key}: {answer}");
    }
}
