//! The protocol's messages, independent of how they travel: JSON, JSON with binary tensors, and gRPC are forms of
//! the same types.

use std::time::Duration;

use network::{Dim, NamedTensor, TensorSpec};
use predict::DeviceSpec;
use schemars::JsonSchema;
use serde::Serialize;

/// What a client asks of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferRequest {
    /// Echoed in the response.
    pub id: Option<String>,
    /// The model that the body names, when it does; it must be the one of the route.
    pub model_name: Option<String>,
    /// What of its parameters the scheduler heeds.
    pub schedule: Schedule,
    /// The prepared tensors, batch dimension included.
    pub inputs: Vec<NamedTensor>,
    /// Which outputs to return, in this order; `None`: all.
    pub outputs: Option<Vec<RequestedOutput>>,
    /// Whether outputs travel in binary when they do not say it themselves.
    pub binary_output: bool,
}

/// When a request is to be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// 1 is the first to be served, 0 whatever the server's default is.
    pub priority: u64,
    /// How long the answer may take; nothing: as long as the server allows.
    pub timeout: Option<Duration>,
}

/// One output that a client asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestedOutput {
    /// Its name in the signature.
    pub name: String,
    /// Whether it travels in binary.
    pub binary: bool,
    /// How many of its largest values to answer as text in place of all of them; 0: all, as numbers.
    pub classes: usize,
}

/// What the model answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferResponse {
    /// The model.
    pub model_name: String,
    /// The version that answered.
    pub model_version: String,
    /// The id of the request.
    pub id: Option<String>,
    /// The outputs, in the order asked for.
    pub outputs: Vec<Output>,
}

/// One output of a response.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name and values.
    pub tensor: NamedTensor,
    /// Whether it travels in binary, where the transport has another way.
    pub binary: bool,
}

/// Answer of `GET /v2`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ServerMetadata {
    /// The server's name.
    pub name: &'static str,
    /// The server's version.
    pub version: &'static str,
    /// The protocol extensions that it speaks.
    pub extensions: &'static [&'static str],
}

/// Answer of `GET /v2/models/{name}`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
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
    /// Where and how this server runs it, where one device does. The protocol has no field for that; MLServer names
    /// its own like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<ModelParameters>,
}

/// Where and how a model runs.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct ModelParameters {
    /// The device, as `--device` names it.
    #[schemars(with = "String")]
    pub device: DeviceSpec,
    /// What it computes in: `int8`, or the floats that were asked for. The tensors of requests and responses have the
    /// types of the signature all the same.
    pub precision: &'static str,
}

/// Name, type and shape of one tensor.
#[derive(Clone, Debug, Serialize, JsonSchema)]
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

/// Answer of `GET /v2/models/{name}/config`: how a model is batched, in the words of Triton's model configuration.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ModelConfig {
    /// The model's name.
    pub name: String,
    /// What runs it.
    pub platform: String,
    /// The same, as newer clients ask for it.
    pub backend: String,
    /// The most rows that are computed at once; 0: the model takes no batches.
    pub max_batch_size: u64,
    /// What it takes.
    pub input: Vec<ConfigTensor>,
    /// What it returns.
    pub output: Vec<ConfigTensor>,
}

/// A tensor of a [`ModelConfig`].
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ConfigTensor {
    /// Its name.
    pub name: String,
    /// `TYPE_FP32` and the like.
    pub data_type: &'static str,
    /// Its dimensions without the batch; −1 is one that varies.
    pub dims: Vec<i64>,
}

/// Answer of `GET /v2/models/stats` and those below a model.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Statistics {
    /// One entry for each version.
    pub model_stats: Vec<ModelStatistics>,
}

/// What one version has done since it was loaded.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct ModelStatistics {
    /// The model.
    pub name: String,
    /// The version.
    pub version: String,
    /// Milliseconds since 1970 at which it last computed; 0: not yet.
    pub last_inference: u64,
    /// Rows that were computed.
    pub inference_count: u64,
    /// Batches that were computed.
    pub execution_count: u64,
    /// How often and how long, by what was done.
    pub inference_stats: InferenceStatistics,
    /// The same for each size of a batch.
    pub batch_stats: Vec<BatchStatistics>,
}

/// How often something happened and how long it took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Duration64 {
    /// How often.
    pub count: u64,
    /// Nanoseconds in all.
    pub ns: u64,
}

/// Counts and durations by what was done.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the protocol's names; `crate::stats` says what each counts")]
pub struct InferenceStatistics {
    pub success: Duration64,
    pub fail: Duration64,
    pub queue: Duration64,
    pub compute_input: Duration64,
    pub compute_infer: Duration64,
    pub compute_output: Duration64,
    pub cache_hit: Duration64,
    pub cache_miss: Duration64,
}

/// What batches of one size took.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the protocol's names; `crate::stats` says what each counts")]
pub struct BatchStatistics {
    pub batch_size: u64,
    pub compute_input: Duration64,
    pub compute_infer: Duration64,
    pub compute_output: Duration64,
}
