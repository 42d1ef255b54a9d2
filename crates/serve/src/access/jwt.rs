//! Tokens that somebody else issued (JWT, RFC 7519), verified with keys of files.
//!
//! `jsonwebtoken` reads headers and keys, `ring` verifies. A key is used with algorithms of its own kind alone, and with
//! those that the settings allow; what a token says about keys (`jwk`, `jku`, `x5c`, `x5u`) is never looked at. `none` is
//! no algorithm here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, decode_header};
use ring::{hmac, signature};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::bucket::{Buckets, Rate};
use super::files::{self, FileFault};
use super::principal::{Known, Models, Principal, Scope, Scopes};
use crate::error::shown;

/// How tokens are verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtConfig {
    /// Who must have issued them (`iss`).
    pub issuer: String,
    /// For whom they must be (`aud`): one of these.
    pub audience: Vec<String>,
    /// The algorithms that are allowed, all of one kind with the key.
    pub algorithms: Vec<Algorithm>,
    /// The file of a public key (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The file of a set of public keys (JWKS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<PathBuf>,
    /// The file of a secret, for HS256 and its like: its bytes without the line break at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<PathBuf>,
    /// Seconds that clocks may differ by.
    #[serde(default = "leeway")]
    pub leeway_s: u64,
    /// The claim with the scopes: words in a text, or a list.
    #[serde(default = "scope_claim")]
    pub scope_claim: String,
    /// What stands before the scopes that are ours, such as `brazier:`; others are passed over.
    #[serde(default)]
    pub scope_prefix: String,
    /// The claim with the models; a token without it may use all.
    #[serde(default = "models_claim")]
    pub models_claim: String,
    /// Whether a token may have the scope `admin`.
    #[serde(default)]
    pub allow_admin: bool,
    /// Requests a second of each subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Requests at once of each subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

fn leeway() -> u64 {
    60
}

fn scope_claim() -> String {
    "scope".to_owned()
}

fn models_claim() -> String {
    "models".to_owned()
}

/// The longest token that is looked at.
const LONGEST: usize = 8 << 10;
/// Subjects with a bucket of their own.
const MOST_SUBJECTS: usize = 10_000;
/// Bytes that a secret has at least: as many as the longest digest that it is for (RFC 7518, 3.2).
fn shortest_secret(algorithms: &[Algorithm]) -> usize {
    let digest = |algorithm: &Algorithm| match algorithm {
        Algorithm::HS512 => 64,
        Algorithm::HS384 => 48,
        _ => 32,
    };
    algorithms.iter().map(digest).max().unwrap_or(32)
}

/// Verifies tokens.
pub struct Jwt {
    config: JwtConfig,
    keys: Vec<Key>,
    buckets: Option<Arc<Buckets>>,
}

struct Key {
    id: Option<String>,
    /// The only algorithm that it is for, if its set says so.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("config", &self.config).field("keys", &self.keys.len()).finish()
    }
}

/// Why a token is not accepted. A reason is told only of tokens whose signature is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It cannot be read, or its signature is not that of a known key.
    Unverified,
    /// Its time is up.
    Expired,
    /// Its time has not come.
    NotYet,
    /// It is for somebody else or from somebody else, or a claim that it needs is missing.
    Claims(&'static str),
}

impl JwtConfig {
    /// What cannot work, before any file is read: the key and what would.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        let sources = [&self.key, &self.jwks, &self.secret].into_iter().flatten().count();
        let hmac = |algorithm: &Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
        let faults = [
            (self.issuer.is_empty(), "issuer", "must name who issues the tokens"),
            (
                self.audience.is_empty() || self.audience.iter().any(String::is_empty),
                "audience",
                "must name for whom the tokens are",
            ),
            (sources != 1, "key", "must be given, or `jwks`, or `secret`: one of them"),
            (self.algorithms.is_empty(), "algorithms", "must name at least one"),
            (
                self.secret.is_some() && !self.algorithms.iter().all(hmac),
                "algorithms",
                "must be HS256, HS384 or HS512 with a `secret`",
            ),
            (
                self.secret.is_none() && self.algorithms.iter().any(hmac),
                "algorithms",
                "must be none of HS256, HS384 and HS512 with public keys",
            ),
            (self.leeway_s > 3600, "leeway_s", "must be at most 3600"),
            (self.scope_claim.is_empty(), "scope_claim", "must name a claim"),
            (self.models_claim.is_empty(), "models_claim", "must name a claim"),
            (self.rate.is_none() && self.burst.is_some(), "burst", "needs a `rate`"),
        ];
        let own = faults.into_iter().find_map(|(wrong, key, message)| wrong.then_some((key, message)));
        own.or_else(|| {
            let rate = self.rate?;
            Some(("rate", Rate::new(rate, self.burst).err()?))
        })
    }

    /// The files that it reads.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.key, &self.jwks, &self.secret].into_iter().flatten()
    }
}

impl Jwt {
    /// Reads the keys.
    ///
    /// # Errors
    /// Which file cannot be used, and why; nothing of what it holds.
    pub fn open(config: &JwtConfig, now: Instant) -> Result<Self, FileFault> {
        let keys = match (&config.secret, &config.key, &config.jwks) {
            (Some(file), _, _) => {
                let bytes = files::read(file)?;
                let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
                let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
                let least = shortest_secret(&config.algorithms);
                if secret.len() < least {
                    let why = format!(
                        "a secret for these `algorithms` has at least {least} bytes, and this one {}",
                        secret.len()
                    );
                    return Err(FileFault::new(file, why));
                }
                vec![Key { id: None, algorithm: None, key: DecodingKey::from_secret(secret) }]
            }
            (_, Some(file), _) => {
                let bytes = files::read(file)?;
                let families = config.algorithms.iter().map(|algorithm| algorithm.family());
                let key = families.into_iter().find_map(|family| {
                    let key = match family {
                        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(&bytes),
                        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(&bytes),
                        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(&bytes),
                        AlgorithmFamily::Hmac => return None,
                    };
                    key.ok()
                });
                let why = "it holds no public key (PEM) for the `algorithms` that are set";
                vec![Key { id: None, algorithm: None, key: key.ok_or_else(|| FileFault::new(file, why))? }]
            }
            (_, _, Some(file)) => {
                let bytes = files::read(file)?;
                set(&bytes, &config.algorithms).map_err(|why| FileFault::new(file, why))?
            }
            (None, None, None) => Vec::new(),
        };
        let rate = config.rate.and_then(|rate| Rate::new(rate, config.burst).ok());
        let buckets = rate.map(|rate| Arc::new(Buckets::new(rate, MOST_SUBJECTS, now)));
        Ok(Self { config: config.clone(), keys, buckets })
    }

    /// Whether a token may be that of an administrator.
    #[must_use]
    pub fn grants_admin(&self) -> bool {
        self.config.allow_admin
    }

    /// Goes on with the buckets of `before`, where the rate is the same.
    pub(super) fn keep_buckets(&mut self, before: &Self) {
        if let (Some(own), Some(earlier)) = (&self.buckets, &before.buckets)
            && own.rate() == earlier.rate()
        {
            self.buckets = Some(Arc::clone(earlier));
        }
    }

    /// Who a token speaks for.
    ///
    /// `unix` is the time in seconds since 1970.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn verify(&self, token: &str, unix: u64, now: Instant) -> Result<Principal, Refused> {
        let claims = self.claims(token).ok_or(Refused::Unverified)?;
        let leeway = self.config.leeway_s as f64;
        let unix = unix as f64;
        let time = |name: &'static str| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(Refused::Claims("a time in it is no number")),
        };
        let expires = time("exp")?.ok_or(Refused::Claims("it has no `exp`"))?;
        if unix >= expires + leeway {
            return Err(Refused::Expired);
        }
        if time("nbf")?.is_some_and(|from| unix + leeway < from) {
            return Err(Refused::NotYet);
        }
        if claims.get("iss").and_then(Value::as_str) != Some(self.config.issuer.as_str()) {
            return Err(Refused::Claims("it has another issuer"));
        }
        let wanted = |value: &Value| {
            value.as_str().is_some_and(|name| self.config.audience.iter().any(|own| own == name))
        };
        let for_us = match claims.get("aud") {
            Some(Value::Array(list)) => list.iter().any(wanted),
            Some(value) => wanted(value),
            None => false,
        };
        if !for_us {
            return Err(Refused::Claims("it is for another audience"));
        }
        let words = |name: &str| -> Result<Option<Vec<String>>, Refused> {
            match claims.get(name) {
                None => Ok(None),
                Some(Value::String(text)) => Ok(Some(text.split_whitespace().map(str::to_owned).collect())),
                Some(Value::Array(list)) => {
                    let texts = list.iter().map(|value| value.as_str().map(str::to_owned));
                    texts
                        .collect::<Option<_>>()
                        .map(Some)
                        .ok_or(Refused::Claims("a list in it holds no texts"))
                }
                Some(_) => Err(Refused::Claims("a claim in it is no list")),
            }
        };
        let scopes = words(&self.config.scope_claim)?.unwrap_or_default();
        let ours = scopes
            .iter()
            .filter_map(|word| word.strip_prefix(self.config.scope_prefix.as_str())?.parse().ok());
        let scopes = Scopes::of(&ours.collect::<Vec<Scope>>());
        let scopes = if self.config.allow_admin { scopes } else { scopes.without_admin() };
        let models = words(&self.config.models_claim)?.map_or_else(Models::all, |list| Models::of(&list));
        let name = claims.get("sub").and_then(Value::as_str).ok_or(Refused::Claims("it has no `sub`"))?;
        let bucket = self.buckets.as_ref().map(|buckets| buckets.of(name, now));
        // A time that far away never comes.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
        let expires = Some((expires + leeway) as u64);
        Ok(Principal { name: name.to_owned(), known: Known::Token, scopes, models, expires, bucket })
    }

    /// What a token claims, when it is signed by a key that is known.
    fn claims(&self, token: &str) -> Option<Map<String, Value>> {
        if token.len() > LONGEST {
            return None;
        }
        let header = decode_header(token).ok()?;
        // Extensions that must be understood are not.
        if !self.config.algorithms.contains(&header.alg) || header.crit.is_some() || header.zip.is_some() {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (_, payload) = message.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let fits = |key: &&Key| {
            let named = header.kid.is_none() || key.id.is_none() || header.kid == key.id;
            let meant = key.algorithm.is_none_or(|algorithm| algorithm == header.alg);
            named && meant && key.key.family() == header.alg.family()
        };
        let verified = self
            .keys
            .iter()
            .filter(fits)
            .take(MOST_TRIED)
            .any(|key| verify(header.alg, &key.key, message.as_bytes(), &signature).is_some());
        if !verified {
            return None;
        }
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }
}

/// Keys that a token which names none is tried with.
const MOST_TRIED: usize = 8;

/// Reads a set of public keys. Those of other kinds and for other uses are passed over.
fn set(bytes: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Key>, String> {
    let set: JwkSet = serde_json::from_slice(bytes).map_err(|error| {
        format!("it is no set of keys (JWKS): line {}, column {}", error.line(), error.column())
    })?;
    let mut keys = Vec::new();
    for jwk in &set.keys {
        if matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) {
            return Err("it holds a secret (`oct`), which belongs in `secret`".to_owned());
        }
        if matches!(&jwk.common.public_key_use, Some(usage) if *usage != PublicKeyUse::Signature) {
            continue;
        }
        let algorithm = match &jwk.common.key_algorithm {
            None => None,
            Some(name) => match name.to_string().parse() {
                Ok(algorithm) => Some(algorithm),
                Err(_) => continue,
            },
        };
        let Ok(key) = DecodingKey::from_jwk(jwk) else { continue };
        let usable = algorithms.iter().any(|allowed| {
            allowed.family() == key.family() && algorithm.is_none_or(|algorithm| algorithm == *allowed)
        });
        if usable {
            keys.push(Key { id: jwk.common.key_id.clone(), algorithm, key });
        }
    }
    let ids: BTreeMap<&str, usize> =
        keys.iter().filter_map(|key| key.id.as_deref()).fold(BTreeMap::new(), |mut ids, id| {
            *ids.entry(id).or_default() += 1;
            ids
        });
    if let Some((id, _)) = ids.iter().find(|(_, count)| **count > 1) {
        return Err(format!("two keys have the id {}", shown(id)));
    }
    if keys.is_empty() {
        return Err("it holds no key for the `algorithms` that are set".to_owned());
    }
    Ok(keys)
}

/// Verifies one signature.
fn verify(algorithm: Algorithm, key: &DecodingKey, message: &[u8], signed: &[u8]) -> Option<()> {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    // The kind of the key decides, not the token.
    if key.family() != algorithm.family() {
        return None;
    }
    let raw = |algorithm: &'static dyn signature::VerificationAlgorithm| {
        let bytes = key.try_get_as_bytes().ok()?;
        signature::UnparsedPublicKey::new(algorithm, bytes).verify(message, signed).ok()
    };
    let rsa = |parameters: &'static signature::RsaParameters| match key.kind() {
        DecodingKeyKind::SecretOrDer(der) => {
            signature::UnparsedPublicKey::new(parameters, der).verify(message, signed).ok()
        }
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            signature::RsaPublicKeyComponents { n, e }.verify(parameters, message, signed).ok()
        }
    };
    let secret = |digest: hmac::Algorithm| {
        let key = hmac::Key::new(digest, key.try_get_as_bytes().ok()?);
        // In constant time.
        hmac::verify(&key, message, signed).ok()
    };
    match algorithm {
        HS256 => secret(hmac::HMAC_SHA256),
        HS384 => secret(hmac::HMAC_SHA384),
        HS512 => secret(hmac::HMAC_SHA512),
        RS256 => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
        RS384 => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
        RS512 => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        PS256 => rsa(&signature::RSA_PSS_2048_8192_SHA256),
        PS384 => rsa(&signature::RSA_PSS_2048_8192_SHA384),
        PS512 => rsa(&signature::RSA_PSS_2048_8192_SHA512),
        ES256 => raw(&signature::ECDSA_P256_SHA256_FIXED),
        ES384 => raw(&signature::ECDSA_P384_SHA384_FIXED),
        EdDSA => raw(&signature::ED25519),
        _ => None,
    }
}
