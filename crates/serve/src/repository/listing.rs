//! How what was found gets into the catalog: names, states and aliases.

use std::collections::BTreeSet;
use std::sync::Arc;

use artifact::Registry;

use super::disk::{Disk, Found};
use crate::served::Served;
use crate::state::{Catalog, Model, State, Version};

/// The versions that the traffic names, or an alias: in the directory, and as long as it has not moved there in what
/// is served.
pub(super) fn names(catalog: &Catalog, name: &str, found: &Found) -> BTreeSet<u64> {
    let model = catalog.models.get(name);
    let aliases = model.map(|model| &model.aliases).into_iter().chain(&found.aliases);
    let traffic = model.and_then(|model| model.traffic.as_ref()).map(|live| live.named());
    let aliases = aliases.flat_map(|aliases| aliases.values().copied());
    aliases.chain(traffic.into_iter().flatten().copied()).collect()
}

pub(super) fn served(catalog: &Catalog, name: &str, number: u64) -> Option<Arc<Served>> {
    catalog.models.get(name)?.versions.get(&number)?.served().cloned()
}

/// Enters what was found into the listing, without loading anything.
pub(super) fn list(catalog: &mut Catalog, name: &str, found: &Found, wanted: bool) {
    let model = catalog.models.entry(name.to_owned()).or_default();
    for number in found.versions.keys() {
        model.versions.entry(*number).or_insert(if wanted { Version::Loading } else { Version::Unloaded });
    }
    if model.aliases.is_empty() && !model.is_ready() {
        model.aliases = found.aliases.clone().unwrap_or_default();
    }
}

/// Brings the listing up to date and leaves what is served as it is.
pub(super) fn list_only(state: &State, disk: &Disk, is_ensemble: impl Fn(&str) -> bool) {
    state.update(|catalog| {
        for (name, found) in &disk.models {
            list(catalog, name, found, false);
        }
        for (name, model) in catalog.models.iter_mut().filter(|(name, _)| !is_ensemble(name)) {
            let found = disk.models.get(name);
            let there = |number: &u64| found.is_some_and(|found| found.versions.contains_key(number));
            let Model { versions, reasons, .. } = model;
            versions.retain(|number, version| {
                let keep = !matches!(version, Version::Unloaded | Version::Failed) || there(number);
                if !keep {
                    reasons.remove(number);
                }
                keep
            });
        }
        catalog.models.retain(|name, model| !model.versions.is_empty() || disk.unreadable.contains(name));
    });
}

pub(super) fn set(state: &State, name: &str, number: u64, version: Version, reason: Option<&str>) {
    state.update(|catalog| {
        let model = catalog.models.entry(name.to_owned()).or_default();
        model.versions.insert(number, version);
        match reason {
            Some(reason) => model.reasons.insert(number, reason.to_owned()),
            None => model.reasons.remove(&number),
        };
    });
}

/// Moves the aliases to where the directory says now, each only once the version there is ready: an alias that answers
/// goes on answering. Since the look much may have been loaded, and an alias moved by a request, which must not be taken
/// back: it is moved in the directory first and then in the catalog, so the directory is read while nobody else changes
/// the catalog.
pub(super) fn point(state: &State, name: &str, registry: &Registry, said: &mut BTreeSet<String>) {
    state.update(|catalog| {
        let Some(model) = catalog.models.get_mut(name) else { return };
        let Ok(wanted) = &registry.aliases(name) else { return };
        let ready = |model: &Model, number: u64| matches!(model.versions.get(&number), Some(Version::Ready(_)));
        let before = std::mem::take(&mut model.aliases);
        for (alias, &number) in wanted {
            let earlier = before.get(alias).copied().filter(|&earlier| earlier != number && ready(model, earlier));
            let key = format!("\0{name}@{alias}={number}");
            let target = match earlier {
                Some(earlier) if !ready(model, number) => {
                    if said.insert(key) {
                        tracing::warn!(model = %name, alias, version = number, answers = earlier, "the alias waits for its version");
                    }
                    earlier
                }
                _ => {
                    said.remove(&key);
                    number
                }
            };
            if before.get(alias) != Some(&target) && !before.is_empty() {
                tracing::info!(model = %name, alias, version = target, "the alias has moved");
            }
            model.aliases.insert(alias.clone(), target);
        }
    });
}

#[cfg(test)]
mod tests {
    use network::Signature;

    use super::*;
    use crate::config::Limits;
    use crate::executor::Identity;
    use crate::pool::Pool;
    use crate::scheduler::{Scheduler, SchedulerOptions};

    #[test]
    fn an_alias_that_has_moved_since_the_look_is_not_taken_back() {
        let place = tempfile::tempdir().unwrap();
        let registry = Registry::open(place.path()).unwrap();
        for version in [1, 2] {
            let directory = place.path().join(format!("m/{version}"));
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("manifest.json"), "{}").unwrap();
        }
        let scheduler = Scheduler::new(SchedulerOptions::default()).unwrap();
        let state = State::new(Pool::new(1, 1).unwrap(), scheduler, Limits::default());
        for version in [1, 2] {
            let nothing = Arc::new(Identity(Signature { inputs: Vec::new(), outputs: Vec::new() }));
            let served = Served::new("m", version, nothing, &state.scheduler, &state.health);
            set(&state, "m", version, Version::Ready(served), None);
        }
        let to = |version: u64| {
            let text =
                format!(r#"{{"format": "1.0", "aliases": {{"production": {{"version": {version}}}}}}}"#);
            std::fs::write(place.path().join("m/registry.json"), text).unwrap();
        };
        to(1);
        let found = Disk::look(&registry).unwrap().models.remove("m").unwrap();
        assert_eq!(found.aliases.as_ref().unwrap()["production"], 1);
        // A promotion, while the look loads something else.
        to(2);
        state.update(|catalog| {
            catalog.models.get_mut("m").unwrap().aliases.insert("production".to_owned(), 2);
        });
        point(&state, "m", &registry, &mut BTreeSet::new());
        assert_eq!(state.catalog().models["m"].aliases["production"], 2);
    }
}
