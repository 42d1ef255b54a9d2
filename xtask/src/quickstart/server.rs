//! The server of the tour: started, waited for, asked, and stopped with it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use cli::{ErrorExt as _, ExitStatus, Interrupt, usage_error};
use serde_json::Value;

use super::http;
use crate::binaries::{Binaries, Binary};
use crate::child;

/// How long the server may take to load and warm up its models.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to stop.
const DRAIN: Duration = Duration::from_secs(30);
/// How often it is asked whether it is ready.
const LOOK: Duration = Duration::from_millis(50);

/// The port, if nobody listens on it; a free one for 0.
pub(super) fn free_port(port: u16) -> anyhow::Result<u16> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(listener) => Ok(listener.local_addr().context("cannot find a free port")?.port()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(usage_error(format!("port {port} on 127.0.0.1 is in use by another program")))
                .hint(format!("choose another with --port, as in --port {}", port.wrapping_add(1).max(1024)))
        }
        Err(error) => Err(error)
            .with_context(|| format!("cannot listen on 127.0.0.1:{port}"))
            .hint("choose another port with --port")
            .usage(),
    }
}

/// A running server. Dropped, it is stopped.
pub(super) struct Server {
    child: Option<Child>,
    port: u16,
}

impl Server {
    pub(super) fn start(binaries: &Binaries, models: &Path, port: u16, model: &str) -> anyhow::Result<Self> {
        let mut command = super::on_the_processor(binaries.command(Binary::Serve));
        command
            .arg("--models")
            .arg(models)
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .arg("--no-grpc");
        // Without a default, `/predict` would be ambiguous in a registry with several models. The address
        // is announced here, with more beside it, and not twice.
        command.args(["--default-model", model]).stdin(Stdio::null()).stdout(Stdio::null());
        // Its start-up is told here; what goes wrong later is still worth a line.
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "warn");
        }
        let child = command.spawn().context("cannot run serve")?;
        Ok(Server { child: Some(child), port })
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits for readiness; false if somebody asked to stop meanwhile.
    pub(super) fn wait_until_ready(&mut self, interrupt: &Interrupt) -> anyhow::Result<bool> {
        let started = Instant::now();
        loop {
            if interrupt.is_requested() {
                return Ok(false);
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait().context("cannot wait for the server")?
            {
                self.child = None;
                bail!("the server ended before it was ready ({status})");
            }
            if http::request(self.port, "/v2/health/ready", None).is_ok_and(|answer| answer.status == 200) {
                return Ok(true);
            }
            if started.elapsed() > PATIENCE {
                bail!("the server is not ready after {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Sends JSON and reads the JSON answer.
    pub(super) fn ask(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.url());
        let answer = http::request(self.port, path, Some(&body.to_string()))
            .with_context(|| format!("no answer from {url}"))?;
        if answer.status != 200 {
            bail!("{url} answered {}: {}", answer.status, answer.body);
        }
        serde_json::from_str(&answer.body)
            .with_context(|| format!("{url} did not answer JSON: {}", answer.body))
    }

    /// Serves until somebody asks to stop, or the server ends.
    pub(super) fn serve_until(mut self, interrupt: &Interrupt) -> anyhow::Result<()> {
        while !interrupt.is_requested() {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait().context("cannot wait for the server")?
            {
                self.child = None;
                bail!("the server ended ({status})");
            }
            std::thread::sleep(LOOK);
        }
        self.stop()
    }

    /// Asks the server to stop and waits for it. After a Ctrl-C, which the terminal has sent it too, asking
    /// again only makes it hurry.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        match self.child.take().map(|child| child::stop(child, DRAIN)).transpose()? {
            None | Some(ExitStatus::Success) => Ok(()),
            Some(status) => bail!("the server did not stop cleanly (exit code {})", status.code()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error is on its way already; what matters is that no server stays behind.
        let _ = self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_refused_with_the_flag_to_change_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = free_port(port).unwrap_err();
        let text = cli::render_error(&error, false);
        assert!(
            text.starts_with(&format!("error: port {port} on 127.0.0.1 is in use by another program\n")),
            "{text}"
        );
        assert!(text.contains("\nhint: choose another with --port, as in --port "), "{text}");
        assert_eq!(cli::exit_status(&error), ExitStatus::Usage);
        assert_ne!(free_port(0).unwrap(), 0);
    }
}
