//! How long a server waits for a model that it has just been told about: load a package, answer one request.

use std::time::Instant;

use artifact::{Draft, Manifest, ModelRef, Registry, Selector};
use network::{Postprocess, Preprocess, RawInput, Task};
use predict::{DeviceSpec, Predictor};
use serde::Serialize;

use super::subject::Subject;
use super::{BenchError, median};

/// From a package on the disk to the first answer, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FirstAnswer {
    /// The network.
    pub network: String,
    /// The first time in the process, which starts threads.
    pub cold_ms: f64,
    /// The median of the times after that.
    pub warm_ms: f64,
    /// Of that, what opening and compiling took.
    pub warm_load_ms: f64,
}

/// Packs the network, then opens it and asks it once, several times over.
pub(super) fn first_answer(subject: &Subject, turns: usize) -> Result<FirstAnswer, BenchError> {
    let folder = tempfile::tempdir()?;
    let registry = Registry::open(folder.path())?;
    let labels = (0..10).map(|label| label.to_string()).collect();
    let manifest = Manifest::new(
        "first",
        &subject.network,
        Preprocess::Numbers { shape: subject.network.input_shape().to_vec() },
        Postprocess::new(Task::MultiClass, labels),
    );
    let published = registry.publish("first", Draft::new(manifest, subject.weights().clone()))?;
    let reference = ModelRef { name: published.name, selector: Selector::Version(published.version) };
    let input = RawInput::Numbers(subject.samples.iter().copied().take(subject.row_values()).collect());
    let once = || -> Result<(f64, f64), BenchError> {
        let start = Instant::now();
        let predictor = Predictor::open(&registry, &reference, DeviceSpec::Cpu)?;
        let loaded = start.elapsed();
        std::hint::black_box(predictor.predict(std::slice::from_ref(&input))?);
        Ok((start.elapsed().as_secs_f64() * 1e3, loaded.as_secs_f64() * 1e3))
    };
    let (cold_ms, _) = once()?;
    let (mut answers, mut loads) = (Vec::new(), Vec::new());
    for _ in 0..turns.max(3) {
        let (answer, load) = once()?;
        answers.push(answer);
        loads.push(load);
    }
    let (warm_ms, warm_load_ms) = (median(&mut answers), median(&mut loads));
    Ok(FirstAnswer { network: subject.name.clone(), cold_ms, warm_ms, warm_load_ms })
}
