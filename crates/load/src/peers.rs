//! Servers of others, with ONNX Runtime behind them, on the same weights and threads.
//!
//! The project has no Python in it; these are programs handed to the interpreter that the user names, or to one that is
//! set up in a virtual environment when the user asks for that. Each is written as its documentation does it, with its
//! batching on where it has one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::process::{Process, ProcessError, free_port};
use crate::requests::{Form, JSON, infer, post};

/// A server of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// FastAPI with ONNX Runtime.
    FastApi,
    /// LitServe.
    LitServe,
    /// BentoML.
    BentoMl,
    /// MLServer.
    MlServer,
}

/// What all are given.
#[derive(Clone, Debug)]
pub struct Given<'a> {
    /// The interpreter.
    pub python: &'a Path,
    /// The ONNX file.
    pub model: &'a Path,
    /// The name of the model's input.
    pub input: &'a str,
    /// The dimensions of a row.
    pub shape: &'a [usize],
    /// One row.
    pub values: &'a [f32],
    /// Threads that compute.
    pub threads: usize,
    /// The most requests of a batch.
    pub batch: usize,
    /// A folder for the peer's files.
    pub folder: &'a Path,
}

/// A peer that runs, and the request that it is asked with.
#[derive(Debug)]
pub struct Running {
    /// The server.
    pub process: Process,
    /// Head and body.
    pub request: Vec<u8>,
}

impl Peer {
    /// All that are known.
    pub const ALL: [Self; 4] = [Self::FastApi, Self::LitServe, Self::BentoMl, Self::MlServer];

    /// Its name, as people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FastApi => "FastAPI + ONNX Runtime",
            Self::LitServe => "LitServe",
            Self::BentoMl => "BentoML",
            Self::MlServer => "MLServer",
        }
    }

    /// What `pip` installs it by, ONNX Runtime aside.
    #[must_use]
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::FastApi => &["fastapi", "uvicorn"],
            Self::LitServe => &["litserve"],
            Self::BentoMl => &["bentoml"],
            Self::MlServer => &["mlserver"],
        }
    }

    /// Its version and that of ONNX Runtime; nothing when the interpreter lacks one of them.
    #[must_use]
    pub fn version(self, python: &Path) -> Option<String> {
        let module = self.packages().first()?;
        let script = format!(
            "import importlib.metadata as m, importlib.util as u; assert u.find_spec('onnxruntime'); \
             print(m.version('{module}'), 'with ONNX Runtime', m.version('onnxruntime'))"
        );
        let output = Command::new(python).args(["-c", &script]).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// When its files cannot be written, it ends, or it does not answer within two minutes.
    pub fn start(self, given: &Given<'_>) -> Result<Running, ProcessError> {
        let file = |source| ProcessError::Start { name: self.name().to_owned(), source };
        let port = free_port().map_err(file)?;
        let program = given.folder.join("peer.py");
        std::fs::write(&program, self.program()).map_err(file)?;
        let mut command = match self {
            Self::FastApi | Self::LitServe => {
                let mut command = Command::new(given.python);
                command.arg(&program);
                command
            }
            Self::BentoMl => {
                let mut command = Command::new(given.python);
                command.args(["-m", "bentoml", "serve", "peer:Peer", "--host", "127.0.0.1", "--port"]);
                command.arg(port.to_string());
                command
            }
            Self::MlServer => {
                self.write_settings(given, port).map_err(file)?;
                // Its module has no entry of its own.
                let mut command = Command::new(given.python);
                command.args(["-c", "from mlserver.cli import main; main()", "start", "."]);
                command
            }
        };
        let shape: Vec<String> = given.shape.iter().map(usize::to_string).collect();
        command
            .current_dir(given.folder)
            .env("PEER_PORT", port.to_string())
            .env("PEER_MODEL", given.model)
            .env("PEER_SHAPE", shape.join(","))
            .env("PEER_THREADS", given.threads.to_string())
            .env("PEER_BATCH", given.batch.to_string())
            .env("PYTHONPATH", given.folder)
            // Nothing is told to anybody about the measurement.
            .env("BENTOML_DO_NOT_TRACK", "1")
            .env("DO_NOT_TRACK", "1");
        let request = self.request(given);
        let log = given.folder.join("peer.log");
        let process = Process::on_port(self.name(), command, port, &request, &log)?;
        Ok(Running { process, request })
    }

    fn program(self) -> &'static str {
        match self {
            Self::FastApi => include_str!("peers/fastapi.py.txt"),
            Self::LitServe => include_str!("peers/litserve.py.txt"),
            Self::BentoMl => include_str!("peers/bentoml.py.txt"),
            Self::MlServer => include_str!("peers/mlserver.py.txt"),
        }
    }

    fn write_settings(self, given: &Given<'_>, port: u16) -> std::io::Result<()> {
        let server = json!({
            "host": "127.0.0.1", "http_port": port, "grpc_port": free_port()?, "metrics_port": free_port()?,
            "parallel_workers": 0, "debug": false,
        });
        let model = json!({
            "name": "peer", "implementation": "peer.Peer",
            "max_batch_size": given.batch, "max_batch_time": 0.001,
        });
        std::fs::write(given.folder.join("settings.json"), server.to_string())?;
        std::fs::write(given.folder.join("model-settings.json"), model.to_string())
    }

    fn request(self, given: &Given<'_>) -> Vec<u8> {
        let row: Vec<f32> = given.values.iter().copied().take(given.shape.iter().product()).collect();
        match self {
            Self::FastApi | Self::LitServe => {
                post("/predict", JSON, json!({ "input": row }).to_string().as_bytes())
            }
            // Its batches are lists.
            Self::BentoMl => post("/predict", JSON, json!({ "input": [row] }).to_string().as_bytes()),
            Self::MlServer => infer(Form::Json, "peer", given.input, given.shape, 1, &row),
        }
    }
}

/// The interpreter of a virtual environment that has a peer: made and filled where it is not there yet, which fetches
/// packages. Each peer has an environment of its own in the folder, for they do not agree about what they depend on.
///
/// # Errors
/// When the environment cannot be made or a package cannot be installed.
pub fn environment(folder: &Path, peer: Peer) -> std::io::Result<PathBuf> {
    let own = folder.join(peer.packages().first().copied().unwrap_or_default());
    let python = own.join("bin/python");
    let run = |mut command: Command| {
        // What it says belongs to stderr; stdout is for results.
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        if status.success() {
            Ok(())
        } else {
            Err(std::io::Error::other(format!("{command:?} ended with {status}")))
        }
    };
    if !python.is_file() {
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(&own);
        run(make)?;
    }
    if peer.version(&python).is_none() {
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", "onnxruntime", "numpy"]).args(peer.packages());
        run(install)?;
    }
    Ok(python)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_without_a_peer_has_no_version_of_it() {
        for python in ["/bin/false", "/nowhere/python"] {
            assert!(Peer::ALL.iter().all(|peer| peer.version(Path::new(python)).is_none()));
        }
    }

    #[test]
    fn a_peer_that_does_not_start_is_an_error_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let given = Given {
            python: Path::new("/bin/sh"),
            model: Path::new("model.onnx"),
            input: "input",
            shape: &[2],
            values: &[1.0, 2.0],
            threads: 1,
            batch: 4,
            folder: folder.path(),
        };
        // What is Python is no shell script.
        let error = Peer::FastApi.start(&given).unwrap_err().to_string();
        assert!(error.contains("`FastAPI + ONNX Runtime` ended before it answered"), "{error}");
    }
}
