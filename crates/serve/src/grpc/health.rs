//! `grpc.health.v1`: whether the server answers, and whether a model does, for probes and load balancers.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::access::principal::Scope;
use crate::access::rpc;
use crate::error::{ServeError, shown};
use crate::front;
use crate::state::{Phase, State};

/// Answers health checks. The empty service is the server, so is the protocol's own service; a model is one by its
/// name.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    state: Arc<State>,
}

/// How often a watched service is looked at.
const LOOK: Duration = Duration::from_millis(500);

const SERVICE: &str = "inference.GRPCInferenceService";

impl HealthCheck {
    /// Of this server.
    #[must_use]
    pub fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    /// The server's own health is for everybody; which models there are is for those who may look at them, and who that
    /// is matters as long as they do.
    fn may_ask(&self, request: &Request<HealthCheckRequest>) -> Result<Option<rpc::Caller>, ServeError> {
        match request.get_ref().service.as_str() {
            "" | SERVICE => Ok(None),
            model => {
                let caller = rpc::Caller::of(&self.state, request)?;
                caller.may(Scope::Read, model)?;
                Ok(Some(caller))
            }
        }
    }

    fn status(&self, service: &str) -> Option<ServingStatus> {
        let serves = if service.is_empty() || service == SERVICE {
            self.state.fault().is_none()
        } else {
            let catalog = self.state.catalog();
            catalog.model(service).ok()?;
            // An unknown name is one thing, a model that cannot answer another.
            front::find(&self.state, service, None)
                .is_ok_and(|served| front::check_ready(&self.state, &served).is_ok())
        };
        Some(if serves { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

fn response(status: Option<ServingStatus>) -> HealthCheckResponse {
    // The protocol's number of a service that is not known to a watcher.
    const SERVICE_UNKNOWN: i32 = 3;
    HealthCheckResponse { status: status.map_or(SERVICE_UNKNOWN, |status| status as i32) }
}

#[tonic::async_trait]
impl Health for HealthCheck {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.may_ask(&request)?;
        let service = request.into_inner().service;
        match self.status(&service) {
            None => Err(Status::not_found(format!("there is no service {}", shown(&service)))),
            status => Ok(Response::new(response(status))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = self.may_ask(&request)?;
        let (health, service) = (self.clone(), request.into_inner().service);
        let begin = Some(None);
        // The state is what was told last; there is none when the stream is over.
        let changes = stream::unfold(begin, move |told: Option<Option<HealthCheckResponse>>| {
            let (health, service, caller) = (health.clone(), service.clone(), caller.clone());
            async move {
                let told = told?;
                loop {
                    // A key that is revoked, or whose time is up, learns nothing more.
                    if let Some(Err(error)) =
                        caller.as_ref().map(|caller| caller.may_still(Scope::Read, &service))
                    {
                        return Some((Err(error.into()), None));
                    }
                    let now = response(health.status(&service));
                    if told.as_ref() != Some(&now) {
                        return Some((Ok(now), Some(Some(now))));
                    }
                    // Who watches knows it by now, and would keep the server from ending.
                    if health.state.phase() == Phase::Draining {
                        return None;
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }
}
