//! Answers inference requests: prepared tensors in, raw outputs out. Knows no transport.

use network::NamedTensor;
use network::Signature;
use predict::{PredictError, Predictor};

use super::types::{
    InferRequest, InferResponse, ModelMetadata, ModelParameters, RequestedOutput, TensorMetadata,
};
use crate::error::{Result, ServeError, shown, suggestion};
use crate::health::Health;
use crate::payload::too_many;

/// What runs the models, as the metadata names it.
const PLATFORM: &str = "brazier_burnpack";

/// Runs one request through a model.
///
/// # Errors
/// 400 when the inputs or the outputs asked for do not fit the model, or values are too large for its precision,
/// 413 for more rows than allowed.
pub fn run(
    predictor: &Predictor,
    request: InferRequest,
    max_rows: usize,
    health: &Health,
) -> Result<InferResponse> {
    let name = predictor.name();
    if let Some(other) = request.model_name.as_deref().filter(|other| *other != name) {
        return Err(ServeError::invalid(format_args!(
            "`model_name` is {}, but the route names {}",
            shown(other),
            shown(name)
        )));
    }
    let signature = predictor.signature();
    let wanted = select(signature, request.outputs.as_deref())?;
    let rows = signature.check_inputs(&request.inputs).map_err(ServeError::invalid)?;
    if rows > max_rows {
        return Err(too_many(rows, max_rows));
    }
    if rows == 0 {
        return Err(ServeError::invalid("the batch is empty; expected at least one row"));
    }
    let mut outputs = health.infer(predictor, &request.inputs).map_err(|error| match error {
        // What overflows in 16 bits depends on the values that were sent; a model that always does is not served.
        PredictError::Overflow { .. } => ServeError::invalid(error),
        error => ServeError::internal(error),
    })?;
    let outputs = wanted
        .iter()
        .map(|name| {
            let index = outputs.iter().position(|output| output.name == *name);
            index
                .map(|index| outputs.swap_remove(index))
                .ok_or_else(|| ServeError::internal(format_args!("the model gave no output `{name}`")))
        })
        .collect::<Result<Vec<NamedTensor>>>()?;
    Ok(InferResponse {
        model_name: name.to_owned(),
        model_version: predictor.version(),
        id: request.id,
        outputs,
    })
}

/// The names of the outputs to return, in order.
fn select(signature: &Signature, requested: Option<&[RequestedOutput]>) -> Result<Vec<String>> {
    let known = || signature.outputs.iter().map(|spec| spec.name.as_str());
    let Some(requested) = requested else {
        return Ok(known().map(str::to_owned).collect());
    };
    let mut names: Vec<String> = Vec::with_capacity(requested.len());
    for RequestedOutput { name, .. } in requested {
        if !known().any(|output| output == name) {
            let list = known().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let hint = suggestion(name, known());
            return Err(ServeError::invalid(format_args!(
                "there is no output {}{}; the model gives {list}",
                shown(name),
                hint.trim_end_matches('?')
            )));
        }
        if names.contains(name) {
            return Err(ServeError::invalid(format_args!("output {} is asked for twice", shown(name))));
        }
        names.push(name.clone());
    }
    Ok(names)
}

/// The protocol's description of a model.
#[must_use]
pub fn metadata(predictor: &Predictor, versions: Vec<String>) -> ModelMetadata {
    let signature = predictor.signature();
    ModelMetadata {
        name: predictor.name().to_owned(),
        versions,
        platform: PLATFORM,
        inputs: signature.inputs.iter().map(TensorMetadata::from).collect(),
        outputs: signature.outputs.iter().map(TensorMetadata::from).collect(),
        parameters: ModelParameters { device: predictor.device(), precision: predictor.precision_name() },
    }
}
