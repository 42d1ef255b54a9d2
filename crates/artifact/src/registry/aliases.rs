//! Aliases: the only thing in a registry that moves.

use std::collections::BTreeMap;

use serde::Serialize;

use super::state::State;
use super::{AliasState, Lock, Registry, RegistryError};
use crate::model_ref::{check_alias, check_name};

/// What moving an alias did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AliasMove {
    /// The model.
    pub name: String,
    /// The alias.
    pub alias: String,
    /// Where it pointed before.
    pub from: Option<u64>,
    /// Where it points now.
    pub to: u64,
}

impl Registry {
    /// The aliases of a model with the versions they point at; none when there is no such model.
    ///
    /// # Errors
    /// When the name cannot be one or the model's state cannot be read.
    pub fn aliases(&self, name: &str) -> Result<BTreeMap<String, u64>, RegistryError> {
        let states = self.alias_states(name)?;
        Ok(states.into_iter().map(|(alias, state)| (alias, state.version)).collect())
    }

    /// The aliases of a model with their history.
    ///
    /// # Errors
    /// As [`Registry::aliases`].
    pub fn alias_states(&self, name: &str) -> Result<BTreeMap<String, AliasState>, RegistryError> {
        check_name(name)?;
        Ok(State::read(&self.root.join(name))?.aliases)
    }

    /// Points an alias at a version, in one step for everybody who reads it.
    ///
    /// # Errors
    /// When the version does not exist or the alias cannot be set.
    pub fn promote(&self, name: &str, version: u64, alias: &str) -> Result<AliasMove, RegistryError> {
        check_alias(alias)?;
        let model = self.existing(name, version)?;
        let _lock = Lock::take(&model)?;
        // Somebody may have removed it before the lock was taken.
        self.existing(name, version)?;
        let mut state = State::read(&model)?;
        let from = state.promote(alias, version);
        state.write(&model)?;
        Ok(AliasMove { name: name.to_owned(), alias: alias.to_owned(), from, to: version })
    }

    /// Points an alias back at the version before; again, at the one before that. Removed versions are
    /// passed over.
    ///
    /// # Errors
    /// When there is no such alias or no earlier version.
    pub fn rollback(&self, name: &str, alias: &str) -> Result<AliasMove, RegistryError> {
        check_alias(alias)?;
        let known = self.versions(name)?;
        if known.is_empty() {
            let (name, root) = (name.to_owned(), self.root.clone());
            return Err(RegistryError::UnknownModel { name, root, known: self.models()? });
        }
        let model = self.root.join(name);
        let _lock = Lock::take(&model)?;
        let known = self.versions(name)?;
        let mut state = State::read(&model)?;
        let (name, alias) = (name.to_owned(), alias.to_owned());
        if !state.aliases.contains_key(&alias) {
            return Err(RegistryError::UnknownAlias {
                name,
                alias,
                known: state.aliases.into_keys().collect(),
            });
        }
        let moved = state.rollback(&alias, |version| known.contains(&version));
        let Some((from, to)) = moved else {
            return Err(RegistryError::NoHistory { name, alias });
        };
        state.write(&model)?;
        Ok(AliasMove { name, alias, from: Some(from), to })
    }
}
