//! The server as a process: versions that come and go under load, its memory, and signals at bad moments.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::registry::{Models, prices, wide};

/// A running server; it is killed when the test ends.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: String,
    pub(crate) grpc: String,
}

impl Server {
    pub(crate) fn start(models: &Models, config: &str) -> Self {
        let file = models.path().with_extension("toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_serve"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BRAZIER_SERVE_") {
                command.env_remove(name);
            }
        }
        command
            .env_remove("RUST_LOG")
            .args(["--port", "0", "--grpc-port", "0", "--models"])
            .arg(models.path())
            .arg("--config")
            .arg(&file);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = address.unwrap_or_else(|| panic!("no address: {line}")).to_owned();
        let grpc = line.split("gRPC on ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let grpc = grpc.unwrap_or("").to_owned();
        Self { child, address, grpc }
    }

    fn configure(&self, models: &Models, config: &str) {
        std::fs::write(models.path().with_extension("toml"), config).unwrap();
        self.signal("-HUP");
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success()
        );
    }

    pub(crate) fn ask(&self, path: &str, body: Option<&Value>) -> (u16, Value) {
        ask(&self.address, path, body).unwrap()
    }

    /// The states of a model's versions.
    fn versions(&self, name: &str) -> String {
        let (_, view) = self.ask(&format!("/models/{name}"), None);
        let of = |entry: &Value| format!("{}:{}", entry["version"], entry["state"].as_str().unwrap_or(""));
        view["versions"].as_array().into_iter().flatten().map(of).collect::<Vec<_>>().join(" ")
    }

    fn until(&self, name: &str, wanted: &str) {
        let began = Instant::now();
        while self.versions(name) != wanted {
            assert!(
                began.elapsed() < Duration::from_secs(120),
                "{} instead of {wanted}",
                self.versions(name)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The most memory that was resident at any time, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Memory that is resident, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        text.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request on a connection of its own.
fn ask(address: &str, path: &str, body: Option<&Value>) -> std::io::Result<(u16, Value)> {
    ask_as(address, path, body, "")
}

/// The same with further headers.
fn ask_as(address: &str, path: &str, body: Option<&Value>, headers: &str) -> std::io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let body = body.map(ToString::to_string);
    let method = if body.is_some() { "POST" } else { "GET" };
    let body = body.unwrap_or_default();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         {headers}Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

const FAST: &str = "[repository]\npoll_ms = 20\nversions = \"latest\"\n";

/// Stops clients when it is dropped, by a panic as well.
struct StopAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn versions_come_and_go_under_load_and_no_request_fails() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let server = Server::start(&models, FAST);
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let (address, stop, answered) = (&server.address, &stop, &answered);
                scope.spawn(move || {
                    let body = json!({ "input": [1, 2, 3] });
                    let mut newest = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let (status, answer) = ask(address, "/models/prices/predict", Some(&body)).unwrap();
                        assert_eq!(status, 200, "{answer}");
                        let version = answer["version"].as_u64().unwrap();
                        assert!(version >= newest, "version {version} after {newest}");
                        newest = version;
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // A failure in here ends the clients, too.
        let _stop = StopAtTheEnd(&stop);
        for seed in 2..=10 {
            let version = models.publish("prices", &prices(), seed);
            // A bad one in between changes nothing.
            let bad = models.publish_spoiled("prices", &prices(), seed);
            // Either may be looked at first.
            let (began, both) = (Instant::now(), [format!("{version}:ready"), format!("{bad}:failed")]);
            while !both.iter().all(|state| server.versions("prices").contains(state)) {
                assert!(began.elapsed() < Duration::from_secs(120), "{}", server.versions("prices"));
            }
            models.open().remove("prices", bad).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
    });
    assert!(answered.load(Ordering::Relaxed) > 20);
}

#[test]
fn fifty_reloads_leave_the_memory_as_it_was() {
    let models = Models::new();
    let server = {
        models.publish("wide", &wide(), 1);
        Server::start(&models, FAST)
    };
    let body = json!({ "input": [1, 2, 3] });
    let mut seen = Vec::new();
    for seed in 2..=51 {
        let version = models.publish("wide", &wide(), seed);
        let before = version - 1;
        server.until("wide", &format!("{before}:unloaded {version}:ready"));
        assert_eq!(server.ask("/models/wide/predict", Some(&body)).0, 200);
        std::fs::remove_dir_all(models.path().join("wide").join(before.to_string())).unwrap();
        server.until("wide", &format!("{version}:ready"));
        seen.push(server.resident());
    }
    // Each version has 4 MB of weights and more while it is read; 40 of them would be 160 MB.
    let (early, late) = (seen[9], seen[49]);
    eprintln!("resident: {} MB after 10 reloads, {} MB after 50", early >> 20, late >> 20);
    assert!(late < early + (48 << 20), "{seen:?}");
}

#[test]
fn sighup_reads_the_settings_again_and_bad_ones_change_nothing() {
    let models = Models::new();
    for seed in 1..=2 {
        models.publish("prices", &prices(), seed);
    }
    let server = Server::start(&models, "[repository]\npoll_ms = 20\n");
    assert_eq!(server.versions("prices"), "1:ready 2:ready");
    server.configure(&models, "[repository]\npoll_ms = 20\n[model.prices]\nversions = \"1\"\n");
    server.until("prices", "1:ready 2:unloaded");
    server.configure(&models, "[repository]\npoll_ms = 20\n[model.prices]\nversions = \"newest\"\n");
    // From here on there are keys; everybody may still look and ask, and one key may change things.
    let keys = models.path().with_extension("keys");
    crate::access::write_keys(&keys, &[("brz_ops", "scopes = [\"admin\"]")]);
    let text = format!(
        "[access]\nkeys = {keys:?}\nanonymous = [\"read\", \"infer\"]\n[repository]\npoll_ms = 20\n\
         [model.both.ensemble]\nkind = \"mean\"\nmembers = [\"prices@1\", \"prices@2\"]\n\
         [model.prices.traffic.split]\n2 = 1\n",
    );
    server.configure(&models, &text);
    server.until("prices", "1:ready 2:ready");
    server.until("both", "1:ready");
    let traffic = "/v2/repository/models/prices/traffic";
    let began = Instant::now();
    while server.ask(traffic, None).1["plan"]["split"] != json!({ "2": 1 }) {
        assert!(began.elapsed() < Duration::from_secs(60));
    }
    let action = json!({ "action": "set", "split": { "1": 1 } });
    while server.ask(traffic, Some(&action)).0 != 401 {
        assert!(began.elapsed() < Duration::from_secs(60), "the keys are read last");
    }
    let (status, view) = ask_as(&server.address, traffic, Some(&action), "X-API-Key: brz_ops\r\n").unwrap();
    assert_eq!(status, 200, "{view}");
    assert_eq!(server.ask("/models/prices/predict", Some(&json!({ "input": [1, 2, 3] }))).1["version"], 1);
    assert!(models.path().join("prices/traffic.json").is_file());
}

#[test]
fn sigterm_while_models_load_ends_well() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let mut server = Server::start(&models, "[repository]\npoll_ms = 10\n[drain]\ndelay_ms = 0\n");
    for seed in 1..=4 {
        models.publish("wide", &wide(), seed);
    }
    server.signal("-TERM");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(Path::new(&models.path().join("wide/4/manifest.json")).is_file());
}

#[test]
fn settings_of_versions_and_traffic_that_cannot_work_are_refused() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let cases = [
        ("[repository]\npoll_ms = 0", "repository.poll_ms"),
        ("[repository]\nversions = \"newest\"", "repository.versions"),
        ("[repository]\nmode = \"poll\"", "repository.mode"),
        ("[repository]\nstartup = [\"prices\"]", "repository.startup"),
        ("[model.prices.traffic]\nsticky = \"cookie\"", "model.prices.traffic"),
        ("[model.prices.traffic.auto]\ncandidate = 2\nsteps = [9, 1]", "model.prices.traffic"),
        ("[model.a.ensemble]\nkind = \"mean\"\nmembers = [\"a\"]", "model.a.ensemble"),
        ("[model.a.ensemble]\nkind = \"median\"\nmembers = [\"b\"]", "model.a.ensemble.kind"),
    ];
    for (config, key) in cases {
        let file = models.path().with_extension("wrong.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_serve"));
        command
            .args(["--port", "0", "--grpc-port", "0", "--models"])
            .arg(models.path())
            .arg("--config")
            .arg(&file);
        let output = command.env("NO_COLOR", "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{config}: {said}");
        assert!(said.contains(&format!("`{key}`")), "{config}: {said}");
    }
}

/// The scheduling policies of the threads of a process whose names begin so: 0 is `SCHED_OTHER`, 5 is `SCHED_IDLE`.
#[cfg(target_os = "linux")]
fn policies(process: u32, name: &str) -> Vec<i64> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of = |path: std::path::PathBuf| {
        // A thread may end meanwhile.
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        let (begin, end) = (stat.find('(')?, stat.rfind(')')?);
        let fields: Vec<&str> = stat[end + 1..].split_whitespace().collect();
        stat[begin + 1..end].starts_with(name).then(|| fields[38].parse().unwrap())
    };
    tasks.filter_map(|task| of(task.unwrap().path())).collect()
}

/// The first model comes when the server serves already: what loads it gives way, and the threads that help all models
/// must not have come from there.
#[cfg(target_os = "linux")]
#[test]
fn helpers_do_not_give_way_because_a_model_came_late() {
    let models = Models::new();
    let config = "threads = 2\n[repository]\npoll_ms = 20\nallow_empty = true\n";
    let server = Server::start(&models, config);
    models.publish("prices", &prices(), 1);
    server.until("prices", "1:ready");
    assert_eq!(policies(server.child.id(), "loader"), [5]);
    let body = json!({ "input": [1, 2, 3] });
    assert_eq!(server.ask("/models/prices/predict", Some(&body)).0, 200);
    // A thread names itself when it first runs.
    let began = Instant::now();
    while policies(server.child.id(), "engine-").is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing helps");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(policies(server.child.id(), "engine-"), [0]);
}
