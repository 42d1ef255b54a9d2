//! A network on the CPU engine: compiled once, shared by all threads.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use artifact::RecordError;
use engine::{CompileError, Isa, Options, Pool, Profile, Program, Scratch};
use model::{DeviceError, DeviceSpec};
use network::{Network, Quantization, Weights};

use crate::error::PredictError;

/// How often a step is run to be timed.
const PROFILE_REPEATS: usize = 20;

/// A compiled network with the memory of the threads that run it.
#[derive(Debug)]
pub(crate) struct Compiled {
    program: Program,
    /// How long compiling took.
    compiling: Duration,
    /// The memory of the call that the pool helps. One at a time has it.
    shared: Mutex<Option<Scratch>>,
    /// The memory of calls that meanwhile run alone; as many are made as ever did at once.
    alone: Mutex<Vec<Scratch>>,
    /// Whether it has run with the pool. Until then a thread that computes alone takes the memory of that call: who
    /// warms it up leaves no second one behind.
    helped: AtomicBool,
}

impl Compiled {
    /// Compiles a network with the weights of its record: integers and scales where the plan says so, unless
    /// `bf16` is the precision of all.
    pub(crate) fn new(
        network: &Network,
        weights: &Weights,
        quantization: Option<&Quantization>,
        bf16: bool,
    ) -> Result<Self, PredictError> {
        let start = Instant::now();
        let options = Options::default().with_bf16(bf16);
        let program = match Program::from_record(network, weights, quantization, options) {
            // A record that is not that of the plan is told as everywhere else.
            Err(CompileError::Quantization(error)) => return Err(RecordError::from(error).into()),
            program => program?,
        };
        let (shared, alone, helped) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Ok(Self { program, compiling: start.elapsed(), shared, alone, helped })
    }

    /// Times every step, on this thread.
    pub(crate) fn profile(&self) -> Profile {
        Profile::measure(&self.program, self.compiling, PROFILE_REPEATS)
    }

    pub(crate) fn isa(&self) -> Isa {
        self.program.isa()
    }

    /// Runs `rows` rows of all inputs, each in row-major order, and returns all outputs.
    pub(crate) fn run(&self, inputs: &[&[f32]], rows: usize) -> Result<Vec<Vec<f32>>, PredictError> {
        // With as many callers as processors, memory for all threads for each of them would be the square of what
        // is used: the pool helps one at a time anyway.
        let by_itself = network::background::is_background();
        if !(by_itself && self.helped.load(Ordering::Relaxed))
            && let Ok(mut shared) = self.shared.try_lock()
        {
            let pool = if by_itself { None } else { pool() };
            self.helped.fetch_or(!by_itself, Ordering::Relaxed);
            let mut scratch =
                shared.take().unwrap_or_else(|| self.program.scratch_for(model::device::threads()));
            let outputs = self.run_with(pool, &mut scratch, inputs, rows)?;
            *shared = Some(scratch);
            return Ok(outputs);
        }
        let free = self.alone.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = free.unwrap_or_else(|| self.program.scratch());
        let outputs = self.run_with(None, &mut scratch, inputs, rows)?;
        self.alone.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        Ok(outputs)
    }

    /// A scratch that comes back from a failure is not used again.
    fn run_with(
        &self,
        pool: Option<&Pool>,
        scratch: &mut Scratch,
        inputs: &[&[f32]],
        rows: usize,
    ) -> Result<Vec<Vec<f32>>, PredictError> {
        let mut outputs: Vec<Vec<f32>> =
            self.program.outputs().iter().map(|port| vec![0.0; rows * port.values]).collect();
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        // A panic in there would be a bug; it ends this call and nothing else.
        let run = || self.program.run_all(pool, scratch, inputs, rows, &mut slices);
        let ran = catch_unwind(AssertUnwindSafe(run)).map_err(|panic| failed(panic.as_ref()))?;
        ran.map_err(|error| PredictError::Internal { reason: error.to_string() })?;
        Ok(outputs)
    }
}

fn failed(panic: &(dyn Any + Send)) -> PredictError {
    let reason = model::device::panic_message(panic).to_owned();
    PredictError::Device(DeviceError::Failed { device: DeviceSpec::Cpu, reason })
}

/// The threads of the process: as many as compute in Burn ([`model::device::set_threads`]). A program that finds
/// them busy runs on the calling thread alone, so callers never wait for each other.
fn pool() -> Option<&'static Pool> {
    static POOL: OnceLock<Option<Pool>> = OnceLock::new();
    let start = || {
        let threads = model::device::threads();
        (threads > 1).then(|| Pool::new(threads))
    };
    POOL.get_or_init(start).as_ref()
}
