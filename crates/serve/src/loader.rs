//! The threads that load versions, apart from those that serve.
//!
//! While the server starts, each version has a thread of its own at full speed. Later one thread loads them all, behind
//! everything else that wants the processors. It stays, for the allocator keeps memory by thread: what a version that
//! has left gave back is what the next one is loaded into. With a thread for each, other threads come to own that
//! memory in between, and every version takes as much anew.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};

use model::device::panic_message;

use crate::load::{Failure, Opened};

type Open = Box<dyn FnOnce() -> Opened + Send>;

/// Runs what opens a version on the right thread.
#[derive(Debug, Default)]
pub(crate) struct Loader {
    /// The thread that stays, once there is one. It ends with this.
    gentle: Option<Sender<(Open, Sender<Opened>)>>,
}

impl Loader {
    /// Opens a version at full speed.
    pub(crate) fn swiftly(open: impl FnOnce() -> Opened + Send) -> Opened {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("loader".to_owned());
            let thread = thread.spawn_scoped(scope, || contained(open)).map_err(|error| no_thread(&error))?;
            thread.join().unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
        })
    }

    /// Opens a version with what the requests leave of the processors.
    pub(crate) fn gently(&mut self, open: impl FnOnce() -> Opened + Send + 'static) -> Opened {
        let jobs = match self.gentle.take() {
            Some(jobs) => jobs,
            None => start().map_err(|error| no_thread(&error))?,
        };
        let (reply, opened) = channel();
        let gone = || Failure::from("the thread that loads has ended");
        jobs.send((Box::new(open), reply)).map_err(|_| gone())?;
        let opened = opened.recv().map_err(|_| gone())?;
        self.gentle = Some(jobs);
        opened
    }
}

fn start() -> std::io::Result<Sender<(Open, Sender<Opened>)>> {
    let (jobs, waiting) = channel::<(Open, Sender<Opened>)>();
    std::thread::Builder::new().name("loader".to_owned()).spawn(move || {
        give_way();
        while let Ok((open, reply)) = waiting.recv() {
            // Whoever asked waits for it.
            let _ = reply.send(contained(open));
        }
    })?;
    Ok(jobs)
}

/// A hostile package must not take the server down, whatever it makes a library do.
fn contained(open: impl FnOnce() -> Opened) -> Opened {
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    format!("loading it panicked: {}", panic_message(panic)).into()
}

fn no_thread(error: &std::io::Error) -> Failure {
    format!("the system gives no thread to load it: {error}").into()
}

/// Puts this thread behind all others ([`network::background`]). One that is merely nice keeps its processor when others
/// wake there; one of the policy `SCHED_IDLE` loses it.
pub(crate) fn give_way() {
    network::background::enter();
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let this = thread_priority::thread_native_id();
        if let Err(error) = thread_priority::set_thread_priority_and_policy(this, ThreadPriority::Min, idle) {
            // Then it takes its share of the processors.
            tracing::debug!(?error, "the thread keeps its priority");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn who_loads_gently_gives_way_to_all_others() {
        let (sender, policy) = channel();
        let report = move || {
            sender.send(thread_priority::thread_schedule_policy().unwrap()).unwrap();
            Err(Failure::from("nothing is loaded"))
        };
        Loader::default().gently(report).unwrap_err();
        let idle = thread_priority::NormalThreadSchedulePolicy::Idle;
        assert_eq!(policy.recv().unwrap(), thread_priority::ThreadSchedulePolicy::Normal(idle));
    }

    #[test]
    fn a_panic_is_the_failure_of_one_version() {
        let mut loader = Loader::default();
        let thread = |loader: &mut Loader| {
            let opened = loader.gently(|| Err(format!("{:?}", std::thread::current().id()).into()));
            opened.unwrap_err().to_string()
        };
        let first = thread(&mut loader);
        let failed = loader.gently(|| panic!("on purpose")).unwrap_err();
        assert_eq!(failed.to_string(), "loading it panicked: on purpose");
        assert_eq!(thread(&mut loader), first, "the thread that loads has changed");
        let failed = Loader::swiftly(|| panic!("on purpose")).unwrap_err();
        assert_eq!(failed.to_string(), "loading it panicked: on purpose");
    }
}
