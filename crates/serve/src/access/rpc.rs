//! The check for gRPC: every call goes through here before a service sees it. What only the message says, the model's
//! name, is checked by the service with [`Caller::may`].

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;
use tonic::codegen::http;

use super::audit::{self, Action};
use super::presented::Presented;
use super::principal::{Principal, Scope};
use super::{Access, Admitted, Need, Target};
use crate::error::{Kind, Result};
use crate::state::State;
use crate::tls::Peer;

/// What a call needs, by its path. What changes something only sometimes is asked again when it does.
#[must_use]
pub fn need(path: &str) -> Need {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    match (service, method) {
        ("grpc.health.v1.Health", "Check" | "Watch") => Need::Open,
        ("inference.GRPCInferenceService", method) => match method {
            "ServerLive" | "ServerReady" => Need::Open,
            "ModelInfer" | "ModelStreamInfer" => Need::Scope(Scope::Infer),
            "RepositoryModelLoad" | "RepositoryModelUnload" => Need::Scope(Scope::Admin),
            "ServerMetadata" | "ModelReady" | "ModelMetadata" | "ModelConfig" | "ModelStatistics"
            | "RepositoryIndex" | "TraceSetting" | "LogSettings" => Need::Scope(Scope::Read),
            _ => Need::Known,
        },
        ("grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection", _) => {
            Need::Scope(Scope::Read)
        }
        _ => Need::Known,
    }
}

/// Checks a call, and leaves word of who has been let in.
///
/// # Errors
/// As [`Access::admit`].
pub fn admit<B>(access: &Access, request: &mut http::Request<B>) -> Result<()> {
    // The connection says who is at its other end.
    let peer = request.extensions().get::<Peer>();
    let address = peer.and_then(|peer| peer.address);
    let need = need(request.uri().path());
    let all = |name: &'static str| request.headers().get_all(name).into_iter().map(|value| value.as_bytes());
    let identity = peer.and_then(|peer| peer.identity.as_ref());
    let presented = Presented::read(all("authorization"), all("x-api-key"))
        .with_certificate(identity.map(|identity| identity.names()));
    let admitted = access.admit(&presented, need, Target::Later, address.map(|address| address.ip()))?;
    request.extensions_mut().insert(admitted);
    Ok(())
}

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    state: Arc<State>,
    admitted: Admitted,
}

impl Caller {
    /// Who makes a call.
    ///
    /// # Errors
    /// 401 where nothing has let it in and it matters who it is.
    pub fn of<T>(state: &Arc<State>, request: &tonic::Request<T>) -> Result<Self> {
        let admitted = match request.extensions().get::<Admitted>() {
            Some(admitted) => admitted.clone(),
            None => state.access.unchecked()?,
        };
        Ok(Self { state: Arc::clone(state), admitted })
    }

    /// Who it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.admitted.principal
    }

    /// Where the call comes from.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.admitted.address
    }

    /// Whether it may do something with a model.
    ///
    /// # Errors
    /// 403 when it may not.
    pub fn may(&self, scope: Scope, model: &str) -> Result<()> {
        self.state.access.check(&self.admitted, Need::Scope(scope), Target::Model(model))?;
        self.known(model)
    }

    /// As [`Caller::may`], for one message more of a stream, which counts as a request.
    ///
    /// # Errors
    /// As [`Access::again`].
    pub fn may_again(&self, scope: Scope, model: &str) -> Result<()> {
        self.state.access.again(&self.admitted, Need::Scope(scope), Target::Model(model))?;
        self.known(model)
    }

    /// As [`Caller::may`], of one that was let in before and is asked about again without asking.
    ///
    /// # Errors
    /// As [`Access::goes_on`].
    pub fn may_still(&self, scope: Scope, model: &str) -> Result<()> {
        self.state.access.goes_on(&self.admitted, Need::Scope(scope), Target::Model(model))
    }

    /// An error of the catalog would list the other models.
    fn known(&self, model: &str) -> Result<()> {
        if self.principal().models.are_all() || self.state.catalog().models.contains_key(model) {
            return Ok(());
        }
        Err(super::decide::no_model(model))
    }

    /// Has an administrative action done, and written down.
    ///
    /// # Errors
    /// 403 when it may not, 503 when it cannot be written down, and those of the action.
    pub async fn change<T>(
        &self,
        action: &str,
        model: Option<&str>,
        detail: Option<Value>,
        run: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let target = model.map_or(Target::Server, Target::Model);
        self.state.access.check(&self.admitted, Need::Scope(Scope::Admin), target)?;
        let (action, version) = (action.to_owned(), None);
        let action = Action { action, model: model.map(str::to_owned), version, by: "grpc" };
        let done = audit::audited(&self.state.access.audit, &self.admitted, action, detail, run).await;
        done.map_err(|error| match model.map(|model| self.known(model)) {
            // It would list other models.
            Some(Err(hidden)) if error.kind() == Kind::NotFound => hidden,
            _ => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::access::config::AccessConfig;
    use crate::access::keys::hash;
    use crate::config::Limits;
    use crate::error::ServeError;
    use crate::pool::Pool;
    use crate::scheduler::{Scheduler, SchedulerOptions};

    #[tokio::test]
    async fn a_key_for_some_models_learns_of_no_others_by_an_action() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys.toml");
        let entry =
            format!("name = \"a\"\nhash = \"{}\"\nscopes = [\"admin\"]\nmodels = [\"dig\"]", hash("brz_a"));
        std::fs::write(&keys, format!("version = 1\n[[key]]\n{entry}\n")).unwrap();
        let config = AccessConfig { keys: Some(keys), ..AccessConfig::default() };
        let access = Access::read(&config, Arc::new(SystemTime::now)).unwrap();
        let scheduler =
            Scheduler::new(SchedulerOptions { workers: 1, ..SchedulerOptions::default() }).unwrap();
        let state = State::new(Pool::new(1, 1).unwrap(), scheduler, Limits::default()).with_access(access);
        let mut request = http::Request::builder()
            .uri("/inference.GRPCInferenceService/RepositoryModelLoad")
            .header("authorization", "Bearer brz_a")
            .body(())
            .unwrap();
        admit(&state.access, &mut request).unwrap();
        let caller = Caller::of(&Arc::new(state), &tonic::Request::from_http(request)).unwrap();
        let change = async |error: ServeError| {
            let done = caller.change("load", Some("dig"), None, async { Err::<(), _>(error) }).await;
            done.unwrap_err().to_string()
        };
        let missing = change(ServeError::not_found("there is no model `dig`; did you mean `digits`?")).await;
        assert_eq!(missing, "there is no model `dig`");
        assert_eq!(change(ServeError::unavailable("later")).await, "later", "what it may know it is told");
    }
}
