//! PyTorch as a peer: a Python process of the user's that builds the same network and takes the same steps.
//!
//! The project has no Python in it; this is a program handed to whatever interpreter the user names.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use network::Network;
use serde::Deserialize;
use serde_json::json;

use super::Options;

/// Builds the network from the specification and takes as many steps as it is told, line by line.
const PROGRAM: &str = include_str!("torch_peer.py.txt");

/// A peer that cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum PeerError {
    #[error("`{}` cannot be started", python.display())]
    Start { python: PathBuf, source: std::io::Error },
    #[error("`{}` has no PyTorch: {reason}", python.display())]
    Missing { python: PathBuf, reason: String },
    #[error("PyTorch cannot compute on `{device}`: {reason}")]
    Device { device: String, reason: String },
    #[error("PyTorch stopped in the middle of the measurement")]
    Talk(#[from] std::io::Error),
    #[error("PyTorch answered something unexpected")]
    Answer(#[from] serde_json::Error),
    #[error("PyTorch's network has {theirs} parameters, ours {ours}: they are not the same network")]
    Different { ours: u64, theirs: u64 },
}

/// A running PyTorch with the network built.
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// PyTorch's version.
    pub version: String,
    /// What it computes on; a GPU by its own name.
    pub device: String,
}

#[derive(Deserialize)]
struct Hello {
    error: Option<String>,
    no_device: Option<String>,
    device: Option<String>,
    version: Option<String>,
    parameters: Option<u64>,
}

#[derive(Deserialize)]
struct Taken {
    seconds: f64,
}

impl Peer {
    /// Starts the interpreter and has it build the network.
    ///
    /// # Errors
    /// When there is no such interpreter, it has no PyTorch or not the device, or its network differs from ours.
    pub fn start(python: &Path, network: &Network, options: &Options) -> Result<Self, PeerError> {
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
        let output = BufReader::new(output);
        let mut peer = Self { child, input, output, version: String::new(), device: String::new() };
        let shapes: serde_json::Map<String, serde_json::Value> =
            network.layers().iter().map(|layer| (layer.name.clone(), json!(layer.input))).collect();
        let job = json!({
            "layers": network.spec().layers, "shapes": shapes, "input": network.input_shape(),
            "outputs": network.output_shape().first(), "batch": options.batch_size,
            "threads": options.threads, "device": options.peer_device,
        });
        // An interpreter without PyTorch says so and ends before it reads this.
        let sent = writeln!(peer.input, "{job}").and_then(|()| peer.input.flush());
        let hello: Hello = serde_json::from_str(&peer.line()?)?;
        if let Some(reason) = hello.error {
            return Err(PeerError::Missing { python: python.to_path_buf(), reason });
        }
        sent?;
        if let Some(reason) = hello.no_device {
            return Err(PeerError::Device { device: options.peer_device.clone(), reason });
        }
        let (ours, theirs) = (network.parameter_count(), hello.parameters.unwrap_or(0));
        if ours != theirs {
            return Err(PeerError::Different { ours, theirs });
        }
        peer.version = hello.version.unwrap_or_default();
        peer.device = hello.device.unwrap_or_default();
        Ok(peer)
    }

    /// Takes `steps` steps and returns the seconds that they took.
    ///
    /// # Errors
    /// When the process ended or answers nonsense.
    pub fn steps(&mut self, steps: usize) -> Result<f64, PeerError> {
        writeln!(self.input, "{steps}")?;
        self.input.flush()?;
        let taken: Taken = serde_json::from_str(&self.line()?)?;
        Ok(taken.seconds)
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
