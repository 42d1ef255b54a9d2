//! What the server tells of its models in the protocol's words: metadata, configuration, statistics. The index of the
//! repository is in [`crate::repository`].

use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use artifact::Selector;
use network::{DType, TensorSpec};

use crate::error::Result;
use crate::oip::types::{
    BatchStatistics, ConfigTensor, Duration64, InferenceStatistics, ModelConfig, ModelMetadata,
    ModelParameters, ModelStatistics, ServerMetadata, Statistics, TensorMetadata,
};
use crate::served::Served;
use crate::state::{self, State, Version};
use crate::stats::Total;

/// The extensions of the protocol that this server speaks, by the names that clients look for.
pub const EXTENSIONS: &[&str] = &[
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
    "trace",
    "logging",
];

/// Name, version and extensions of the server.
#[must_use]
pub fn server() -> ServerMetadata {
    ServerMetadata { name: "brazier", version: env!("CARGO_PKG_VERSION"), extensions: EXTENSIONS }
}

/// What a model takes and gives, and its versions.
///
/// # Errors
/// 404 when there is no such model.
pub fn metadata(state: &State, served: &Served) -> Result<ModelMetadata> {
    let signature = served.signature();
    let versions = state.catalog().model(served.name())?.versions.keys().map(u64::to_string).collect();
    Ok(ModelMetadata {
        name: served.name().to_owned(),
        versions,
        platform: served.platform().to_owned(),
        inputs: signature.inputs.iter().map(TensorMetadata::from).collect(),
        outputs: signature.outputs.iter().map(TensorMetadata::from).collect(),
        parameters: served.predictor().map(|predictor| ModelParameters {
            device: predictor.device(),
            precision: predictor.precision_name(),
        }),
    })
}

/// How a model is batched.
#[must_use]
pub fn config(served: &Served) -> ModelConfig {
    let signature = served.signature();
    // 0 is no batch dimension; otherwise the settings of the model may bound what the executor takes.
    let batches = served.executor().max_rows() > 0;
    let max_batch_size = if batches { served.batch_rows() as u64 } else { 0 };
    let tensors = |specs: &[TensorSpec]| {
        let tensor = |spec: &TensorSpec| ConfigTensor {
            name: spec.name.clone(),
            data_type: data_type(spec.dtype),
            // Where there are batches, this has no dimension for them.
            dims: TensorMetadata::from(spec)
                .shape
                .split_off(usize::from(max_batch_size > 0).min(spec.dims.len())),
        };
        specs.iter().map(tensor).collect()
    };
    ModelConfig {
        name: served.name().to_owned(),
        platform: served.platform().to_owned(),
        backend: "brazier".to_owned(),
        max_batch_size,
        input: tensors(&signature.inputs),
        output: tensors(&signature.outputs),
    }
}

fn data_type(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "TYPE_BOOL",
        DType::U8 => "TYPE_UINT8",
        DType::U16 => "TYPE_UINT16",
        DType::U32 => "TYPE_UINT32",
        DType::U64 => "TYPE_UINT64",
        DType::I8 => "TYPE_INT8",
        DType::I16 => "TYPE_INT16",
        DType::I32 => "TYPE_INT32",
        DType::I64 => "TYPE_INT64",
        DType::F16 => "TYPE_FP16",
        DType::Bf16 => "TYPE_BF16",
        DType::F32 => "TYPE_FP32",
        DType::F64 => "TYPE_FP64",
        DType::Bytes => "TYPE_STRING",
        _ => "TYPE_INVALID",
    }
}

/// What a version, every version of a model, or every model has done. Versions that are not loaded have done nothing
/// and are left out.
///
/// # Errors
/// 404 when there is no such model or version, 503 when the version is not loaded (yet).
pub fn statistics(state: &State, name: Option<&str>, version: Option<&str>) -> Result<Statistics> {
    let catalog = state.catalog();
    let version = version.filter(|version| !version.is_empty());
    let model_stats = match (name.filter(|name| !name.is_empty()), version) {
        (Some(name), Some(version)) => vec![counted(catalog.find(name, &state::selector(version))?)],
        (Some(name), None) => {
            let model = catalog.model(name)?;
            // A model without one version to ask is an error, as it is for inference.
            if !model.is_ready() {
                catalog.find(name, &Selector::Default)?;
            }
            model.versions.values().filter_map(ready).map(counted).collect()
        }
        (None, _) => {
            let versions = catalog.models.values().flat_map(|model| model.versions.values());
            versions.filter_map(ready).map(counted).collect()
        }
    };
    Ok(Statistics { model_stats })
}

fn ready(version: &Version) -> Option<&Served> {
    version.served().map(|served| &**served)
}

fn counted(served: &Served) -> ModelStatistics {
    let stats = served.stats();
    let total = |Total { count, ns }: Total| Duration64 { count, ns };
    let batches = stats.by_batch_size().into_iter().map(|batch| BatchStatistics {
        batch_size: batch.rows as u64,
        compute_input: total(batch.input),
        compute_infer: total(batch.infer),
        compute_output: total(batch.output),
    });
    // The protocol wants the time of day; nothing is decided by it.
    let last = stats.since_last().and_then(|ago| {
        let last = SystemTime::now().checked_sub(ago)?.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(last.as_millis()).ok()
    });
    ModelStatistics {
        name: served.name().to_owned(),
        version: served.version().to_string(),
        last_inference: last.unwrap_or(0),
        inference_count: stats.inferences.load(Relaxed),
        execution_count: stats.batches.load(Relaxed),
        inference_stats: InferenceStatistics {
            success: total(stats.success.total()),
            fail: total(stats.fail.total()),
            queue: total(stats.queue.total()),
            compute_input: total(stats.compute_input.total()),
            compute_infer: total(stats.compute_infer.total()),
            compute_output: total(stats.compute_output.total()),
            cache_hit: total(stats.cache_hit.total()),
            cache_miss: total(stats.cache_miss.total()),
        },
        batch_stats: batches.collect(),
    }
}
