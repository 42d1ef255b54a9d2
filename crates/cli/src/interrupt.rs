//! Ctrl-C: the first asks the command to finish what it is at, the second ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::report::ExitStatus;

/// Whether somebody asked the process to stop, with Ctrl-C or SIGTERM. Clones look at the same answer.
#[derive(Clone, Debug)]
pub struct Interrupt {
    requested: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Begins to catch the signals: from now on the process is asked to stop instead of being stopped. A
    /// second signal ends it at once, with the exit code of an interrupted command.
    ///
    /// # Errors
    /// The system refuses the handler.
    pub fn listen() -> std::io::Result<Self> {
        let requested = Arc::new(AtomicBool::new(false));
        let last = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the check of the flag must run before the flag is raised, or the first
            // signal would already count as the second.
            let code = ExitStatus::Interrupted.code();
            signal_hook::flag::register_conditional_shutdown(signal, code.into(), requested.clone())?;
            signal_hook::flag::register(signal, requested.clone())?;
            signal_hook::flag::register_usize(signal, last.clone(), usize::try_from(signal).unwrap_or(0))?;
        }
        Ok(Interrupt { requested, signal: last })
    }

    /// True once somebody asked.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    /// True if the last request was SIGTERM, which is sent to this process alone. A Ctrl-C reaches every
    /// process of the terminal by itself, so only SIGTERM needs to be passed on to a child.
    pub fn was_terminate(&self) -> bool {
        usize::try_from(SIGTERM).is_ok_and(|terminate| self.signal.load(Ordering::Relaxed) == terminate)
    }

    /// The flag itself, for code that takes a plain [`AtomicBool`].
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.requested.clone()
    }
}
