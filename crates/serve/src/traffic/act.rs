//! What people and programs may do to the traffic of a model.

use std::collections::BTreeMap;

use artifact::{PRODUCTION, RegistryError, Selector};
use serde::Deserialize;
use serde_json::Value;

use super::plan::{Auto, Plan, Shadow};
use super::{Traffic, point};
use crate::ensemble::prepares_alike;
use crate::error::{Result, ServeError, shown};
use crate::state::{Model, State};

/// Why, when a request wants it.
const ASKED: &str = "as it was asked for";

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
            let mut changing = self.changing();
            self.read(state, &mut changing);
            let catalog = state.catalog();
            let model = catalog.model(name)?;
            let kept =
                self.models().get(name).map(|directed| (directed.kept.plan.clone(), directed.kept.step));
            let (before, step) = kept.unwrap_or_default();
            let next = match action {
                Action::Set { split, sticky } => {
                    let sticky = sticky.unwrap_or_else(|| before.sticky.clone());
                    Some((Plan { split, sticky, auto: None, ..before }, 0, "set"))
                }
                Action::Shadow { version, percent } => {
                    let shadow = version.map(|version| Shadow { version, percent: percent.unwrap_or(100.0) });
                    // A candidate stays at the step that it has come to.
                    Some((Plan { shadow, ..before }, step, "shadow"))
                }
                Action::Auto(auto) => {
                    let split = BTreeMap::new();
                    Some((Plan { auto: Some(auto), split, ..before }, 0, "auto"))
                }
                Action::Promote { version } => {
                    loaded(name, model, version)?;
                    self.promote(state, name, version, ASKED);
                    None
                }
                Action::Rollback if before != Plan::default() => Some((Plan::default(), 0, "rolled_back")),
                Action::Rollback => {
                    self.roll_back(state, name, model)?;
                    None
                }
            };
            if let Some((plan, step, what)) = next {
                plan.check().map_err(ServeError::invalid)?;
                for version in plan.versions() {
                    loaded(name, model, version)?;
                }
                if let Some(shadow) = &plan.shadow {
                    understands(name, model, shadow.version)?;
                }
                self.replace(name, plan, step, what, ASKED);
            }
        }
        self.tick(state);
        self.view(state, name)
    }

    /// Points the alias `production` at the version before.
    fn roll_back(&self, state: &State, name: &str, model: &Model) -> Result<()> {
        let none = |error: &RegistryError| {
            tracing::warn!(model = %name, error = crate::load::chain(error), "no rollback");
            ServeError::invalid(format_args!(
                "{} has no split, shadow or candidate to take back, and its alias `{PRODUCTION}` no earlier version",
                shown(name)
            ))
        };
        // Where the directory is watched, what an alias names is loaded and then answers; elsewhere nothing would.
        if !state.front.follows()
            && let Some(to) = self.earlier(name).map_err(|error| none(&error))?
        {
            loaded(name, model, to)?;
        }
        let to = self.registry.rollback(name, PRODUCTION).map_err(|error| none(&error))?.to;
        let ready = loaded(name, model, to).is_ok();
        let when = if ready { "" } else { " as soon as it is loaded" };
        let why = format!("version {to} is in production again{when}, {ASKED}");
        self.replace(name, Plan::default(), 0, "rolled_back", &why);
        if ready {
            point(state, name, to);
        } else {
            state.front.nudge();
        }
        Ok(())
    }

    /// The version that `production` would go back to.
    fn earlier(&self, name: &str) -> std::result::Result<Option<u64>, RegistryError> {
        let (states, there) = (self.registry.alias_states(name)?, self.registry.versions(name)?);
        let earlier = states.get(PRODUCTION).and_then(|state| {
            let other = |version: &u64| *version != state.version && there.contains(version);
            state.history.iter().rev().copied().find(other)
        });
        Ok(earlier)
    }
}

/// A shadow is given the tensors that were prepared for the version that answers.
fn understands(name: &str, model: &Model, shadow: u64) -> Result<()> {
    let served = |version: u64| model.versions.get(&version)?.served();
    let default = model.number(name, &Selector::Default).ok();
    match (default.and_then(served), served(shadow)) {
        (Some(default), Some(other)) if !prepares_alike(default, other) => {
            Err(ServeError::invalid(format_args!(
                "version {shadow} of {} prepares its inputs in another way than version {}, whose prepared tensors it \
                 would be given: their answers cannot be compared",
                shown(name),
                default.version()
            )))
        }
        _ => Ok(()),
    }
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
