//! The memory of the process beside what it may have, and what is given up when it runs short, in the steps of Envoy's
//! overload manager: from 92 % on no connection of HTTP is kept, from 95 % on no body is taken in. What the system does
//! at 100 % is worse for everybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::metrics::resident_bytes;

/// What is left of the memory.
#[derive(Debug)]
pub struct Memory {
    /// Bytes that the process may have; nothing where nobody says.
    most: Option<u64>,
    level: AtomicU8,
}

/// From so many hundredths on memory is tight, and full.
const TIGHT: u64 = 92;
const FULL: u64 = 95;

impl Memory {
    /// So many megabytes; 0: as many as the control group of the process may have (cgroup v2), as in a container.
    #[must_use]
    pub fn new(max_memory_mb: u64) -> Arc<Self> {
        let most = match max_memory_mb {
            0 => std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| granted(&text)),
            megabytes => Some(megabytes.saturating_mul(1 << 20)),
        };
        Arc::new(Self { most, level: AtomicU8::new(0) })
    }

    /// Whether connections should go.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.level.load(Ordering::Relaxed) >= 1
    }

    /// Whether nothing more should come.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.level.load(Ordering::Relaxed) >= 2
    }

    /// Looks at the process.
    pub fn look(&self) {
        if self.most.is_some()
            && let Some(resident) = resident_bytes()
        {
            self.note(resident);
        }
    }

    fn note(&self, resident: u64) {
        let Some(most) = self.most else { return };
        let share = u128::from(resident) * 100 / u128::from(most.max(1));
        let level = u8::from(share >= u128::from(TIGHT)) + u8::from(share >= u128::from(FULL));
        let before = self.level.swap(level, Ordering::Relaxed);
        if level > before {
            let does = if level == 2 { "bodies are refused" } else { "connections are not kept" };
            tracing::warn!(resident, most, "memory runs short: {does}");
        } else if level < before && level == 0 {
            tracing::info!(resident, most, "there is enough memory again");
        }
    }
}

/// The bytes in `memory.max`; nothing for `max`.
fn granted(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_grows_with_what_is_used() {
        let memory = Memory::new(100);
        let megabytes = |count: u64| count << 20;
        for (used, tight, full) in
            [(0, false, false), (91, false, false), (92, true, false), (95, true, true), (200, true, true)]
        {
            memory.note(megabytes(used));
            assert_eq!((memory.is_tight(), memory.is_full()), (tight, full), "{used}");
        }
        memory.note(megabytes(50));
        assert!(!memory.is_tight() && !memory.is_full());
    }

    #[test]
    fn a_control_group_grants_a_number_or_all() {
        assert_eq!(granted("536870912\n"), Some(536_870_912));
        assert_eq!(granted("max\n"), None);
    }
}
