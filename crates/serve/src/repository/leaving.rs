//! Versions that get no requests any more, until their last one has ended.

use std::path::Path;
use std::sync::Arc;

use crate::served::Served;
use crate::state::{State, Version};

/// A version that is not in the catalog any more, or was replaced in it.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) served: Arc<Served>,
    /// Whether another one has its number already.
    pub(super) replaced: bool,
}

/// Drops the versions whose last request has ended.
pub(super) fn sweep(all: &mut Vec<Leaving>, state: &State, root: &Path) {
    let (done, leaving) = std::mem::take(all)
        .into_iter()
        .partition::<Vec<_>, _>(|leaving| Arc::strong_count(&leaving.served) == 1);
    *all = leaving;
    for Leaving { served, replaced } in done {
        let (name, number) = (served.name().to_owned(), served.version());
        drop(served);
        tracing::info!(model = name, version = number, "unloaded");
        if replaced {
            continue;
        }
        let there = root.join(&name).join(number.to_string()).is_dir();
        state.update(|catalog| {
            let Some(model) = catalog.models.get_mut(&name) else { return };
            if !matches!(model.versions.get(&number), Some(Version::Unloading)) {
                return;
            }
            if there {
                model.versions.insert(number, Version::Unloaded);
            } else {
                model.versions.remove(&number);
                model.reasons.remove(&number);
            }
            if model.versions.is_empty() {
                catalog.models.remove(&name);
            }
        });
    }
}
