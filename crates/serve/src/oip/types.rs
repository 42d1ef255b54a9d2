//! The protocol's messages, independent of how they travel: JSON today, the binary extension and gRPC on
//! the same types.

use network::{Dim, NamedTensor, TensorSpec};
use predict::DeviceSpec;
use serde::Serialize;
use serde_json::{Map, Value};

/// What a client asks of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct InferRequest {
    /// Echoed in the response.
    pub id: Option<String>,
    /// The model that the body names, when it does; it must be the one of the route.
    pub model_name: Option<String>,
    /// Parameters of the whole request: strings, numbers and booleans.
    pub parameters: Map<String, Value>,
    /// The prepared tensors, batch dimension included.
    pub inputs: Vec<NamedTensor>,
    /// Which outputs to return, in this order; `None`: all.
    pub outputs: Option<Vec<RequestedOutput>>,
}

/// One output that a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestedOutput {
    /// Its name in the signature.
    pub name: String,
    /// Parameters of this output.
    pub parameters: Map<String, Value>,
}

/// What the model answered.
#[derive(Clone, Debug, PartialEq)]
pub struct InferResponse {
    /// The model.
    pub model_name: String,
    /// The version that answered.
    pub model_version: u64,
    /// The id of the request.
    pub id: Option<String>,
    /// The outputs, in the order asked for.
    pub outputs: Vec<NamedTensor>,
}

/// Answer of `GET /v2`.
#[derive(Clone, Debug, Serialize)]
pub struct ServerMetadata {
    /// The server's name.
    pub name: &'static str,
    /// The server's version.
    pub version: &'static str,
    /// The protocol extensions that it speaks.
    pub extensions: &'static [&'static str],
}

/// Answer of `GET /v2/models/{name}`.
#[derive(Clone, Debug, Serialize)]
pub struct ModelMetadata {
    /// The model's name.
    pub name: String,
    /// The versions that can be asked for, ascending.
    pub versions: Vec<String>,
    /// What runs it: the framework and the format of its weights.
    pub platform: String,
    /// What it takes.
    pub inputs: Vec<TensorMetadata>,
    /// What it returns.
    pub outputs: Vec<TensorMetadata>,
    /// Where and how this server runs it. The protocol has no field for that; MLServer names its own like this.
    /// Only for what is a single model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<ModelParameters>,
}

/// Where and how a model runs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ModelParameters {
    /// The device, as `--device` names it.
    pub device: DeviceSpec,
    /// What it computes in: `int8`, or the floats that were asked for. The tensors of requests and responses have the
    /// types of the signature all the same.
    pub precision: &'static str,
}

/// Name, type and shape of one tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorMetadata {
    /// Its name.
    pub name: String,
    /// The protocol's name of its element type.
    pub datatype: &'static str,
    /// Its dimensions; −1 is one that varies, such as the batch.
    pub shape: Vec<i64>,
}

impl From<&TensorSpec> for TensorMetadata {
    fn from(spec: &TensorSpec) -> Self {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
            Dim::Named(_) => -1,
        };
        Self {
            name: spec.name.clone(),
            datatype: spec.dtype.name(),
            shape: spec.dims.iter().map(size).collect(),
        }
    }
}
