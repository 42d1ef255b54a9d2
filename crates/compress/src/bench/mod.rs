//! How fast the CPU engine is, beside ONNX Runtime on the same weights, inputs and threads.
//!
//! All sides take turns in one run, so that a machine that changes its speed changes all of them; what is told is
//! the median of the turns, each of which is the median of its passes. Beside every figure stands what the
//! processor can do at most, measured with the same number of threads at once.

mod figures;
mod first;
mod peer;
mod subject;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::{Ceilings, Isa, Pool, Precision, Program, RunError, Scratch};

pub use self::figures::{Bandwidth, Bench, Ceiling, Compiled, PeerSpeed, Row, Speed};
pub use self::first::FirstAnswer;
use self::first::first_answer;
use self::peer::Turn;
pub use self::peer::{Peer, PeerError};
use self::subject::{CALIBRATION_ROWS, Subject};

/// After a pass the threads of ONNX Runtime look for more work for a while, up to some tens of milliseconds, and
/// whoever is measured meanwhile has fewer processors: the next turn waits for them to sleep.
const CALM: Duration = Duration::from_millis(100);

/// How closely both must agree in f32: the greatest difference over the greatest output.
const AGREEMENT: f32 = 1e-3;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Presets by name.
    pub presets: Vec<String>,
    /// Rows per pass.
    pub batches: Vec<usize>,
    /// Numbers of threads.
    pub threads: Vec<usize>,
    /// How many turns each side takes.
    pub turns: usize,
    /// How long a turn takes, in seconds.
    pub turn_seconds: f64,
}

/// A measurement that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "most wrap the error of one step; the messages name the fields")]
pub enum BenchError {
    #[error(transparent)]
    Preset(#[from] network::PresetError),
    #[error(transparent)]
    Shape(#[from] network::ShapeError),
    #[error(transparent)]
    Quantize(#[from] crate::quantize::QuantizeError),
    #[error(transparent)]
    Isa(#[from] engine::IsaError),
    #[error(transparent)]
    Compile(#[from] engine::CompileError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Export(#[from] export::ExportError),
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Registry(#[from] artifact::RegistryError),
    #[error(transparent)]
    Predict(#[from] predict::PredictError),
    #[error("a file for the measurement cannot be written")]
    File(#[from] std::io::Error),
    #[error(
        "`{network}`: ONNX Runtime answers otherwise than Brazier, by {difference:e} of the greatest output"
    )]
    Different { network: String, difference: f32 },
}

/// A model of the peer's.
struct Theirs {
    name: &'static str,
    precision: Precision,
    file: PathBuf,
}

/// A side's turns.
#[derive(Default)]
struct Turns {
    medians: Vec<f64>,
    least: f64,
}

impl Turns {
    fn add(&mut self, turn: Turn) {
        self.least = if self.medians.is_empty() { turn.least } else { self.least.min(turn.least) };
        self.medians.push(turn.median);
    }

    fn speed(&mut self, batch: usize) -> Speed {
        let median = median(&mut self.medians);
        Speed { median_us: median * 1e6, least_us: self.least * 1e6, rows_per_second: batch as f64 / median }
    }
}

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

/// Measures everything; `tell` hears what is measured now.
///
/// # Errors
/// When a side fails, or both do not compute the same. Without a peer only Brazier is measured.
pub fn engine(
    options: &Options,
    mut peer: Option<&mut Peer>,
    tell: &mut dyn FnMut(&str),
) -> Result<Bench, BenchError> {
    let isa = Isa::from_environment()?;
    tell("what the processor can do at most");
    let ceilings: Vec<Ceiling> = options
        .threads
        .iter()
        .map(|&threads| Ceiling { threads, ceilings: ceilings(isa, threads) })
        .collect();
    let bandwidth = [1 << 20, 16 << 20, 512 << 20];
    let bandwidth =
        bandwidth.map(|bytes| Bandwidth { bytes, gigabytes: engine::bandwidth_ceiling(isa, bytes) });
    let peer_call = match peer.as_deref_mut() {
        Some(peer) => peer.empty_call()?,
        None => None,
    };
    let mut bench = Bench {
        isa: isa.to_string(),
        processor: engine::processor(),
        ceilings,
        bandwidth: bandwidth.to_vec(),
        peer_version: peer.as_ref().map(|peer| peer.version().to_owned()),
        peer_call_us: peer_call.map(|seconds| seconds * 1e6),
        no_quantizer: None,
        rows: Vec::new(),
        programs: Vec::new(),
        first_answer: first_answer(&Subject::new("lenet5")?, options.turns)?,
    };
    for preset in &options.presets {
        tell(preset);
        measure(preset, options, peer.as_deref_mut(), &mut bench)?;
    }
    Ok(bench)
}

fn measure(
    preset: &str,
    options: &Options,
    mut peer: Option<&mut Peer>,
    bench: &mut Bench,
) -> Result<(), BenchError> {
    let subject = Subject::new(preset)?;
    let folder = tempfile::tempdir()?;
    let theirs = match peer.as_deref_mut() {
        Some(peer) => prepare(&subject, folder.path(), peer, &mut bench.no_quantizer)?,
        None => Vec::new(),
    };
    let mut programs = Vec::new();
    for precision in PRECISIONS {
        let mut times = Vec::new();
        let program = loop {
            let (program, took) = subject.compile(precision)?;
            times.push(took.as_secs_f64() * 1e3);
            if times.len() == 5 {
                break program;
            }
        };
        bench.programs.push(Compiled {
            network: preset.to_owned(),
            precision,
            compile_ms: median(&mut times),
            weight_bytes: program.weight_bytes(),
            scratch_bytes: program.scratch_bytes(),
            block_rows: program.block_rows(),
        });
        programs.push((precision, program));
    }
    for ceiling in bench.ceilings.clone() {
        let pool = Pool::new(ceiling.threads);
        if let Some(peer) = peer.as_deref_mut() {
            for model in &theirs {
                peer.load(model.name, &model.file, ceiling.threads)?;
            }
        }
        for &batch in &options.batches {
            let peer = peer.as_deref_mut().map(|peer| (peer, theirs.as_slice()));
            let inputs = folder.path().join("inputs");
            let mut run = Run { subject: &subject, batch, pool: &pool, inputs, options };
            bench.rows.extend(run.rows(&programs, peer, &ceiling)?);
        }
        if let Some(peer) = peer.as_deref_mut() {
            peer.drop_all()?;
        }
    }
    Ok(())
}

/// Writes the models of the peer's: ours as ONNX, in floats and in int8, and what its own quantizer makes of the
/// first with the same calibration rows.
fn prepare(
    subject: &Subject,
    folder: &Path,
    peer: &mut Peer,
    no_quantizer: &mut Option<String>,
) -> Result<Vec<Theirs>, BenchError> {
    let model = |name, precision, file: &str| Theirs { name, precision, file: folder.join(file) };
    let mut models = vec![
        model("f32", Precision::F32, "f32.onnx"),
        model("int8 (exported)", Precision::Int8, "exported.onnx"),
    ];
    std::fs::write(&models[0].file, subject.onnx(false)?)?;
    std::fs::write(&models[1].file, subject.onnx(true)?)?;
    let samples = folder.join("samples");
    write_floats(&samples, &subject.samples)?;
    let own = model("int8 (its quantizer)", Precision::Int8, "own.onnx");
    let shape = [&[CALIBRATION_ROWS], subject.network.input_shape()].concat();
    match peer.quantize(&models[0].file, &own.file, &samples, &shape)? {
        None => models.push(own),
        reason => *no_quantizer = reason,
    }
    Ok(models)
}

/// One size of batch on so many threads.
struct Run<'a> {
    subject: &'a Subject,
    batch: usize,
    pool: &'a Pool,
    inputs: PathBuf,
    options: &'a Options,
}

impl Run<'_> {
    fn rows(
        &mut self,
        programs: &[(Precision, Program)],
        mut peer: Option<(&mut Peer, &[Theirs])>,
        ceiling: &Ceiling,
    ) -> Result<Vec<Row>, BenchError> {
        let rows: Vec<f32> = self
            .subject
            .samples
            .iter()
            .copied()
            .cycle()
            .take(self.batch * self.subject.row_values())
            .collect();
        let mut sides: Vec<Side> =
            programs.iter().map(|(_, program)| Side::new(program, ceiling.threads, self.batch)).collect();
        if let Some((peer, models)) = &mut peer {
            write_floats(&self.inputs, &rows)?;
            let shape = [&[self.batch], self.subject.network.input_shape()].concat();
            for model in *models {
                let theirs = peer.prepare(model.name, &self.inputs, &shape)?;
                if model.precision == Precision::F32 {
                    let ours = sides[0].answer(self.pool, &rows)?;
                    self.compare(ours, &theirs)?;
                }
            }
        }
        let mut ours: Vec<Turns> = sides.iter().map(|_| Turns::default()).collect();
        let models = peer.as_ref().map_or(&[][..], |(_, models)| *models);
        let mut theirs: Vec<Turns> = models.iter().map(|_| Turns::default()).collect();
        let seconds = self.options.turn_seconds;
        let calm = if ceiling.threads > 1 { CALM } else { Duration::ZERO };
        for _ in 0..self.options.turns.max(1) {
            for (side, turns) in sides.iter_mut().zip(&mut ours) {
                turns.add(side.turn(self.pool, &rows, seconds)?);
            }
            if let Some((peer, models)) = &mut peer {
                for (model, turns) in models.iter().zip(&mut theirs) {
                    turns.add(peer.turn(model.name, seconds)?);
                    std::thread::sleep(calm);
                }
            }
        }
        let speed = |(model, turns): (&Theirs, &mut Turns)| {
            let told = PeerSpeed { model: model.name.to_owned(), speed: turns.speed(self.batch) };
            (model.precision, told)
        };
        let theirs: Vec<(Precision, PeerSpeed)> = models.iter().zip(&mut theirs).map(speed).collect();
        let fastest = |precision: Precision| {
            let same = theirs.iter().filter(|(other, _)| *other == precision).map(|(_, told)| told);
            same.min_by(|a, b| a.speed.median_us.total_cmp(&b.speed.median_us))
        };
        let row = |(&(precision, _), turns): (&(Precision, Program), &mut Turns)| {
            let brazier = turns.speed(self.batch);
            let theirs = fastest(precision).or_else(|| fastest(Precision::F32));
            let ratio = |told: &PeerSpeed| told.speed.median_us / brazier.median_us;
            let gmacs = self.subject.network.macs() as f64 * brazier.rows_per_second / 1e9;
            Row {
                network: self.subject.name.clone(),
                precision,
                batch: self.batch,
                threads: ceiling.threads,
                ratio: theirs.map(ratio),
                ratio_to_f32: fastest(Precision::F32).map(ratio),
                onnxruntime: theirs.cloned(),
                gmacs,
                of_ceiling: gmacs / ceiling.ceilings.of(precision),
                brazier,
            }
        };
        Ok(programs.iter().zip(&mut ours).map(row).collect())
    }

    fn compare(&self, ours: &[f32], theirs: &[f32]) -> Result<(), BenchError> {
        let greatest = theirs.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
        // What is not a number is infinitely far from everything.
        let far = |a: f32, b: f32| if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
        let apart = ours.iter().zip(theirs).fold(0.0f32, |most, (a, b)| most.max(far(*a, *b)));
        let difference = if ours.len() == theirs.len() { apart / greatest } else { f32::INFINITY };
        if difference <= AGREEMENT {
            return Ok(());
        }
        Err(BenchError::Different { network: self.subject.name.clone(), difference })
    }
}

/// A program with its memory.
struct Side<'a> {
    program: &'a Program,
    scratch: Scratch,
    output: Vec<f32>,
    batch: usize,
}

impl<'a> Side<'a> {
    fn new(program: &'a Program, threads: usize, batch: usize) -> Self {
        let values = program.outputs().iter().map(|port| port.values).sum::<usize>();
        let (scratch, output) = (program.scratch_for(threads), vec![0.0; batch * values]);
        Self { program, scratch, output, batch }
    }

    fn answer(&mut self, pool: &Pool, rows: &[f32]) -> Result<&[f32], RunError> {
        let outputs = &mut [self.output.as_mut_slice()];
        self.program.run_all(Some(pool), &mut self.scratch, &[rows], self.batch, outputs)?;
        Ok(&self.output)
    }

    /// As [`Peer::turn`].
    fn turn(&mut self, pool: &Pool, rows: &[f32], seconds: f64) -> Result<Turn, RunError> {
        self.timed(pool, rows, seconds / 4.0)?;
        let mut times = self.timed(pool, rows, seconds)?;
        let least = times.iter().copied().fold(f64::INFINITY, f64::min);
        Ok(Turn { median: median(&mut times), least })
    }

    fn timed(&mut self, pool: &Pool, rows: &[f32], seconds: f64) -> Result<Vec<f64>, RunError> {
        let began = Instant::now();
        let mut times = Vec::new();
        while times.len() < 3 || began.elapsed().as_secs_f64() < seconds {
            let start = Instant::now();
            std::hint::black_box(self.answer(pool, std::hint::black_box(rows))?);
            times.push(start.elapsed().as_secs_f64());
        }
        Ok(times)
    }
}

/// What so many threads reach at once.
fn ceilings(isa: Isa, threads: usize) -> Ceilings {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(move || Ceilings::measure(isa))).collect();
        let mut sum = Ceilings::measure(isa);
        // A thread that the system did not give adds nothing.
        for other in others.into_iter().filter_map(|other| other.join().ok()) {
            sum.f32_gmacs += other.f32_gmacs;
            sum.bf16_gmacs = sum.bf16_gmacs.zip(other.bf16_gmacs).map(|(sum, other)| sum + other);
            sum.int8_gmacs += other.int8_gmacs;
        }
        sum
    })
}

fn write_floats(path: &Path, values: &[f32]) -> std::io::Result<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
    std::fs::write(path, bytes)
}

/// The middle one; 0 of none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            presets: vec!["mlp".to_owned()],
            batches: vec![1, 3],
            threads: vec![1, 2],
            turns: 1,
            turn_seconds: 0.001,
        }
    }

    #[test]
    fn every_combination_is_measured_once() {
        let bench = engine(&options(), None, &mut |_| ()).unwrap();
        let told: Vec<_> = bench.rows.iter().map(|row| (row.threads, row.batch, row.precision)).collect();
        let expected: Vec<_> = [1, 2]
            .into_iter()
            .flat_map(|threads| [1, 3].map(|batch| (threads, batch)))
            .flat_map(|(threads, batch)| PRECISIONS.map(|precision| (threads, batch, precision)))
            .collect();
        assert_eq!(told, expected);
        assert!(bench.rows.iter().all(|row| row.onnxruntime.is_none() && row.brazier.median_us > 0.0));
        assert_eq!(bench.programs.len(), PRECISIONS.len());
        let unknown = Options { presets: vec!["lenet6".to_owned()], ..options() };
        let error = engine(&unknown, None, &mut |_| ()).unwrap_err();
        assert!(matches!(error, BenchError::Preset(_)), "{error:?}");
    }

    /// Where `python3` or the active virtual environment has ONNX Runtime.
    #[test]
    fn onnx_runtime_answers_the_same() {
        let environment = std::env::var_os("VIRTUAL_ENV").map(|folder| Path::new(&folder).join("bin/python"));
        let mut pythons = environment.into_iter().chain([PathBuf::from("python3")]);
        let Some(mut peer) = pythons.find_map(|python| Peer::start(&python).ok()) else {
            eprintln!("skipped: no Python here has ONNX Runtime");
            return;
        };
        let options = Options { presets: vec!["mlp".to_owned(), "digits-cnn".to_owned()], ..options() };
        let bench = engine(&options, Some(&mut peer), &mut |_| ()).unwrap();
        assert!(bench.peer_version.is_some());
        for row in &bench.rows {
            let theirs = row.onnxruntime.as_ref().unwrap();
            let expected = if row.precision == Precision::Int8 { "int8" } else { "f32" };
            assert!(theirs.model.starts_with(expected), "{row:?}");
            assert!(row.ratio.is_some() && row.ratio_to_f32.is_some(), "{row:?}");
        }
    }
}
