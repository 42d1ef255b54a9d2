//! The directory of models, watched: versions are loaded, verified and warmed up on a thread of their own, swapped
//! into the catalog, and unloaded after their last request.
//!
//! [`Repository`] is the way to that thread; [`index()`] lists what there is and became of it. Requests never wait
//! for either: they read the catalog, which is replaced as a whole ([`crate::state`]).

mod disk;
mod ensembles;
mod index;
mod leaving;
mod listing;
mod policy;
mod settings;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub use self::index::{IndexEntry, index};
pub use self::policy::{Policy, PolicyError};
pub use self::settings::{Mode, RepositoryConfig, Settings};
pub(crate) use self::worker::Worker;
use crate::error::{Result, ServeError};
use crate::load::{LoadError, Options};
use crate::state::State;

/// So many requests may wait for the thread; each may have to load a model first.
const WAITING: usize = 256;

/// What loads and unloads. Clones speak to the same thread.
#[derive(Clone, Debug)]
pub struct Repository {
    commands: SyncSender<Command>,
    /// Whether the directory is watched.
    follows: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Command {
    Load(String, oneshot::Sender<Result<Vec<u64>>>),
    Unload(String, oneshot::Sender<Result<()>>),
    Look(oneshot::Sender<()>),
    Configure(Box<Settings>),
    Stop,
}

impl Repository {
    /// Starts the thread, which loads what is to be served at the start, tells `loaded` how that went, and goes on
    /// watching. Where nothing could be loaded it ends.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        state: Arc<State>,
        registry: artifact::Registry,
        options: Options,
        settings: Settings,
        loaded: impl FnOnce(std::result::Result<(), LoadError>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (commands, received) = sync_channel(WAITING);
        let follows = Arc::new(AtomicBool::new(settings.general.mode == Mode::Watch));
        let repository = Self { commands, follows: Arc::clone(&follows) };
        state.front.control_by(Arc::new(repository.clone()));
        std::thread::Builder::new().name("repository".to_owned()).spawn(move || {
            let mut worker = Worker::new(registry, options, settings);
            let began = worker.begin(&state);
            let failed = began.is_err();
            loaded(began);
            if !failed {
                watch(&mut worker, &state, &received, &follows);
            }
        })?;
        Ok(repository)
    }

    /// Loads a model, or what is new of it, and returns the versions that were loaded for it now. What failed before
    /// is tried again.
    ///
    /// # Errors
    /// 404 for an unknown model; 400 with the reason when a version of it cannot be loaded (what served goes on
    /// serving) or models are fixed; 503 when too many such requests wait.
    pub async fn load(&self, name: &str) -> Result<Vec<u64>> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Load(name.to_owned(), reply))?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Unloads a model: no new request reaches it, those under way finish. It stays unloaded until it is loaded by
    /// its name, or the server starts again.
    ///
    /// # Errors
    /// As [`Repository::load`].
    pub async fn unload(&self, name: &str) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Unload(name.to_owned(), reply))?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Looks at the directory now instead of when it is time, and returns when what follows has been done.
    ///
    /// # Errors
    /// 503 when too many requests wait or the server ends.
    pub async fn look(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Look(reply))?;
        answer.await.map_err(|_| stopped())
    }

    /// Looks at the directory soon; nobody waits for it.
    pub fn nudge(&self) {
        // Where there is no room, a look will come anyway.
        let _ = self.commands.try_send(Command::Look(oneshot::channel().0));
    }

    /// Whether a version that the directory names, by an alias too, is loaded without being asked for.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.follows.load(Ordering::Acquire)
    }

    /// Gives the thread other settings, which it takes when it has done what it does.
    ///
    /// # Errors
    /// 503 when too many requests wait or the server ends.
    pub fn configure(&self, settings: Settings) -> Result<()> {
        self.send(Command::Configure(Box::new(settings)))
    }

    /// Ends the thread when it has done what it does; what is served stays served.
    pub fn stop(&self) {
        // When so many wait that there is no room, the process will end before the thread.
        let _ = self.commands.try_send(Command::Stop);
    }

    fn send(&self, command: Command) -> Result<()> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => ServeError::unavailable(
                "too many requests wait for the repository already; try again in a second",
            ),
            TrySendError::Disconnected(_) => stopped(),
        })
    }
}

fn stopped() -> ServeError {
    ServeError::unavailable("the repository has stopped; the server is about to end")
}

/// The thread's life after the start.
fn watch(worker: &mut Worker, state: &State, received: &Receiver<Command>, follows: &AtomicBool) {
    let mut looked = Instant::now();
    loop {
        worker.sweep(state);
        let general = &worker.settings().general;
        let period = match general.mode {
            Mode::Watch | Mode::Explicit => Duration::from_millis(general.poll_ms),
            Mode::None => Duration::from_secs(3600),
        };
        let looks = general.mode != Mode::None;
        let wait = period.saturating_sub(looked.elapsed());
        let wait = worker.pause().map_or(wait, |pause| pause.min(wait));
        let command = match received.recv_timeout(wait) {
            Ok(command) => command,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                if looked.elapsed() >= period {
                    if looks {
                        worker.refresh(state);
                    }
                    looked = Instant::now();
                }
                continue;
            }
        };
        // Nobody may wait for an answer any more.
        match command {
            Command::Load(name, reply) => {
                let _ = reply.send(worker.load(state, &name).map(|outcome| outcome.loaded));
            }
            Command::Unload(name, reply) => {
                let _ = reply.send(worker.unload(state, &name));
            }
            Command::Look(reply) => {
                worker.refresh(state);
                let _ = reply.send(());
            }
            Command::Configure(settings) => {
                follows.store(settings.general.mode == Mode::Watch, Ordering::Release);
                worker.configure(state, *settings);
            }
            Command::Stop => return,
        }
    }
}
