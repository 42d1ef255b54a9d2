//! Executors that do what a test needs, and requests for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use network::{DType, Dim, Elements, NamedTensor, Signature, Tensor, TensorSpec};
use serve::executor::{ExecuteError, Executor};
use serve::scheduler::{QueueSettings, Scheduler, SchedulerOptions};
use serve::served::{Answer, AskError, Call, Served};

/// Gives back the integers that it is given, and notes what it was given. A row with [`BAD`] fails with all that are
/// beside it, one with [`PANIC`] makes it panic.
#[derive(Debug)]
pub(crate) struct Echo {
    signature: Signature,
    max_rows: usize,
    /// The first number of each row, call by call.
    calls: Mutex<Vec<Vec<i64>>>,
    pause: Duration,
    shut: AtomicBool,
    gate: Mutex<Gate>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Gate {
    inside: usize,
    let_through: usize,
}

pub(crate) const BAD: i64 = 666;
pub(crate) const PANIC: i64 = 667;
/// The error says which row it is.
pub(crate) const BAD_ROW: i64 = 668;
/// One row too few is given back.
pub(crate) const SHORT: i64 = 669;

/// Numbers of a row.
pub(crate) const WIDTH: usize = 3;

fn spec(name: &str, dims: Vec<Dim>) -> TensorSpec {
    TensorSpec { name: name.to_owned(), dtype: DType::I64, dims }
}

impl Echo {
    pub(crate) fn new(max_rows: usize) -> Self {
        let dims = vec![Dim::Named("batch".to_owned()), Dim::Fixed(WIDTH)];
        Self::of(dims, max_rows)
    }

    /// Rows whose length varies.
    pub(crate) fn of_any_width(max_rows: usize) -> Self {
        Self::of(vec![Dim::Named("batch".to_owned()), Dim::Named("length".to_owned())], max_rows)
    }

    fn of(dims: Vec<Dim>, max_rows: usize) -> Self {
        let signature = Signature { inputs: vec![spec("x", dims.clone())], outputs: vec![spec("x", dims)] };
        Self {
            signature,
            max_rows,
            calls: Mutex::default(),
            pause: Duration::ZERO,
            shut: AtomicBool::new(false),
            gate: Mutex::default(),
            moved: Condvar::new(),
        }
    }

    /// Every call takes so long.
    pub(crate) fn pausing(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// From now on calls wait inside until they are let through.
    pub(crate) fn shut(self) -> Self {
        self.shut.store(true, Ordering::SeqCst);
        self
    }

    /// Whether a call is inside.
    pub(crate) fn is_inside(&self) -> bool {
        self.gate.lock().unwrap().inside > 0
    }

    /// Opens the gate for good.
    pub(crate) fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
        self.gate.lock().unwrap().let_through = usize::MAX;
        self.moved.notify_all();
    }

    /// What it was given, call by call.
    pub(crate) fn calls(&self) -> Vec<Vec<i64>> {
        self.calls.lock().unwrap().clone()
    }
}

impl Executor for Echo {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn platform(&self) -> &'static str {
        "test"
    }

    fn max_rows(&self) -> usize {
        self.max_rows
    }

    fn run(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
        if self.shut.load(Ordering::SeqCst) {
            let mut gate = self.gate.lock().unwrap();
            gate.inside += 1;
            while gate.let_through == 0 {
                gate = self.moved.wait(gate).unwrap();
            }
            gate.inside -= 1;
        }
        std::thread::sleep(self.pause);
        let tensor = &inputs[0].tensor;
        let Elements::I64(values) = tensor.elements() else { panic!("{tensor:?}") };
        let width = tensor.shape()[1];
        let firsts: Vec<i64> = values.chunks(width).map(|row| row[0]).collect();
        self.calls.lock().unwrap().push(firsts.clone());
        let place = |what: i64| firsts.iter().position(|first| *first == what);
        assert!(place(PANIC).is_none(), "on purpose, /tmp/secret");
        if place(BAD).is_some() {
            return Err(ExecuteError::Failed("on purpose, /tmp/secret".to_owned()));
        }
        if let Some(row) = place(BAD_ROW) {
            return Err(ExecuteError::Row { row, reason: "it is 668".to_owned() });
        }
        if place(SHORT).is_some() {
            let tensor = tensor.slice_rows(0..tensor.rows() - 1).unwrap();
            return Ok(vec![NamedTensor { name: "x".to_owned(), tensor }]);
        }
        Ok(inputs.to_vec())
    }
}

/// Rows of which each begins with one of `firsts`.
pub(crate) fn rows(firsts: &[i64]) -> Vec<NamedTensor> {
    rows_of(WIDTH, firsts)
}

pub(crate) fn rows_of(width: usize, firsts: &[i64]) -> Vec<NamedTensor> {
    let values = firsts.iter().flat_map(|first| (0..width as i64).map(move |i| first + i * 1_000_000));
    let tensor = Tensor::new(vec![firsts.len(), width], Elements::I64(values.collect())).unwrap();
    vec![NamedTensor { name: "x".to_owned(), tensor }]
}

pub(crate) fn call(firsts: &[i64]) -> Call {
    Call { inputs: rows(firsts), ..Call::default() }
}

/// A request under way.
pub(crate) type Sent = actix_web::rt::task::JoinHandle<Result<Answer, AskError>>;

/// A version over an executor, with one worker.
pub(crate) struct Server {
    pub(crate) served: Arc<Served>,
    pub(crate) echo: Arc<Echo>,
}

/// The executor is shared with the test.
#[derive(Debug)]
pub(crate) struct Shared(pub(crate) Arc<Echo>);

impl Executor for Shared {
    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn platform(&self) -> &str {
        self.0.platform()
    }

    fn max_rows(&self) -> usize {
        self.0.max_rows()
    }

    fn run(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
        self.0.run(inputs)
    }
}

impl Server {
    pub(crate) fn new(echo: Echo, settings: QueueSettings) -> Self {
        Self::with(echo, &scheduler(1, settings))
    }

    pub(crate) fn with(echo: Echo, scheduler: &Scheduler) -> Self {
        let echo = Arc::new(echo);
        let served = Served::new("echo", 1, Arc::new(Shared(Arc::clone(&echo))), scheduler, &Arc::default());
        Self { served, echo }
    }

    /// Asks, and goes on while the answer comes.
    pub(crate) fn send(&self, call: Call) -> Sent {
        let served = Arc::clone(&self.served);
        actix_web::rt::spawn(async move { served.ask(call).await })
    }

    /// Has the worker take a request, and waits until it is inside the gate.
    pub(crate) async fn occupy(&self) -> Sent {
        self.occupy_with(call(&[0])).await
    }

    /// As [`Server::occupy`]. On a machine that is busy a request with little time may have to be sent again.
    pub(crate) async fn occupy_with(&self, call: Call) -> Sent {
        loop {
            let sent = self.send(call.clone());
            while !sent.is_finished() {
                if self.echo.is_inside() {
                    return sent;
                }
                actix_web::rt::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Waits until so many requests wait.
    pub(crate) async fn wait_for(&self, requests: usize) {
        while self.served.waiting().0 != requests {
            actix_web::rt::task::yield_now().await;
        }
    }
}

pub(crate) fn scheduler(workers: usize, queue: QueueSettings) -> Scheduler {
    Scheduler::new(SchedulerOptions { workers, queue, ..SchedulerOptions::default() }).unwrap()
}

/// Checks that an answer is what was asked.
pub(crate) fn assert_echo(answer: &Result<Answer, AskError>, firsts: &[i64]) {
    assert_eq!(answer.as_ref().unwrap().outputs, rows(firsts));
}
