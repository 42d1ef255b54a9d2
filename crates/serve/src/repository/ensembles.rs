//! Models that are made of others, kept in line with them.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Those that are not served because the directory has a model of their name.
    taken: BTreeSet<String>,
}

/// What one of them was made of.
#[derive(Debug)]
struct Made {
    config: EnsembleConfig,
    members: Vec<Arc<Served>>,
}

impl Ensembles {
    /// Whether the directory had a model of that name when it was last looked at.
    pub(super) fn is_taken(&self, name: &str) -> bool {
        self.taken.contains(name)
    }

    /// Brings all of them in line with their members, and returns what is not asked any more. `taken` tells whether
    /// the directory has a model of that name, which is served in the place of the ensemble then.
    pub(super) fn settle(
        &mut self,
        state: &State,
        configs: &BTreeMap<String, EnsembleConfig>,
        taken: impl Fn(&str) -> bool,
    ) -> Vec<Arc<Served>> {
        let mut leaving = Vec::new();
        let before = std::mem::take(&mut self.taken);
        self.taken = configs.keys().filter(|name| taken(name)).cloned().collect();
        for name in self.taken.difference(&before) {
            tracing::error!(model = %name, "the ensemble is not served: the directory has a model of its name");
        }
        let gone = |name: &String| !configs.contains_key(name) || self.taken.contains(name);
        let gone: Vec<String> = self.made.keys().filter(|name| gone(name)).cloned().collect();
        for name in gone {
            self.made.remove(&name);
            // What is in the catalog under a name that was taken is the model, or becomes it.
            if taken(&name) {
                continue;
            }
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
                if !self.taken.contains(name) {
                    changed |= self.settle_one(state, name, config, &mut leaving);
                }
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
        if let (Ok(members), Some(made)) = (&members, self.made.get(name))
            && made.config == *config
            && made.members.len() == members.len()
            && made.members.iter().zip(members).all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return false;
        }
        match members.and_then(|members| Ok((Ensemble::new(config, members.clone())?, members))) {
            Ok((ensemble, members)) => {
                // Other members are another version to all that remembers: a queue, kept answers, other ensembles.
                let served = Served::new(name, VERSION, Arc::new(ensemble), &state.scheduler, &state.health);
                let made = Made { config: config.clone(), members };
                let what = if self.made.insert(name.to_owned(), made).is_some() {
                    "the ensemble has taken up a change of its members"
                } else {
                    "the ensemble is ready"
                };
                tracing::info!(model = %name, members = ?config.members, "{what}");
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
