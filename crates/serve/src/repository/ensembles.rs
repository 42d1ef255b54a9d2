//! Models that are made of others, kept in line with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ensemble::{Ensemble, EnsembleConfig};
use crate::served::Served;
use crate::state::{Catalog, State, Version};

/// Their only version.
const VERSION: u64 = 1;

/// The ensembles that answer.
#[derive(Debug, Default)]
pub(super) struct Ensembles {
    made: BTreeMap<String, Made>,
}

/// One of them, and what it was made by.
#[derive(Debug)]
struct Made {
    config: EnsembleConfig,
    ensemble: Arc<Ensemble>,
}

impl Ensembles {
    /// Brings all of them in line with their members, and returns what is not asked any more. `taken` tells whether
    /// the directory has a model of that name.
    pub(super) fn settle(
        &mut self,
        state: &State,
        configs: &BTreeMap<String, EnsembleConfig>,
        taken: impl Fn(&str) -> bool,
    ) -> Vec<Arc<Served>> {
        let mut leaving = Vec::new();
        let gone: Vec<String> =
            self.made.keys().filter(|name| !configs.contains_key(*name)).cloned().collect();
        for name in gone {
            self.made.remove(&name);
            state.update(|catalog| {
                if let Some(model) = catalog.models.remove(&name) {
                    leaving.extend(model.versions.values().filter_map(Version::served).cloned());
                }
            });
        }
        // An ensemble may be a member of another: so many rounds are enough, for they do not go in a circle.
        for _ in 0..configs.len() {
            let mut changed = false;
            for (name, config) in configs {
                if taken(name) {
                    tracing::error!(model = %name, "the ensemble is not served: the directory has a model of its name");
                    continue;
                }
                changed |= self.settle_one(state, name, config, &mut leaving);
            }
            if !changed {
                break;
            }
        }
        leaving
    }

    /// Whether something has changed for those who ask it.
    fn settle_one(
        &mut self,
        state: &State,
        name: &str,
        config: &EnsembleConfig,
        leaving: &mut Vec<Arc<Served>>,
    ) -> bool {
        let catalog = state.catalog();
        let members = members(&catalog, config);
        if let (Ok(members), Some(made)) = (&members, self.made.get(name)) {
            let now = made.ensemble.members();
            if made.config == *config
                && now.len() == members.len()
                && now.iter().zip(members).all(|(a, b)| Arc::ptr_eq(a, b))
            {
                return false;
            }
        }
        let made = members.and_then(|members| Ensemble::new(config, members));
        match made {
            Ok(next) => {
                if let Some(made) = self.made.get_mut(name).filter(|made| made.ensemble.take(&next)) {
                    made.config.clone_from(config);
                    tracing::info!(model = %name, "the ensemble has taken up a change of its members");
                    return false;
                }
                let next = Arc::new(next);
                let made = Made { config: config.clone(), ensemble: Arc::clone(&next) };
                self.made.insert(name.to_owned(), made);
                let served = Served::new(name, VERSION, next, &state.scheduler, &state.health);
                tracing::info!(model = %name, members = ?config.members, "the ensemble is ready");
                put(state, name, Version::Ready(served), None, leaving);
                true
            }
            Err(reason) => {
                let before = self.made.remove(name).is_some();
                let known = catalog.models.get(name).and_then(|model| model.reasons.get(&VERSION));
                if known.map(String::as_str) == Some(reason.as_str()) {
                    return false;
                }
                tracing::error!(model = %name, reason, "the ensemble is not served");
                put(state, name, Version::Failed, Some(reason), leaving);
                before
            }
        }
    }
}

fn members(catalog: &Catalog, config: &EnsembleConfig) -> Result<Vec<Arc<Served>>, String> {
    let find = |reference: artifact::ModelRef| {
        let found = catalog.find(&reference.name, &reference.selector).cloned();
        found.map_err(|error| format!("the member `{reference}` is not ready: {error}"))
    };
    config.references()?.into_iter().map(find).collect()
}

fn put(state: &State, name: &str, version: Version, reason: Option<String>, leaving: &mut Vec<Arc<Served>>) {
    state.update(|catalog| {
        let model = catalog.models.entry(name.to_owned()).or_default();
        let before = model.versions.insert(VERSION, version);
        leaving.extend(before.as_ref().and_then(Version::served).cloned());
        match reason {
            Some(reason) => model.reasons.insert(VERSION, reason),
            None => model.reasons.remove(&VERSION),
        };
    });
}
