//! Waiting for a program that was started for the user.

use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cli::{ExitStatus, Interrupt};

/// How often a running child is looked at; a signal to this process waits that long to be passed on.
const LOOK: Duration = Duration::from_millis(50);

/// Waits until the child ends, and passes SIGTERM on to it. Ctrl-C needs no passing on: the terminal sends it
/// to the child as well.
pub(crate) fn wait(mut child: Child, interrupt: &Interrupt) -> anyhow::Result<ExitStatus> {
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a program")? {
            return Ok(status_of(status));
        }
        if interrupt.was_terminate() && !told {
            terminate(&mut child)?;
            told = true;
        }
        std::thread::sleep(LOOK);
    }
}

/// Asks the child to end, and ends it if it has not after `patience`.
pub(crate) fn stop(mut child: Child, patience: Duration) -> anyhow::Result<ExitStatus> {
    if let Some(status) = child.try_wait().context("cannot wait for a program")? {
        return Ok(status_of(status));
    }
    terminate(&mut child)?;
    let asked = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a program")? {
            return Ok(status_of(status));
        }
        if asked.elapsed() > patience {
            child.kill().context("cannot end a program")?;
        }
        std::thread::sleep(LOOK);
    }
}

/// Sends SIGTERM. The standard library can only send SIGKILL, and calling `kill(2)` needs `unsafe`; every
/// Unix has a shell with `kill` built in.
fn terminate(child: &mut Child) -> anyhow::Result<()> {
    if cfg!(unix) {
        let mut shell = std::process::Command::new("/bin/sh");
        let sent = shell.args(["-c", "kill -TERM \"$0\"", &child.id().to_string()]).status();
        if sent.is_ok_and(|status| status.success()) {
            return Ok(());
        }
        // It may have ended in between.
        if child.try_wait().context("cannot wait for a program")?.is_some() {
            return Ok(());
        }
    }
    child.kill().context("cannot end a program")
}

/// The status of a program that has said itself what was wrong.
pub(crate) fn status_of(status: std::process::ExitStatus) -> ExitStatus {
    match status.code().map(u8::try_from) {
        Some(Ok(0)) => ExitStatus::Success,
        Some(Ok(code)) => ExitStatus::Child(code),
        // Ended by a signal, or with a code that no Unix knows.
        _ => ExitStatus::Runtime,
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn shell(script: &str) -> Child {
        Command::new("/bin/sh").args(["-c", script]).spawn().unwrap()
    }

    #[test]
    fn the_exit_code_of_the_child_is_passed_on() {
        let interrupt = Interrupt::listen().unwrap();
        for (script, expected) in [
            ("exit 0", ExitStatus::Success),
            ("exit 7", ExitStatus::Child(7)),
            ("kill -KILL $$", ExitStatus::Runtime),
        ] {
            assert_eq!(wait(shell(script), &interrupt).unwrap(), expected, "{script}");
        }
    }

    #[test]
    fn a_child_is_asked_before_it_is_killed() {
        // The child says when its trap is set, or the signal could come before it.
        let mut polite = Command::new("/bin/sh");
        polite.args(["-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"]);
        let mut child = polite.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
            .unwrap();
        assert_eq!(stop(child, Duration::from_secs(60)).unwrap(), ExitStatus::Child(5));
        assert_eq!(
            stop(shell("trap '' TERM; while :; do sleep 0.01; done"), Duration::ZERO).unwrap(),
            ExitStatus::Runtime
        );
    }
}
