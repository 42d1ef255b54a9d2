//! ONNX Runtime as a peer: a Python process of the user's that runs the same models on the same inputs.
//!
//! The project has no Python in it; this is a program handed to whatever interpreter the user names.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Loads models and runs them as it is told, line by line.
const PROGRAM: &str = include_str!("onnxruntime_peer.py.txt");

/// A peer that cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum PeerError {
    #[error("`{}` cannot be started", python.display())]
    Start { python: PathBuf, source: std::io::Error },
    #[error("`{}` has no ONNX Runtime: {reason}", python.display())]
    Missing { python: PathBuf, reason: String },
    #[error("ONNX Runtime stopped in the middle of the measurement")]
    Talk(#[from] std::io::Error),
    #[error("ONNX Runtime answered something unexpected")]
    Answer(#[from] serde_json::Error),
    #[error("ONNX Runtime cannot {job} `{model}`: {reason}")]
    Failed { job: &'static str, model: String, reason: String },
}

/// A running ONNX Runtime.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    version: String,
}

/// What a turn took.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Turn {
    /// The median pass, in seconds.
    pub median: f64,
    /// The fastest pass, in seconds.
    pub least: f64,
}

#[derive(Deserialize)]
struct Hello {
    missing: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize)]
struct Prepared {
    outputs: Vec<f32>,
}

#[derive(Deserialize)]
struct Done {
    skipped: Option<String>,
    seconds: Option<f64>,
}

impl Peer {
    /// Starts the interpreter.
    ///
    /// # Errors
    /// When there is no such interpreter, or it has no ONNX Runtime.
    pub fn start(python: &Path) -> Result<Self, PeerError> {
        let mut child = Command::new(python)
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| PeerError::Start { python: python.to_path_buf(), source })?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let Some((input, output)) = pipes else {
            return Err(PeerError::Talk(std::io::Error::other("its pipes are closed")));
        };
        let mut peer = Self { child, input, output: BufReader::new(output), version: String::new() };
        let hello: Hello = serde_json::from_str(&peer.line()?)?;
        if let Some(reason) = hello.missing {
            return Err(PeerError::Missing { python: python.to_path_buf(), reason });
        }
        peer.version = hello.version.unwrap_or_default();
        Ok(peer)
    }

    /// The version of ONNX Runtime.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Loads an ONNX file to run on so many threads, under a name.
    ///
    /// # Errors
    /// When the file is not one that it can run.
    pub fn load(&mut self, model: &str, file: &Path, threads: usize) -> Result<(), PeerError> {
        self.ask::<Done>("load", model, json!({"file": file, "threads": threads})).map(|_| ())
    }

    /// Forgets all models and their threads.
    ///
    /// # Errors
    /// When the process ended.
    pub fn drop_all(&mut self) -> Result<(), PeerError> {
        self.ask::<Done>("drop", "", json!({})).map(|_| ())
    }

    /// Has a model take the inputs in a file of 32-bit floats from now on, and returns what it answers to them.
    ///
    /// # Errors
    /// When the inputs do not fit.
    pub fn prepare(&mut self, model: &str, inputs: &Path, shape: &[usize]) -> Result<Vec<f32>, PeerError> {
        let details = json!({"inputs": inputs, "shape": shape});
        Ok(self.ask::<Prepared>("prepare", model, details)?.outputs)
    }

    /// Runs a model on its inputs for so many seconds, after a quarter of that to warm up.
    ///
    /// # Errors
    /// When the process ended or answers nonsense.
    pub fn turn(&mut self, model: &str, seconds: f64) -> Result<Turn, PeerError> {
        self.ask("turn", model, json!({"seconds": seconds}))
    }

    /// Has its own quantizer make an int8 model, per channel and in QDQ form, calibrated on the samples in a file;
    /// the reason where the interpreter has no quantizer.
    ///
    /// # Errors
    /// When the quantizer fails.
    pub fn quantize(
        &mut self,
        file: &Path,
        out: &Path,
        samples: &Path,
        shape: &[usize],
    ) -> Result<Option<String>, PeerError> {
        let details = json!({"file": file, "out": out, "inputs": samples, "shape": shape});
        Ok(self.ask::<Done>("quantize", "f32", details)?.skipped)
    }

    /// The seconds of a call that computes nothing, where that can be known.
    ///
    /// # Errors
    /// When the process ended or answers nonsense.
    pub fn empty_call(&mut self) -> Result<Option<f64>, PeerError> {
        Ok(self.ask::<Done>("empty", "empty", json!({}))?.seconds)
    }

    fn ask<T: DeserializeOwned>(
        &mut self,
        job: &'static str,
        model: &str,
        mut line: Value,
    ) -> Result<T, PeerError> {
        line["job"] = json!(job);
        line["model"] = json!(model);
        writeln!(self.input, "{line}")?;
        self.input.flush()?;
        let answer: Value = serde_json::from_str(&self.line()?)?;
        if let Some(reason) = answer.get("error") {
            let reason = reason.as_str().unwrap_or("it does not say why").to_owned();
            return Err(PeerError::Failed { job, model: model.to_owned(), reason });
        }
        Ok(serde_json::from_value(answer)?)
    }

    fn line(&mut self) -> Result<String, PeerError> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        Ok(line)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already; nothing depends on how.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// An interpreter that says these lines and nothing else.
    fn interpreter(lines: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("python");
        std::fs::write(&path, format!("#!/bin/sh\ncat <<'END'\n{lines}END\ncat > /dev/null\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (folder, path)
    }

    #[test]
    fn what_it_lacks_or_cannot_do_is_an_error_with_its_words() {
        // One test for all: a script must not be open in a process that another test forks.
        let (_folder, python) = interpreter("{\"missing\": \"ModuleNotFoundError: no onnxruntime\"}\n");
        let error = Peer::start(&python).unwrap_err();
        assert!(matches!(&error, PeerError::Missing { .. }), "{error:?}");
        assert!(error.to_string().ends_with("has no ONNX Runtime: ModuleNotFoundError: no onnxruntime"));
        let error = Peer::start(Path::new("/nowhere/python")).unwrap_err();
        assert!(matches!(error, PeerError::Start { .. }), "{error:?}");
        let (_folder, python) = interpreter("Python 2.7\n");
        assert!(matches!(Peer::start(&python).unwrap_err(), PeerError::Answer(_)));

        let lines = "{\"version\": \"1.2.3\"}\n{}\n{\"error\": \"Fail: no such operator\"}\n";
        let (_folder, python) = interpreter(lines);
        let mut peer = Peer::start(&python).unwrap();
        assert_eq!(peer.version(), "1.2.3");
        peer.load("f32", Path::new("a.onnx"), 2).unwrap();
        let error = peer.load("int8", Path::new("b.onnx"), 2).unwrap_err();
        assert_eq!(error.to_string(), "ONNX Runtime cannot load `int8`: Fail: no such operator");
    }
}
