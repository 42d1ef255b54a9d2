//! Answers inference requests: prepared tensors in, raw outputs out. Knows no transport.

use std::time::Duration;

use network::NamedTensor;
use network::Signature;
use serde_json::{Map, Value};

use super::types::{
    InferRequest, InferResponse, ModelMetadata, ModelParameters, RequestedOutput, TensorMetadata,
};
use crate::error::{Result, ServeError, shown, suggestion};
use crate::payload::too_many;
use crate::served::{Call, Served};

/// Has one request answered.
///
/// # Errors
/// 400 when the inputs or the outputs asked for do not fit the model, or values are too large for its precision,
/// 413 for more rows than allowed, and what [`Served::ask`] refuses.
pub async fn run(served: &Served, request: InferRequest, max_rows: usize) -> Result<InferResponse> {
    let name = served.name();
    if let Some(other) = request.model_name.as_deref().filter(|other| *other != name) {
        return Err(ServeError::invalid(format_args!(
            "`model_name` is {}, but the route names {}",
            shown(other),
            shown(name)
        )));
    }
    let signature = served.signature();
    let wanted = select(signature, request.outputs.as_deref())?;
    let rows = served.rows(&request.inputs).map_err(ServeError::invalid)?;
    if rows > max_rows {
        return Err(too_many(rows, max_rows));
    }
    if rows == 0 {
        return Err(ServeError::invalid("the batch is empty; expected at least one row"));
    }
    let call = Call { inputs: request.inputs, id: request.id.clone(), ..schedule(&request.parameters)? };
    let mut outputs = served.ask(call).await?.outputs;
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
        model_version: served.version(),
        id: request.id,
        outputs,
    })
}

/// Reads the parameters of the schedule policy: `priority`, and `timeout` in microseconds.
fn schedule(parameters: &Map<String, Value>) -> Result<Call> {
    let number = |name: &str| {
        let number = match parameters.get(name) {
            None => Some(0),
            // tritonclient sends both as numbers, other clients as texts.
            Some(Value::String(text)) => text.parse::<u64>().ok(),
            Some(value) => value.as_u64(),
        };
        number.ok_or_else(|| {
            ServeError::invalid(format_args!("parameter `{name}` must be a whole number from 0 on"))
        })
    };
    let priority = u32::try_from(number("priority")?).unwrap_or(u32::MAX);
    let timeout = number("timeout")?;
    let timeout = (timeout > 0).then(|| Duration::from_micros(timeout));
    Ok(Call { priority, timeout, ..Call::default() })
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
pub fn metadata(served: &Served, versions: Vec<String>) -> ModelMetadata {
    let signature = served.signature();
    let parameters = served.predictor().map(|predictor| ModelParameters {
        device: predictor.device(),
        precision: predictor.precision_name(),
    });
    ModelMetadata {
        name: served.name().to_owned(),
        versions,
        platform: served.platform().to_owned(),
        inputs: signature.inputs.iter().map(TensorMetadata::from).collect(),
        outputs: signature.outputs.iter().map(TensorMetadata::from).collect(),
        parameters,
    }
}
