//! Who asks: a name, what it may do, and on which models.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bucket::Bucket;
use crate::error::shown;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look: models, metadata, statistics, settings.
    Read,
    /// Have models answer.
    Infer,
    /// Change what is served, logged and traced. It includes the two others, because who changes something must see it
    /// and try it.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Infer, Self::Admin];

    /// Its name, as it stands in files and tokens.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Infer => "infer",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| format!("{} is no scope; the scopes are read, infer and admin", shown(text)))
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    read: bool,
    infer: bool,
    admin: bool,
}

impl Scopes {
    /// Looking and asking: what everybody may where nothing says who is who.
    pub const USE: Self = Self { read: true, infer: true, admin: false };

    /// These ones.
    #[must_use]
    pub fn of(list: &[Scope]) -> Self {
        let has = |scope| list.contains(&scope);
        Self { read: has(Scope::Read), infer: has(Scope::Infer), admin: has(Scope::Admin) }
    }

    /// Whether it holds a scope, by itself or as part of `admin`.
    #[must_use]
    pub fn allows(self, scope: Scope) -> bool {
        match scope {
            Scope::Read => self.read || self.admin,
            Scope::Infer => self.infer || self.admin,
            Scope::Admin => self.admin,
        }
    }

    /// Without the right to change anything.
    #[must_use]
    pub fn without_admin(self) -> Self {
        Self { admin: false, ..self }
    }
}

/// The models that somebody may use: those of the names in a list, in which an entry that ends with `*` means all that
/// begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Models(Arc<[String]>);

impl Models {
    /// Every model.
    #[must_use]
    pub fn all() -> Self {
        Self::of(&["*".to_owned()])
    }

    /// The models of a list.
    #[must_use]
    pub fn of(list: &[String]) -> Self {
        Self(list.into())
    }

    /// Whether a name is among them.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|entry| match entry.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => entry == name,
        })
    }

    /// Whether they are all that there can be.
    #[must_use]
    pub fn are_all(&self) -> bool {
        self.0.iter().any(|entry| entry == "*")
    }

    /// The list.
    #[must_use]
    pub fn list(&self) -> &[String] {
        &self.0
    }
}

/// By what somebody is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Known {
    /// By nothing.
    Anonymous,
    /// By a key.
    Key,
    /// By a token that somebody else issued.
    Token,
    /// By the certificate of the client.
    Certificate,
    /// As the process that runs the server, or who may send it signals.
    Operator,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The name of the key, the subject of the token, or the name in the certificate.
    pub name: String,
    /// By what it is known.
    pub known: Known,
    /// What it may do.
    pub scopes: Scopes,
    /// On which models.
    pub models: Models,
    /// When that ends, in seconds since 1970.
    pub(super) expires: Option<u64>,
    /// How often it may ask.
    pub(super) bucket: Option<Arc<Bucket>>,
}

impl Principal {
    /// Whoever brings nothing to be known by.
    #[must_use]
    pub fn anonymous(scopes: Scopes) -> Self {
        Self {
            name: "anonymous".to_owned(),
            known: Known::Anonymous,
            scopes,
            models: Models::all(),
            expires: None,
            bucket: None,
        }
    }

    /// Who runs the server.
    #[must_use]
    pub fn operator(name: &str) -> Self {
        let scopes = Scopes::of(&Scope::ALL);
        Self { name: name.to_owned(), known: Known::Operator, ..Self::anonymous(scopes) }
    }

    /// Whether it may look at a model.
    #[must_use]
    pub fn may_see(&self, model: &str) -> bool {
        self.scopes.allows(Scope::Read) && self.models.contains(model)
    }

    /// What there is to call it in a message.
    pub(super) fn title(&self) -> &'static str {
        match self.known {
            Known::Anonymous => "a request without a key",
            Known::Key => "this key",
            Known::Token => "this token",
            Known::Certificate => "this certificate",
            Known::Operator => "the operator",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_includes_the_others_and_nothing_else_does() {
        for (scopes, allowed) in [
            (vec![], [false, false, false]),
            (vec![Scope::Read], [true, false, false]),
            (vec![Scope::Infer], [false, true, false]),
            (vec![Scope::Read, Scope::Infer], [true, true, false]),
            (vec![Scope::Admin], [true, true, true]),
        ] {
            assert_eq!(Scope::ALL.map(|scope| Scopes::of(&scopes).allows(scope)), allowed, "{scopes:?}");
        }
        assert!(!Scopes::of(&[Scope::Admin]).without_admin().allows(Scope::Read));
    }

    #[test]
    fn models_are_named_or_begin_so() {
        let models = Models::of(&["digits".to_owned(), "team-*".to_owned()]);
        for (name, expected) in [
            ("digits", true),
            ("digits2", false),
            ("team-a", true),
            ("team", false),
            ("", false),
            ("*", false),
        ] {
            assert_eq!(models.contains(name), expected, "{name}");
        }
        assert!(!models.are_all() && Models::all().are_all() && Models::all().contains("x"));
        assert!(!Models::of(&[]).contains(""), "no list, no model");
    }
}
