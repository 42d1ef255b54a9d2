//! ONNX Runtime, if there is one.

use std::env;
use std::sync::OnceLock;

use network::NamedTensor;
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

/// Where the shared library is.
const LIBRARY: &str = "ORT_DYLIB_PATH";
/// Set where a test that is skipped is a failure.
const REQUIRED: &str = "BRAZIER_REQUIRE_ONNXRUNTIME";

/// Whether ONNX Runtime is here. Where it is not, says so once.
///
/// # Panics
/// When it is required and not there, or cannot be loaded.
pub(crate) fn is_here() -> bool {
    environment().is_some()
}

fn environment() -> Option<&'static Environment> {
    static ENVIRONMENT: OnceLock<Option<Environment>> = OnceLock::new();
    let load = || {
        let path = env::var(LIBRARY).unwrap_or_default();
        if path.is_empty() {
            let required = env::var(REQUIRED).is_ok_and(|value| value == "1");
            assert!(!required, "{REQUIRED}=1, but {LIBRARY} does not say where ONNX Runtime is");
            eprintln!("skipped: set {LIBRARY} to ONNX Runtime's shared library to run this test");
            return None;
        }
        let builder = ort::init_from(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Some(builder.with_telemetry(false).build().unwrap())
    };
    ENVIRONMENT.get_or_init(load).as_ref()
}

/// How the runtime may change the graph before it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Optimize {
    /// Node by node as written: quantized values are computed in floats.
    Nothing,
    /// As it would run for a user: products of bytes in integers.
    Everything,
}

/// Computes all outputs of an ONNX file.
pub(crate) fn run(file: &[u8], inputs: &[NamedTensor], optimize: Optimize) -> Vec<(String, Vec<f32>)> {
    let level = match optimize {
        Optimize::Nothing => GraphOptimizationLevel::Disable,
        Optimize::Everything => GraphOptimizationLevel::All,
    };
    let builder = Session::builder(environment().unwrap()).unwrap().with_optimization_level(level).unwrap();
    let mut builder = builder.with_intra_threads(1).unwrap();
    let mut session = builder.commit_from_memory(file).unwrap();
    let tensor = |input: &NamedTensor| {
        let shape = input.tensor.shape().to_vec();
        let values = input.tensor.as_f32().unwrap().to_vec();
        (input.name.clone(), ort::value::Tensor::from_array((shape, values)).unwrap())
    };
    let inputs: Vec<_> = inputs.iter().map(tensor).collect();
    let outputs = session.run(inputs).unwrap();
    let values = |(name, value): (&str, ort::value::ValueRef<'_>)| {
        (name.to_owned(), value.try_extract_tensor::<f32>().unwrap().1.to_vec())
    };
    outputs.iter().map(values).collect()
}
