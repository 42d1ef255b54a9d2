//! `inference.GRPCInferenceService`: every call by way of what HTTP uses too.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use network::Signature;
use prost::Message as _;
use serde_json::{Map, Value};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use super::convert;
use super::inference::grpc_inference_service_server::GrpcInferenceService;
use super::inference::model_metadata_response::TensorMetadata;
use super::inference::repository_index_response::ModelIndex;
use super::inference::{
    DataType, InferBatchStatistics, InferStatistics, LogSettingsRequest, LogSettingsResponse, ModelConfig,
    ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse, ModelInput,
    ModelMetadataRequest, ModelMetadataResponse, ModelOutput, ModelReadyRequest, ModelReadyResponse,
    ModelStatistics, ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse,
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest, RepositoryModelUnloadResponse, ServerLiveRequest, ServerLiveResponse,
    ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
    StatisticDuration, TraceSettingRequest, TraceSettingResponse, log_settings_request,
    log_settings_response, trace_setting_response,
};
use crate::access::principal::Scope;
use crate::access::rpc;
use crate::body::Held;
use crate::error::{Kind, ServeError};
use crate::front::{self, Change};
use crate::inventory;
use crate::oip::binary;
use crate::oip::types::{ConfigTensor, Duration64};
use crate::repository;
use crate::routes::repository::{check_load, check_repository, check_unload};
use crate::state::State;
use crate::telemetry::{self, Context, Running};
use crate::traffic::Caller;

/// The service over the server's state.
#[derive(Clone, Debug)]
pub struct Inference {
    state: Arc<State>,
}

/// Who calls: what it may do, and what traffic is split by.
struct Who {
    caller: rpc::Caller,
    metadata: MetadataMap,
}

impl Who {
    /// Takes a request apart.
    fn of<T>(state: &Arc<State>, request: Request<T>) -> Result<(Self, T), ServeError> {
        let caller = rpc::Caller::of(state, &request)?;
        let (metadata, _, message) = request.into_parts();
        Ok((Self { caller, metadata }, message))
    }
}

/// Where in a stream of requests a message is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
    Later,
    End,
}

type Reply<T> = Result<Response<T>, Status>;

impl Inference {
    /// Of this server.
    #[must_use]
    pub fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    /// Lets somebody look at a model.
    fn look<T>(&self, request: &Request<T>, model: &str) -> Result<(), ServeError> {
        rpc::Caller::of(&self.state, request)?.may(Scope::Read, model)
    }

    async fn infer(&self, message: ModelInferRequest, who: &Who) -> Result<ModelInferResponse, ServeError> {
        let header = |name: &str| Some(who.metadata.get(name)?.to_str().ok()?.to_owned());
        let caller = Caller { address: who.caller.address(), header: Some(&header) };
        let telemetry = &self.state.telemetry;
        telemetry.message("request", &message);
        let version = Some(message.model_version.as_str());
        let served = front::route(&self.state, &message.model_name, version, caller)?;
        // What it holds counts until the answer is there, or many requests that wait would be more than may be in memory.
        let size = message.encoded_len();
        let mut held = Held::new(&self.state.in_flight);
        held.grow(size)?;
        let read = |_: &Signature| convert::decode(message);
        let response = front::infer(&self.state, &served, front::cost(0, size), read).await?;
        let size = response.outputs.iter().map(|output| binary::size(output.tensor.tensor.elements())).sum();
        let encode = move || convert::encode(response);
        let answer = self.state.pool.run_sized(front::cost(0, size), encode).await?.value;
        telemetry.message("answer", &answer);
        Ok(answer)
    }

    /// As [`Self::infer`], for one message of a stream, which is a part of the call that opened the stream.
    async fn infer_next(
        &self,
        message: ModelInferRequest,
        who: &Who,
        call: Option<&Context>,
    ) -> Result<ModelInferResponse, ServeError> {
        const PATH: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
        let Some(call) = call else { return self.infer(message, who).await };
        let running = Running::message(&self.state.telemetry, PATH, call);
        let work = running.context().scope(self.infer(message, who)).instrument(running.span().clone());
        let result = work.await;
        let code = result.as_ref().err().map_or(tonic::Code::Ok, convert::code);
        running.end_grpc(code as usize);
        result
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Inference {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Reply<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Reply<ServerReadyResponse> {
        Ok(Response::new(ServerReadyResponse { ready: self.state.fault().is_none() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Reply<ModelReadyResponse> {
        self.look(&request, &request.get_ref().name)?;
        let ModelReadyRequest { name, version } = request.into_inner();
        let found = front::find(&self.state, &name, Some(&version));
        let ready = found.and_then(|served| front::check_ready(&self.state, &served));
        match ready {
            Ok(()) => Ok(Response::new(ModelReadyResponse { ready: true })),
            // Not being ready is an answer; not being there is an error.
            Err(error) if error.kind() == Kind::Unavailable => {
                Ok(Response::new(ModelReadyResponse { ready: false }))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn server_metadata(&self, _: Request<ServerMetadataRequest>) -> Reply<ServerMetadataResponse> {
        let server = inventory::server();
        Ok(Response::new(ServerMetadataResponse {
            name: server.name.to_owned(),
            version: server.version.to_owned(),
            extensions: server.extensions.iter().map(|name| (*name).to_owned()).collect(),
        }))
    }

    async fn model_metadata(&self, request: Request<ModelMetadataRequest>) -> Reply<ModelMetadataResponse> {
        self.look(&request, &request.get_ref().name)?;
        let ModelMetadataRequest { name, version } = request.into_inner();
        let served = front::find(&self.state, &name, Some(&version))?;
        let metadata = inventory::metadata(&self.state, &served)?;
        let tensors = |tensors: Vec<crate::oip::types::TensorMetadata>| {
            let tensor = |tensor: crate::oip::types::TensorMetadata| TensorMetadata {
                name: tensor.name,
                datatype: tensor.datatype.to_owned(),
                shape: tensor.shape,
            };
            tensors.into_iter().map(tensor).collect()
        };
        Ok(Response::new(ModelMetadataResponse {
            name: metadata.name,
            versions: metadata.versions,
            platform: metadata.platform,
            inputs: tensors(metadata.inputs),
            outputs: tensors(metadata.outputs),
        }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Reply<ModelInferResponse> {
        let (who, message) = Who::of(&self.state, request)?;
        who.caller.may(Scope::Infer, &message.model_name)?;
        Ok(Response::new(self.infer(message, &who).await?))
    }

    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Reply<Self::ModelStreamInferStream> {
        // One after the other, so that answers come in the order of the requests, and a client that does not read
        // is not read from.
        let (who, messages) = Who::of(&self.state, request)?;
        let start = (self.clone(), (who, telemetry::current()), messages, Place::First);
        let answers = stream::unfold(start, |(service, asks, mut messages, place)| async move {
            if place == Place::End {
                return None;
            }
            match messages.next().await? {
                Err(status) => Some((Err(status), (service, asks, messages, Place::End))),
                Ok(message) => {
                    // The call itself was counted as a request, so the first message is not.
                    let may = match place {
                        Place::First => asks.0.caller.may(Scope::Infer, &message.model_name),
                        _ => asks.0.caller.may_again(Scope::Infer, &message.model_name),
                    };
                    if let Err(error) = &may
                        && error.kind() == Kind::Unauthorized
                    {
                        return Some((Err(error.clone().into()), (service, asks, messages, Place::End)));
                    }
                    let id = message.id.clone();
                    let answer = match may {
                        Ok(()) => service.infer_next(message, &asks.0, asks.1.as_deref()).await,
                        Err(error) => Err(error),
                    };
                    let answer = match answer {
                        Ok(response) => ModelStreamInferResponse {
                            error_message: String::new(),
                            infer_response: Some(response),
                        },
                        // The stream goes on: a wrong request is one answer, which its id tells apart.
                        Err(error) => ModelStreamInferResponse {
                            error_message: error.to_string(),
                            infer_response: Some(ModelInferResponse { id, ..Default::default() }),
                        },
                    };
                    Some((Ok(answer), (service, asks, messages, Place::Later)))
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn model_config(&self, request: Request<ModelConfigRequest>) -> Reply<ModelConfigResponse> {
        self.look(&request, &request.get_ref().name)?;
        let ModelConfigRequest { name, version } = request.into_inner();
        let served = front::find(&self.state, &name, Some(&version))?;
        let config = inventory::config(&served);
        let data_type = |tensor: &ConfigTensor| {
            DataType::from_str_name(tensor.data_type).unwrap_or(DataType::TypeInvalid) as i32
        };
        let input = |tensor: ConfigTensor| ModelInput {
            data_type: data_type(&tensor),
            name: tensor.name,
            dims: tensor.dims,
        };
        let output = |tensor: ConfigTensor| ModelOutput {
            data_type: data_type(&tensor),
            name: tensor.name,
            dims: tensor.dims,
        };
        let config = ModelConfig {
            name: config.name,
            platform: config.platform,
            max_batch_size: i32::try_from(config.max_batch_size).unwrap_or(i32::MAX),
            input: config.input.into_iter().map(input).collect(),
            output: config.output.into_iter().map(output).collect(),
            backend: config.backend,
        };
        Ok(Response::new(ModelConfigResponse { config: Some(config) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Reply<ModelStatisticsResponse> {
        let caller = rpc::Caller::of(&self.state, &request)?;
        let ModelStatisticsRequest { name, version } = request.into_inner();
        if !name.is_empty() {
            caller.may(Scope::Read, &name)?;
        }
        let mut statistics = inventory::statistics(&self.state, Some(&name), Some(&version))?;
        statistics.model_stats.retain(|model| caller.principal().may_see(&model.name));
        let total = |Duration64 { count, ns }: Duration64| Some(StatisticDuration { count, ns });
        let model_stats = statistics.model_stats.into_iter().map(|model| {
            let stats = model.inference_stats;
            ModelStatistics {
                name: model.name,
                version: model.version,
                last_inference: model.last_inference,
                inference_count: model.inference_count,
                execution_count: model.execution_count,
                inference_stats: Some(InferStatistics {
                    success: total(stats.success),
                    fail: total(stats.fail),
                    queue: total(stats.queue),
                    compute_input: total(stats.compute_input),
                    compute_infer: total(stats.compute_infer),
                    compute_output: total(stats.compute_output),
                    cache_hit: total(stats.cache_hit),
                    cache_miss: total(stats.cache_miss),
                }),
                batch_stats: model
                    .batch_stats
                    .into_iter()
                    .map(|batch| InferBatchStatistics {
                        batch_size: batch.batch_size,
                        compute_input: total(batch.compute_input),
                        compute_infer: total(batch.compute_infer),
                        compute_output: total(batch.compute_output),
                    })
                    .collect(),
            }
        });
        Ok(Response::new(ModelStatisticsResponse { model_stats: model_stats.collect() }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Reply<RepositoryIndexResponse> {
        let caller = rpc::Caller::of(&self.state, &request)?;
        let RepositoryIndexRequest { repository_name, ready } = request.into_inner();
        check_repository(&repository_name)?;
        let index = repository::index(&self.state.catalog(), ready).into_iter();
        let models = index.filter(|entry| caller.principal().may_see(&entry.name)).map(|entry| ModelIndex {
            name: entry.name,
            version: entry.version.unwrap_or_default(),
            state: entry.state.to_owned(),
            reason: entry.reason,
        });
        Ok(Response::new(RepositoryIndexResponse { models: models.collect() }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Reply<RepositoryModelLoadResponse> {
        let caller = rpc::Caller::of(&self.state, &request)?;
        let RepositoryModelLoadRequest { repository_name, model_name, parameters } = request.into_inner();
        let model = model_name.clone();
        let run = async {
            check_repository(&repository_name)?;
            check_load(parameters.keys().map(String::as_str))?;
            front::change(&self.state, Change::Load, model_name).await
        };
        caller.change("load", Some(&model), None, run).await?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Reply<RepositoryModelUnloadResponse> {
        let caller = rpc::Caller::of(&self.state, &request)?;
        let RepositoryModelUnloadRequest { repository_name, model_name, parameters } = request.into_inner();
        let model = model_name.clone();
        let run = async {
            check_repository(&repository_name)?;
            check_unload(parameters.keys().map(String::as_str))?;
            front::change(&self.state, Change::Unload, model_name).await
        };
        caller.change("unload", Some(&model), None, run).await?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }

    async fn trace_setting(&self, request: Request<TraceSettingRequest>) -> Reply<TraceSettingResponse> {
        let caller = rpc::Caller::of(&self.state, &request)?;
        let TraceSettingRequest { settings, model_name } = request.into_inner();
        let model = Some(model_name.as_str()).filter(|name| !name.is_empty());
        if let Some(model) = model {
            caller.may(Scope::Read, model)?;
            self.state.catalog().model(model)?;
        }
        let front = &self.state.front;
        if !settings.is_empty() {
            // No value takes a setting back.
            let change = |values: Vec<String>| if values.is_empty() { Value::Null } else { values.into() };
            let changes: Map<String, Value> =
                settings.into_iter().map(|(key, setting)| (key, change(setting.value))).collect();
            let run = async { front.settings.change_trace(model, &changes) };
            caller.change("trace", model, Some(changes.clone().into()), run).await?;
        }
        let value = |value: &Value| match value {
            Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Value::String(text) => vec![text.clone()],
            other => vec![other.to_string()],
        };
        let now = front.settings.trace(model);
        let settings = now.as_object().into_iter().flatten();
        let settings: BTreeMap<_, _> = settings
            .map(|(key, found)| (key.clone(), trace_setting_response::SettingValue { value: value(found) }))
            .collect();
        Ok(Response::new(TraceSettingResponse { settings }))
    }

    async fn log_settings(&self, request: Request<LogSettingsRequest>) -> Reply<LogSettingsResponse> {
        use log_settings_request::setting_value::ParameterChoice as Given;
        use log_settings_response::setting_value::ParameterChoice as Told;
        let caller = rpc::Caller::of(&self.state, &request)?;
        let settings = request.into_inner().settings;
        let front = &self.state.front;
        if !settings.is_empty() {
            let changes: Map<String, Value> = settings
                .into_iter()
                .map(|(key, setting)| {
                    let value = match setting.parameter_choice {
                        Some(Given::BoolParam(value)) => Value::Bool(value),
                        Some(Given::Uint32Param(value)) => Value::Number(value.into()),
                        Some(Given::StringParam(value)) => Value::String(value),
                        None => Value::Null,
                    };
                    (key, value)
                })
                .collect();
            let run = async { front.settings.change_log(&changes) };
            caller.change("logging", None, Some(changes.clone().into()), run).await?;
        }
        let told = |value: &Value| match value {
            Value::Bool(value) => Told::BoolParam(*value),
            Value::Number(number) => Told::Uint32Param(
                number.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(u32::MAX),
            ),
            other => Told::StringParam(other.as_str().unwrap_or("").to_owned()),
        };
        let now = front.settings.log();
        let settings = now.as_object().into_iter().flatten().map(|(key, value)| {
            let setting = log_settings_response::SettingValue { parameter_choice: Some(told(value)) };
            (key.clone(), setting)
        });
        Ok(Response::new(LogSettingsResponse { settings: settings.collect() }))
    }
}
