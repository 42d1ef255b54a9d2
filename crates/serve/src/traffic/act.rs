//! What people and programs may do to the traffic of a model.

use std::collections::BTreeMap;

use artifact::PRODUCTION;
use serde::Deserialize;
use serde_json::Value;

use super::plan::{Auto, Plan, Shadow};
use super::store::Kept;
use super::{Directed, Traffic};
use crate::error::{Result, ServeError, shown};
use crate::state::{Model, State};

/// A change, as the body of `POST …/traffic` says it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Splits the traffic by weights; ends a candidate's steps.
    Set {
        /// Weights by version.
        split: BTreeMap<String, u32>,
        /// Who keeps a version; without it as before.
        #[serde(default)]
        sticky: Option<String>,
    },
    /// Copies requests to a version, or to none any more.
    Shadow {
        /// The version; none ends it.
        #[serde(default)]
        version: Option<u64>,
        /// Which share of the requests.
        #[serde(default)]
        percent: Option<f64>,
    },
    /// Lets a candidate in by steps.
    Auto(Auto),
    /// Puts a version in production now; ends whatever else was wanted.
    Promote {
        /// The version.
        version: u64,
    },
    /// Takes a split, a shadow and a candidate back; where there is none, points `production` at the version before.
    Rollback,
}

impl Traffic {
    /// Changes the traffic of a model, and returns what holds then. It writes a file and may wait for its lock.
    ///
    /// # Errors
    /// 404 for an unknown model, 400 for a version that is not loaded or a plan that cannot work.
    pub fn act(&self, state: &State, name: &str, action: Action) -> Result<Value> {
        {
            let catalog = state.catalog();
            let model = catalog.model(name)?;
            let mut models = self.models();
            let before = models.get(name).map(|directed| directed.kept.plan.clone()).unwrap_or_default();
            let next = match action {
                Action::Set { split, sticky } => {
                    let sticky = sticky.unwrap_or_else(|| before.sticky.clone());
                    Some((Plan { split, sticky, auto: None, ..before }, "set", "as it was asked for"))
                }
                Action::Shadow { version, percent } => {
                    let shadow = version.map(|version| Shadow { version, percent: percent.unwrap_or(100.0) });
                    Some((Plan { shadow, ..before }, "shadow", "as it was asked for"))
                }
                Action::Auto(auto) => {
                    let split = BTreeMap::new();
                    Some((Plan { auto: Some(auto), split, ..before }, "auto", "as it was asked for"))
                }
                Action::Promote { version } => {
                    loaded(name, model, version)?;
                    let directed = entry(&mut models, name);
                    self.promote(state, name, directed, version, "as it was asked for");
                    None
                }
                Action::Rollback if before != Plan::default() => {
                    Some((Plan::default(), "rolled_back", "as it was asked for"))
                }
                Action::Rollback => {
                    let moved = self.registry.rollback(name, PRODUCTION).map_err(|error| {
                        tracing::warn!(model = %name, error = crate::load::chain(&error), "no rollback");
                        ServeError::invalid(format_args!(
                            "{} has no split, shadow or candidate to take back, and its alias `{PRODUCTION}` no \
                             earlier version",
                            shown(name)
                        ))
                    })?;
                    let why = format!("version {} is in production again, as it was asked for", moved.to);
                    let directed = entry(&mut models, name);
                    self.replace(name, directed, Plan::default(), 0, "rolled_back", &why);
                    state.front.nudge();
                    None
                }
            };
            if let Some((plan, what, why)) = next {
                plan.check().map_err(ServeError::invalid)?;
                for version in plan.versions() {
                    loaded(name, model, version)?;
                }
                self.replace(name, entry(&mut models, name), plan, 0, what, why);
            }
        }
        self.tick(state);
        self.view(state, name)
    }
}

fn entry<'a>(models: &'a mut BTreeMap<String, Directed>, name: &str) -> &'a mut Directed {
    models.entry(name.to_owned()).or_insert_with(|| Directed::new(Kept::default(), Ok(())))
}

/// Traffic goes only to what is loaded.
fn loaded(name: &str, model: &Model, version: u64) -> Result<()> {
    if model.versions.get(&version).is_some_and(|version| version.served().is_some()) {
        return Ok(());
    }
    let ready = model.versions.iter().filter(|(_, version)| version.served().is_some());
    let ready: Vec<String> = ready.map(|(number, _)| number.to_string()).collect();
    let message = format!("version {version} of {} is not loaded", shown(name));
    Err(ServeError::invalid(message).with("versions", ready))
}
