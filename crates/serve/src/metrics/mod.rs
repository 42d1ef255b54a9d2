//! Metrics, made at the moment of a scrape from what the server counts anyway: requests pay nothing for them.
//!
//! [`families()`] is the whole list; `docs/observability.md` shows it, and a test holds the two equal. A series exists for
//! what is served, for routes that there are, and for nothing that a client could make up, so that their number is
//! bounded. The series of a version end when it is unloaded; while it is served, no counter goes back, not even when its
//! files are replaced ([`crate::scheduler`]).

mod models;
mod process;
mod server;
pub mod text;

use std::sync::Arc;

use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};

pub use self::process::{Process, resident_bytes};
use self::text::{Form, Kind, Samples, Text};
use crate::drift::{self, FeatureDrift};
use crate::routes::reply;
use crate::served::Served;
use crate::state::{Catalog, State};

/// One metric.
pub struct Family {
    /// Its name, as dashboards ask for it.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
    write: fn(&Moment<'_>, &mut Samples<'_>),
}

/// What is told from.
pub struct Moment<'a> {
    state: &'a State,
    catalog: Arc<Catalog>,
    /// The versions that answer, with their numbers as text.
    versions: Vec<(Arc<Served>, String)>,
    /// What is watched of each of them.
    drift: Vec<Vec<FeatureDrift>>,
    process: Option<Process>,
}

/// The lists of all families, in the order of the text.
const LISTS: [&[Family]; 4] = [models::TRITON, models::OWN, server::OWN, server::PROCESS];

/// Every family that there is.
pub fn families() -> impl Iterator<Item = &'static Family> {
    LISTS.into_iter().flatten()
}

impl<'a> Moment<'a> {
    fn new(state: &'a State) -> Self {
        let catalog = state.catalog();
        let ready = catalog.models.values().flat_map(|model| model.versions.values());
        let versions = ready.filter_map(|version| version.served());
        let versions: Vec<_> =
            versions.map(|served| (Arc::clone(served), served.version().to_string())).collect();
        let drift = versions.iter().map(|(served, _)| drift::features(&state.drift, served)).collect();
        Self { state, catalog, versions, drift, process: Process::now() }
    }
}

/// All metrics of a server as text.
#[must_use]
pub fn write(state: &State, form: Form) -> String {
    let moment = Moment::new(state);
    let mut text = Text::new(form);
    for family in families() {
        (family.write)(&moment, &mut text.family(family.name, family.kind, family.labels, family.help));
    }
    text.finish()
}

/// `GET /metrics`: in the form that the header `Accept` names, else Prometheus' own.
///
/// # Errors
/// 503 when there is no thread to pack it.
pub async fn serve(request: HttpRequest, state: web::Data<State>) -> crate::error::Result<HttpResponse> {
    let values = request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    let form = Form::accepted(&values.collect::<Vec<_>>().join(","));
    let text = write(&state, form).into_bytes();
    let response = HttpResponse::Ok().insert_header((CONTENT_TYPE, form.content_type())).finish();
    reply::packed(&state, reply::accepted(&request), response, text).await
}
