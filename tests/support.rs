//! What the tests share: the binaries of this build, places of their own, a trained model, a running server.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The path of a binary that Cargo built together with these tests: it lies one folder above them.
pub(crate) fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the running test has a path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/<profile>/deps");
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is not built; run `cargo test --workspace`", path.display());
    path
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

/// A command in the workspace's root, without the settings of whoever runs the tests.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(binary(name));
    command.current_dir(root()).stdin(Stdio::null());
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("BRAZIER_")) {
        command.env_remove(key);
    }
    command.env("NO_COLOR", "1").env_remove("RUST_LOG");
    command
}

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The standard output as one JSON value.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// The same, after making sure that it succeeded.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// The standard error, after making sure that it failed with `code`.
    pub(crate) fn refused(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains("error: "), "no error is named: {self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
        self.err
    }
}

/// Runs a command to its end.
pub(crate) fn run(name: &str, arguments: &[&str]) -> Said {
    Said::of(command(name).args(arguments).output().expect("the binary starts"))
}

/// Runs a command with something on its standard input.
pub(crate) fn run_with_input(name: &str, arguments: &[&str], input: &[u8]) -> Said {
    let mut command = command(name);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let mut pipe = child.stdin.take().expect("it was asked for");
    // A command that refuses its arguments may not read its input.
    let _ = std::io::Write::write_all(&mut pipe, input);
    drop(pipe);
    Said::of(child.wait_with_output().expect("it ends"))
}

/// A place for runs and models that goes away with the test.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder") }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("paths of tests are UTF-8").to_owned()
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        if let Some(folder) = Path::new(&path).parent() {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        std::fs::write(&path, bytes).expect("a file");
        path
    }

    /// `train train` with its runs and models here.
    pub(crate) fn train(&self, arguments: &[&str]) -> Said {
        let (runs, models) = (self.path("runs"), self.path("models"));
        let places = ["train", "--runs", &runs, "--models", &models];
        run("train", &[&places, arguments].concat())
    }
}

/// A registry with `digits@1`, `digits@2` and `cancer@1`, trained once for all tests that only read it.
pub(crate) fn trained() -> &'static Place {
    static TRAINED: OnceLock<Place> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let place = Place::new();
        for _ in 0..2 {
            place
                .train(&["--config", "configs/train/quickstart.toml", "--set", "train.epochs=6", "--quiet"])
                .ok();
        }
        place.train(&["--config", "configs/train/breast-cancer.toml", "--name", "cancer", "--quiet"]).ok();
        place
    })
}

/// A registry with `digits@1` of [`trained`] and `digits@2`, the same in int8, with what `compress quantize` told as
/// JSON; made once for all tests that only read it.
pub(crate) fn quantized() -> &'static (Place, serde_json::Value) {
    static QUANTIZED: OnceLock<(Place, serde_json::Value)> = OnceLock::new();
    QUANTIZED.get_or_init(|| {
        let place = Place::new();
        let package = Path::new(&trained().path("models/digits/1")).to_owned();
        for entry in std::fs::read_dir(package).expect("a package is a folder").flatten() {
            let name = entry.file_name();
            let bytes = std::fs::read(entry.path()).expect("a package has files alone");
            place.write(&format!("models/digits/1/{}", name.to_str().expect("UTF-8")), bytes);
        }
        let models = place.path("models");
        // Whatever is the faster one on this machine.
        let float = ["--set", "layers.faster_only=false"];
        let arguments =
            [["quantize", "digits@1"], ["--config", "configs/compress/int8.toml"], float].concat();
        let told = run("compress", &[&arguments[..], &["--models", &models, "--json"]].concat()).ok().json();
        (place, told)
    })
}

/// A running server; it is killed when the test ends.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

impl Server {
    /// Starts `serve` on a free port and waits until it is ready.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = command("serve");
        command
            .args(["--port", "0", "--grpc-port", "0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().expect("serve starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
        let address = loop {
            let line = lines.next().expect("serve tells its address before it ends").expect("UTF-8");
            if let Some(start) = line.find("http://") {
                break line[start..].split_whitespace().next().unwrap_or("").trim_end_matches('/').to_owned();
            }
        };
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let server = Self { child, address };
        let began = Instant::now();
        while server.get("/v2/health/ready").0 != 200 {
            assert!(began.elapsed() < Duration::from_secs(60), "the server is not ready after a minute");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// The models of [`trained`].
    pub(crate) fn of_trained() -> Self {
        Self::start(&["--models", &trained().path("models"), "--default-model", "digits"])
    }

    /// The models of [`quantized`], with the floats in front.
    pub(crate) fn of_quantized() -> Self {
        Self::start(&["--models", &quantized().0.path("models"), "--default-model", "digits@1"])
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, serde_json::Value) {
        answer(agent().get(self.url(path)).call())
    }

    pub(crate) fn post(&self, path: &str, content_type: &str, body: &[u8]) -> (u16, serde_json::Value) {
        answer(agent().post(self.url(path)).header("content-type", content_type).send(body))
    }

    /// Posts nothing, with a key.
    pub(crate) fn post_as(&self, key: &str, path: &str) -> (u16, serde_json::Value) {
        let request = agent().post(self.url(path)).header("authorization", format!("Bearer {key}"));
        answer(request.send_empty())
    }

    pub(crate) fn post_json(&self, path: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
        self.post(path, "application/json", body.to_string().as_bytes())
    }

    /// Sends SIGTERM and returns the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().expect("kill exists");
        assert!(sent.success());
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.timeout_global(Some(Duration::from_secs(30))).build().into()
}

/// Status and JSON; a body that is no JSON becomes a string.
fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, serde_json::Value) {
    let mut response = response.expect("the server answers");
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().expect("the body is text");
    (status, serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text)))
}
