//! What HTTP and gRPC have in common: finding a version, having it answer, and what clients may change.
//!
//! A request is decoded and its answer is made here, between the transports, which only know their own messages, and
//! the scheduler, which only knows tensors. What is small is decoded where it arrives, since handing it to another
//! thread would cost more; what is large goes to the pool, so that the network threads stay free.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use artifact::Selector;
use futures_util::future::BoxFuture;
use network::{NamedTensor, Signature};
use serde::{Deserialize, Serialize};

use crate::error::{Kind, Result, ServeError, shown};
use crate::limits::Limits;
use crate::oip::infer::{self, Plan};
use crate::oip::types::{InferRequest, InferResponse, Schedule};
use crate::payload::too_many;
use crate::repository::Repository;
use crate::served::{Call, Served, Timing};
use crate::settings::Settings;
use crate::state::{self, State};
use crate::stats::{Refusal, micros};
use crate::telemetry;
use crate::traffic::Caller;

/// How many bytes of tensors are read or written in the time of one byte of text.
const BINARY: usize = 16;

/// What a body costs to read or write, in bytes of text ([`Pool::run_sized`](crate::pool::Pool::run_sized)).
#[must_use]
pub fn cost(text: usize, binary: usize) -> usize {
    text.saturating_add(binary / BINARY)
}

/// What loads and unloads models at a client's word.
pub trait Control: Send + Sync + Debug {
    /// Loads a model, or loads it again; the future ends when it serves, with 404 when the repository has no such model
    /// and 400 with the reason when it cannot be loaded.
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Unloads a model; the future ends when it takes no requests any more, with 404 when there is no such model.
    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Hears that something has changed on the disk; nobody waits for what follows.
    fn nudge(&self) {}

    /// Whether a version that the disk names is loaded without being asked for.
    fn follows(&self) -> bool {
        false
    }
}

/// What is the server's own rather than a model's: what clients may see and, where the configuration lets them, change.
#[derive(Debug, Default)]
pub struct Front {
    /// What is logged and traced.
    pub settings: Settings,
    /// Further paths that a platform asks for.
    pub paths: Paths,
    control: OnceLock<Arc<dyn Control>>,
}

/// Paths that a platform chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Paths {
    /// As `/ping`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// As `/invocations`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predict: Option<String>,
}

impl Front {
    /// With further paths.
    #[must_use]
    pub fn new(paths: Paths) -> Self {
        Self { paths, ..Self::default() }
    }

    /// Says what loads and unloads models; the first that says so stays.
    pub fn control_by(&self, control: Arc<dyn Control>) {
        // A second one would be a mistake of the program, and the first works.
        let _ = self.control.set(control);
    }

    /// Tells what loads and unloads models that something has changed on the disk.
    pub fn nudge(&self) {
        if let Some(control) = self.control.get() {
            control.nudge();
        }
    }

    /// Whether a version that the disk names is loaded without being asked for.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.control.get().is_some_and(|control| control.follows())
    }
}

impl Control for Repository {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { Self::load(self, name).await.map(drop) })
    }

    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(Self::unload(self, name))
    }

    fn nudge(&self) {
        Self::nudge(self);
    }

    fn follows(&self) -> bool {
        Self::follows(self)
    }
}

/// Which way a model is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// In.
    Load,
    /// Out.
    Unload,
}

/// Loads or unloads a model. Who asks has been let in by [`crate::access`].
///
/// # Errors
/// Those of [`Control`].
pub async fn change(state: &State, change: Change, name: String) -> Result<()> {
    let control = state.front.control.get();
    let control =
        control.ok_or_else(|| ServeError::unavailable("the server is starting; try again in a second"))?;
    match change {
        Change::Load => control.load(&name).await,
        Change::Unload => control.unload(&name).await,
    }
}

/// The version that is meant: by number or alias, or the one that answers when none is named.
///
/// # Errors
/// 404 when there is no such model, version or alias; 503 when it is not loaded (yet).
pub fn find(state: &State, name: &str, version: Option<&str>) -> Result<Arc<Served>> {
    let version = version.filter(|version| !version.is_empty());
    let selector = version.map_or(Selector::Default, state::selector);
    state.catalog().find(name, &selector).cloned()
}

/// As [`find`], for a request that is to be answered: where it leaves the version to the server, the traffic of the model
/// decides.
///
/// # Errors
/// As [`find`].
pub fn route(state: &State, name: &str, version: Option<&str>, caller: Caller<'_>) -> Result<Arc<Served>> {
    let version = version.filter(|version| !version.is_empty());
    let selector = version.map_or(Selector::Default, state::selector);
    state.catalog().route(name, &selector, caller).cloned()
}

/// Whether a version answers.
///
/// # Errors
/// 503 with the reason when it does not.
pub fn check_ready(state: &State, served: &Served) -> Result<()> {
    let fault = served.predictor().and_then(|predictor| state.health.fault(predictor));
    fault.map_or(Ok(()), |reason| Err(ServeError::unavailable(reason)))
}

/// Has a version answer one request. `decode` reads it, given what the model takes, at the cost of so many bytes of
/// text.
///
/// # Errors
/// Those of decoding, 400 for what does not fit the model, and those of [`Served::ask`].
pub async fn infer(
    state: &State,
    served: &Arc<Served>,
    cost: usize,
    decode: impl FnOnce(&Signature) -> Result<InferRequest> + Send + 'static,
) -> Result<InferResponse> {
    let limits = state.limits;
    telemetry::asks(served);
    let read = {
        let served = Arc::clone(served);
        move || read(&served, &limits, decode)
    };
    let began = Instant::now();
    let done = counted(served, began, state.pool.run_sized(cost, read).await)?;
    let took = began.elapsed().saturating_sub(done.queued);
    let Read { inputs, rows, plan, schedule } = done.value;
    let traced = traced(state, served);
    prepared(served, rows, began + done.queued, took);
    let call = Call {
        inputs,
        priority: u32::try_from(schedule.priority).unwrap_or(u32::MAX),
        timeout: schedule.timeout,
    };
    let asked = Instant::now();
    let answer = served.ask(call).await?;
    telemetry::answered(asked, &answer.timing);
    if traced {
        trace(served, plan.id(), took, &answer.timing);
    }
    let (text, served) = (plan.text(&answer.outputs), Arc::clone(served));
    let respond = move || {
        let labels = served.predictor().map(|predictor| predictor.postprocess().labels.as_slice());
        plan.respond(served.name(), served.version(), answer.outputs, labels.unwrap_or_default())
    };
    Ok(state.pool.run_sized(text, respond).await?.value)
}

/// Whether the settings of tracing choose this request of a version; it counts it. [`trace`] writes the line then.
#[must_use]
pub fn traced(state: &State, served: &Served) -> bool {
    let traced = state.front.settings.is_traced(served.name());
    if traced {
        telemetry::trace();
    }
    traced
}

/// Counts a request for a version that was refused before it came to its queue.
///
/// # Errors
/// That which was given.
pub fn counted<T>(served: &Served, began: Instant, result: Result<T>) -> Result<T> {
    result.inspect_err(|error| {
        let why = match error.kind() {
            Kind::Internal => Refusal::Failed,
            Kind::Unavailable => Refusal::Rejected,
            _ => Refusal::Invalid,
        };
        served.stats().refused(why, began.elapsed());
    })
}

/// Notes that a request was read and preprocessed.
pub fn prepared(served: &Served, rows: usize, start: Instant, took: Duration) {
    served.stats().prepared(took);
    telemetry::prepared(rows, start, took);
}

struct Read {
    inputs: Vec<NamedTensor>,
    rows: usize,
    plan: Plan,
    schedule: Schedule,
}

fn read(
    served: &Served,
    limits: &Limits,
    decode: impl FnOnce(&Signature) -> Result<InferRequest>,
) -> Result<Read> {
    let signature = served.signature();
    let mut request = decode(signature)?;
    for NamedTensor { name, tensor } in &request.inputs {
        let (found, most) = (tensor.elements().len(), limits.max_tensor_elements);
        if found > most {
            let message = format!("input {} has {found} elements; a tensor may have {most}", shown(name));
            return Err(ServeError::new(Kind::TooLarge, message));
        }
    }
    let schedule = std::mem::take(&mut request.schedule);
    let (inputs, plan) = infer::check(served.name(), signature, request)?;
    let rows = match served.rows(&inputs).map_err(ServeError::invalid)? {
        0 => return Err(ServeError::invalid("the batch is empty; expected at least one row")),
        rows if rows > limits.max_rows => return Err(too_many(rows, limits.max_rows)),
        rows => rows,
    };
    Ok(Read { inputs, rows, plan, schedule })
}

/// One line for one request, in microseconds.
pub fn trace(served: &Served, id: Option<&str>, prepare: Duration, timing: &Timing) {
    tracing::info!(
        target: "serve::trace",
        model = served.name(),
        version = served.version(),
        id,
        preprocess_us = micros(prepare),
        queue_us = micros(timing.queue),
        compute_input_us = micros(timing.compute_input),
        compute_infer_us = micros(timing.compute_infer),
        compute_output_us = micros(timing.compute_output),
        batch_rows = timing.batch_rows,
        "trace"
    );
}
