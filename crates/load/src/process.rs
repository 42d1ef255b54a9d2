//! A server as a process beside us: started, waited for, asked how much of the processor it took, and ended.

use std::io::{BufRead, BufReader, Read as _, Seek as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::http::Connection;

/// How long a server may take until it answers. Those in Python load for many seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum ProcessError {
    #[error("`{name}` cannot be started")]
    Start { name: String, source: std::io::Error },
    #[error("`{name}` did not say where it listens{}", tail(log))]
    Silent { name: String, log: String },
    #[error("`{name}` ended before it answered ({status}){}", tail(log))]
    Ended { name: String, status: std::process::ExitStatus, log: String },
    #[error("`{name}` does not answer after {} s{}", PATIENCE.as_secs(), tail(log))]
    Late { name: String, log: String },
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(8).collect();
    if lines.is_empty() {
        return String::new();
    }
    format!(":\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
}

/// The command `serve` on ports that are free, told nothing by the environment of the user or by a file of hers: that
/// would change what is measured. It runs in `folder`.
#[must_use]
pub fn server(program: &Path, models: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if ["BRAZIER_", "OTEL_", "AIP_", "RUST_LOG"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&key);
        }
    }
    command.current_dir(folder).arg("--json").arg("--models").arg(models);
    command.args(["--port", "0", "--grpc-port", "0"]);
    command
}

/// A running server. Dropped, it is ended.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Process {
    /// Starts a program that says where it listens: a line of JSON with `listening` on standard output.
    ///
    /// # Errors
    /// When it cannot be started or says something else.
    pub fn announced(name: &str, mut command: Command) -> Result<Self, ProcessError> {
        let start = |source| ProcessError::Start { name: name.to_owned(), source };
        let mut said = tempfile::tempfile().map_err(start)?;
        let errors = said.try_clone().map_err(start)?;
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn().map_err(start)?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            // An error leaves the line empty, which is found next.
            let _ = BufReader::new(output).read_line(&mut line);
        }
        let told = serde_json::from_str::<serde_json::Value>(&line).ok();
        let address = told.and_then(|told| {
            told["listening"].as_str()?.trim_start_matches("http://").parse::<SocketAddr>().ok()
        });
        let Some(address) = address else {
            end(&mut child);
            let mut log = String::new();
            // Without it the error says less.
            let _ = said.rewind().and_then(|()| said.read_to_string(&mut log));
            return Err(ProcessError::Silent { name: name.to_owned(), log });
        };
        Ok(Self { name: name.to_owned(), child, address })
    }

    /// Starts a program that was told its port, and waits until `request` is answered with status 200. What it says is
    /// written to `log`.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not answer within two minutes.
    pub fn on_port(
        name: &str,
        mut command: Command,
        port: u16,
        request: &[u8],
        log: &Path,
    ) -> Result<Self, ProcessError> {
        let start = |source| ProcessError::Start { name: name.to_owned(), source };
        let output = std::fs::File::create(log).map_err(start)?;
        let errors = output.try_clone().map_err(start)?;
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn().map_err(start)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut process = Self { name: name.to_owned(), child, address };
        let began = Instant::now();
        let log = || std::fs::read_to_string(log).unwrap_or_default();
        loop {
            if Connection::new(address).ask(request).is_ok_and(|answer| answer.status == 200) {
                return Ok(process);
            }
            if let Ok(Some(status)) = process.child.try_wait() {
                return Err(ProcessError::Ended { name: process.name.clone(), status, log: log() });
            }
            if began.elapsed() > PATIENCE {
                return Err(ProcessError::Late { name: process.name.clone(), log: log() });
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Sends a signal; whether there was somebody to send it to.
    #[must_use]
    pub fn signal(&self, signal: Signal) -> bool {
        send(self.child.id(), signal)
    }

    /// Ends it at once, without a word.
    pub fn kill(&mut self) {
        // It may have ended by itself, and then nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end and waits; its exit code, if it had one and was not ended by force after half a minute.
    #[must_use]
    pub fn terminate(mut self) -> Option<i32> {
        let began = Instant::now();
        if !self.signal(Signal::TERM) {
            return None;
        }
        while began.elapsed() < Duration::from_secs(30) {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its memory that is resident, in bytes; nothing where the system does not tell.
    #[must_use]
    pub fn resident(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? << 10)
    }

    /// The time on processors that it took so far, without its children, in steps of 10 ms; nothing where the system
    /// does not tell.
    #[must_use]
    pub fn processor_time(&self) -> Option<Duration> {
        processor_time(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends a process and all that it has started. Some servers leave theirs behind, which then take the processors that
/// the next one is measured on.
fn end(child: &mut Child) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    let family = descendants(child.id());
    let began = Instant::now();
    let mut asked = send(child.id(), Signal::TERM);
    while asked && began.elapsed() < Duration::from_secs(15) {
        asked = matches!(child.try_wait(), Ok(None));
        std::thread::sleep(Duration::from_millis(20));
    }
    // They may have ended in this moment; nothing depends on how.
    let _ = child.kill();
    let _ = child.wait();
    for id in family {
        let _ = send(id, Signal::KILL);
    }
}

/// Whether there was somebody to send it to.
fn send(id: u32, signal: Signal) -> bool {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw);
    id.is_some_and(|id| kill_process(id, signal).is_ok())
}

/// The processes that a process has started, and those that they have; none where the system does not tell.
fn descendants(id: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let parent = |id: u32| {
        let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        fields(&text)?.get(1)?.parse::<u32>().ok()
    };
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = ids.filter_map(|id| Some((id, parent(id)?))).collect();
    let mut family = vec![id];
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        let children = parents.iter().filter(|(_, parent)| *parent == member).map(|(id, _)| *id);
        family.extend(children);
        next += 1;
    }
    family.split_off(1)
}

/// What `/proc/ID/stat` says after the name, from the state on. The name may hold anything, but it ends with the last
/// bracket.
fn fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect())
}

fn processor_time(id: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // User and system time of the process, the 14th and 15th field of all; Linux counts them in hundredths.
    let ticks: u64 = fields(&text)?.get(11..13)?.iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Some(Duration::from_millis(ticks * 10))
}

/// A port that is free now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn time_on_processors_is_told() {
        let spent = || processor_time(std::process::id()).unwrap();
        let before = spent();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) && spent() <= before {
            std::hint::black_box((0..100_000).sum::<u64>());
        }
        assert!(spent() > before);
    }

    #[test]
    fn what_a_program_has_started_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id");
        let mut shell = Command::new("/bin/sh");
        let script = "sh -c 'sleep 600 & echo $! > \"$0\"; wait' \"$0\" &
            until [ -s \"$0\" ]; do sleep 0.01; done; echo '{\"listening\": \"127.0.0.1:1\"}'; wait";
        shell.args(["-c", script]).arg(&file);
        let process = Process::announced("sh", shell).unwrap();
        let id: u32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        let runs = || {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            fields(&stat).is_some_and(|fields| fields.first() != Some(&"Z"))
        };
        assert!(runs());
        drop(process);
        let began = Instant::now();
        while runs() {
            assert!(began.elapsed() < Duration::from_secs(20), "it runs on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_program_that_says_nothing_is_an_error() {
        let error = Process::announced("true", Command::new("true")).unwrap_err();
        assert_eq!(error.to_string(), "`true` did not say where it listens");
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "echo it is broken; exit 3"]);
        let port = free_port().unwrap();
        let error =
            Process::on_port("sh", shell, port, b"GET / HTTP/1.1\r\n\r\n", &folder.path().join("log"));
        let text = error.unwrap_err().to_string();
        assert!(text.contains("it is broken") && text.contains("exit status: 3"), "{text}");
    }
}
