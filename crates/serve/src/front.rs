//! What HTTP and gRPC have in common: finding a version, having it answer, and what clients may change.
//!
//! A request is decoded and its answer is made here, between the transports, which only know their own messages, and
//! the scheduler, which only knows tensors. What is small is decoded where it arrives, since handing it to another
//! thread would cost more; what is large goes to the pool, so that the network threads stay free.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

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
}

/// Refuses a change unless changes are allowed.
///
/// # Errors
/// 403 with what allows them.
pub fn check_changes(state: &State) -> Result<()> {
    if state.changes_allowed() {
        return Ok(());
    }
    Err(ServeError::new(
        Kind::Forbidden,
        "this server takes no changes from clients; it would with `repository.allow_changes = true`",
    ))
}

impl Control for Repository {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { Self::load(self, name).await.map(drop) })
    }

    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(Self::unload(self, name))
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

/// Loads or unloads a model.
///
/// # Errors
/// 403 unless changes are allowed, otherwise those of [`Control`].
pub async fn change(state: &State, change: Change, name: String) -> Result<()> {
    check_changes(state)?;
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
    let read = {
        let served = Arc::clone(served);
        move || read(&served, &limits, decode)
    };
    let Read { inputs, plan, schedule, id } = state.pool.run_sized(cost, read).await?.value;
    let traced = state.front.settings.is_traced(served.name());
    let call = Call {
        inputs,
        priority: u32::try_from(schedule.priority).unwrap_or(u32::MAX),
        timeout: schedule.timeout,
        id: id.clone(),
    };
    let answer = served.ask(call).await?;
    if traced {
        trace(served, id.as_deref(), &answer.timing);
    }
    let labels = served.predictor().map(|predictor| predictor.postprocess().labels.as_slice());
    plan.respond(served.name(), &served.version().to_string(), answer.outputs, labels.unwrap_or_default())
}

struct Read {
    inputs: Vec<NamedTensor>,
    plan: Plan,
    schedule: Schedule,
    id: Option<String>,
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
    let id = request.id.clone();
    let (inputs, plan) = infer::check(served.name(), signature, request)?;
    match served.rows(&inputs).map_err(ServeError::invalid)? {
        0 => return Err(ServeError::invalid("the batch is empty; expected at least one row")),
        rows if rows > limits.max_rows => return Err(too_many(rows, limits.max_rows)),
        _ => {}
    }
    Ok(Read { inputs, plan, schedule, id })
}

/// One line for one request, in microseconds.
fn trace(served: &Served, id: Option<&str>, timing: &Timing) {
    let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    tracing::info!(
        target: "serve::trace",
        model = served.name(),
        version = served.version(),
        id,
        queue_us = micros(timing.queue),
        compute_input_us = micros(timing.compute_input),
        compute_infer_us = micros(timing.compute_infer),
        compute_output_us = micros(timing.compute_output),
        batch_rows = timing.batch_rows,
        "trace"
    );
}
