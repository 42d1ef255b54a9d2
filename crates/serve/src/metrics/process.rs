//! What the operating system knows of this process. Where there is no `/proc`, it knows nothing.

/// The process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Seconds of processors, in all threads.
    pub cpu_seconds: f64,
    /// Bytes in memory.
    pub resident_bytes: u64,
    /// Bytes of addresses.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// File descriptors that are open.
    pub open_fds: u64,
    /// File descriptors that may be open; nothing: as many as it likes.
    pub max_fds: Option<u64>,
}

/// A second of `/proc/self/stat` on every Linux that there is: `USER_HZ` is part of its interface.
const TICKS: f64 = 100.0;

impl Process {
    /// Looks at this process.
    #[must_use]
    pub fn now() -> Option<Self> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
        let limits = read("limits").unwrap_or_default();
        // This one of them is the listing itself.
        let open_fds = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64;
        Some(Self { open_fds, max_fds: max_fds(&limits), ..Self::read(&read("status")?, &read("stat")?)? })
    }

    fn read(status: &str, stat: &str) -> Option<Self> {
        let of = |name: &str| field(status, name);
        // The name of the program may hold anything, and ends with the last bracket.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
        let ticks = fields.next()?? + fields.next()??;
        Some(Self {
            cpu_seconds: ticks as f64 / TICKS,
            resident_bytes: of("VmRSS")? * 1024,
            virtual_bytes: of("VmSize")? * 1024,
            threads: of("Threads")?,
            ..Self::default()
        })
    }
}

/// Bytes of this process in memory.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS")?.checked_mul(1024)
}

/// A number of `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line?.split_whitespace().next()?.parse().ok()
}

fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_writes_is_read() {
        let status = "Name:\tserve\nVmSize:\t  2048 kB\nVmRSS:\t 1024 kB\nThreads:\t7\n";
        let stat = "1 (a b) c)) S 0 1 1 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 7 0 99 100 200";
        let process = Process::read(status, stat).unwrap();
        assert_eq!((process.resident_bytes, process.virtual_bytes, process.threads), (1 << 20, 2 << 20, 7));
        assert!((process.cpu_seconds - 2.0).abs() < 1e-9);
        assert_eq!(Process::read("", stat), None);
        assert_eq!(max_fds("Limit\nMax open files   1024  4096  files\n"), Some(1024));
        assert_eq!(max_fds("Max open files   unlimited  4096  files\n"), None);
        if cfg!(target_os = "linux") {
            let now = Process::now().unwrap();
            assert!(now.resident_bytes > 1 << 20 && now.open_fds > 2 && now.threads > 0, "{now:?}");
        }
    }
}
