//! Packages on the disk: the record of a network's tensors and its [`codec`], the manifest that describes them, the
//! verified [`Package`], and the [`Registry`] of versions and aliases.
//!
//! It deliberately knows nothing of Burn but the file format of its records, so it compiles in seconds and
//! can be fuzzed alone, and it never reads the clock: who makes a package tells the time. What is read is
//! limited ([`Limits`]), version-checked and digest-verified before it is believed; what is written appears
//! whole or not at all.
//!
//! ```no_run
//! use artifact::Registry;
//!
//! let registry = Registry::open("artifacts/models")?;
//! let package = registry.package(&"digits@production".parse()?)?;
//! println!("{} classes", package.manifest().labels().len());
//! let weights = package.weights()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod atomic;
pub mod card;
pub mod codec;
pub mod diff;
pub mod digest;
mod error;
mod json;
mod limits;
pub mod manifest;
mod model_ref;
mod package;
mod read;
pub mod record;
pub mod registry;
pub mod schema;

pub use self::codec::CodecError;
pub use self::error::FileError;
pub use self::limits::Limits;
pub use self::manifest::{
    EvaluationSettings, FileEntry, FormatVersion, Lineage, LineageStep, Manifest, ManifestError,
    ReferenceStatistics, Sample, SampleCell, SampleError, SampleInput,
};
pub use self::model_ref::{
    LATEST, ModelRef, NameError, PRODUCTION, Selector, check_alias, check_name, parse_version,
};
pub use self::package::{Package, PackageError, Problem};
pub use self::read::{ReadError, read};
pub use self::record::RecordError;
pub use self::registry::{AliasMove, Draft, Encoding, Published, Registry, RegistryError, Resolved};
