//! Reads everything again and says what is wrong with it.

use std::path::PathBuf;

use super::{Registry, RegistryError, Warning};
use crate::model_ref::{ModelRef, Selector};

/// What a verification found.
#[derive(Debug, Default)]
pub struct Verification {
    /// Every version that was looked at.
    pub packages: Vec<Verified>,
    /// Aliases whose version does not exist any more, and state files that cannot be read.
    pub problems: Vec<Warning>,
    /// What was ignored because it is no model or version.
    pub ignored: Vec<Warning>,
}

/// One version.
#[derive(Debug)]
pub struct Verified {
    /// The model.
    pub name: String,
    /// The version.
    pub version: u64,
    /// The directory of the package.
    pub path: PathBuf,
    /// What is wrong with it; nothing when all digests are right and the record fits the network.
    pub error: Option<RegistryError>,
}

impl Verification {
    /// Whether nothing is wrong. What was ignored does not count.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty() && self.packages.iter().all(|package| package.error.is_none())
    }
}

impl Registry {
    /// Opens every version of every model as a server would, and follows every alias.
    ///
    /// # Errors
    /// When the root cannot be listed; what is wrong with a package is in the result.
    pub fn verify(&self) -> Result<Verification, RegistryError> {
        let scan = self.scan()?;
        let (problems, ignored) = scan.warnings.into_iter().partition(|warning| warning.damage);
        let mut verification = Verification { packages: Vec::new(), problems, ignored };
        for model in scan.models {
            verification.packages.extend(model.versions.iter().map(|&v| self.verified(&model.name, v)));
            for (alias, version) in &model.aliases {
                if !model.versions.contains(version) {
                    verification.problems.push(Warning {
                        path: self.root.join(&model.name).join(super::state::STATE_FILE),
                        reason: format!(
                            "the alias `{alias}` points at version {version}, which does not exist"
                        ),
                        damage: true,
                    });
                }
            }
        }
        Ok(verification)
    }

    /// Opens one version.
    #[must_use]
    pub fn verified(&self, name: &str, version: u64) -> Verified {
        let reference = ModelRef { name: name.to_owned(), selector: Selector::Version(version) };
        let error = self.package(&reference).err();
        Verified { name: name.to_owned(), version, path: self.version_path(name, version), error }
    }
}
