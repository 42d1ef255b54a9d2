//! The keys file: who may do what, by a key or by a client's certificate.
//!
//! A key is 32 random bytes. The file has its SHA-256 and not the key: nobody can try 2²⁵⁶ keys, however quick the digest
//! is, so that the slow digests that passwords need would cost time at every request and gain nothing. Digests are
//! compared in constant time, and always with every entry.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::bucket::{Bucket, Rate};
use super::moment;
use super::principal::{Known, Models, Principal, Scope, Scopes};
use super::secret::Secret;
use crate::error::shown;

/// What every key begins with, so that it is known for one wherever it turns up.
pub const PREFIX: &str = "brz_";

/// The version of the file's form.
const VERSION: u32 = 1;
const MOST_ENTRIES: usize = 10_000;

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    key: Vec<KeyEntry>,
    #[serde(default)]
    certificate: Vec<CertificateEntry>,
}

/// A key in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// What it is called in logs.
    pub name: String,
    /// `sha256:` and the digest of the key in hexadecimal.
    pub hash: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// On which models; an entry that ends with `*` means all that begin so.
    #[serde(default = "every_model")]
    pub models: Vec<String>,
    /// Until when, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Requests a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Requests at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// When it was made, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

/// A client's certificate in the file, by a name in it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateEntry {
    name: String,
    /// A DNS name or a URI among its subject's alternative names.
    san: String,
    scopes: Vec<Scope>,
    #[serde(default = "every_model")]
    models: Vec<String>,
    #[serde(default)]
    expires: Option<String>,
    #[serde(default)]
    rate: Option<f64>,
    #[serde(default)]
    burst: Option<u32>,
}

fn every_model() -> Vec<String> {
    vec!["*".to_owned()]
}

/// The keys and certificates that are known.
#[derive(Debug, Default)]
pub struct Keys {
    entries: Vec<KeyEntry>,
    keys: Vec<([u8; 32], Arc<Principal>)>,
    certificates: Vec<(String, Arc<Principal>)>,
}

impl Keys {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong and where. The text is not repeated: somebody may have put a key where its digest belongs.
    pub fn parse(text: &str, now: Instant) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
            let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
            format!("line {line}: {}", plain(error.message()))
        })?;
        if file.version != VERSION {
            return Err(format!("`version` must be {VERSION}, but is {}", file.version));
        }
        if file.key.len() + file.certificate.len() > MOST_ENTRIES {
            return Err(format!("a keys file has at most {MOST_ENTRIES} entries"));
        }
        let mut keys = Self::default();
        for (index, entry) in file.key.into_iter().enumerate() {
            let at = |what: String| format!("key {} ({}): {what}", index + 1, shown(&plain(&entry.name)));
            let digest = digest(&entry.hash)
                .ok_or_else(|| at("`hash` must be `sha256:` and 64 hexadecimal digits".to_owned()))?;
            if keys.keys.iter().any(|(other, _)| *other == digest) {
                return Err(at("another entry has the same `hash`".to_owned()));
            }
            keys.check_name(&entry.name).map_err(at)?;
            let limits = Limits { expires: entry.expires.as_deref(), rate: entry.rate, burst: entry.burst };
            let principal =
                principal(&entry.name, Known::Key, &entry.scopes, &entry.models, limits, now).map_err(at)?;
            keys.keys.push((digest, Arc::new(principal)));
            keys.entries.push(entry);
        }
        for (index, entry) in file.certificate.into_iter().enumerate() {
            let at =
                |what: String| format!("certificate {} ({}): {what}", index + 1, shown(&plain(&entry.name)));
            if entry.san.is_empty() || entry.san.contains('*') {
                return Err(at(
                    "`san` must be one DNS name or URI, as it stands in the certificate".to_owned()
                ));
            }
            if keys.certificates.iter().any(|(other, _)| is_same(other, &entry.san)) {
                return Err(at("another entry has the same `san`".to_owned()));
            }
            keys.check_name(&entry.name).map_err(at)?;
            let limits = Limits { expires: entry.expires.as_deref(), rate: entry.rate, burst: entry.burst };
            let principal =
                principal(&entry.name, Known::Certificate, &entry.scopes, &entry.models, limits, now);
            keys.certificates.push((entry.san.clone(), Arc::new(principal.map_err(at)?)));
        }
        Ok(keys)
    }

    fn check_name(&self, name: &str) -> Result<(), String> {
        check_name(name)?;
        if self.principals().any(|known| known.name == name) {
            return Err("another entry has the same `name`".to_owned());
        }
        Ok(())
    }

    /// The entries of keys, in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[KeyEntry] {
        &self.entries
    }

    /// Who has a key.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<Arc<Principal>> {
        let asked: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        // Every entry is looked at, whichever it is, so that the time tells nothing.
        self.keys.iter().fold(None, |found, (digest, principal)| {
            if bool::from(digest.ct_eq(&asked)) { Some(Arc::clone(principal)) } else { found }
        })
    }

    /// Who has a certificate with these names.
    #[must_use]
    pub fn find_certificate(&self, names: &[String]) -> Option<Arc<Principal>> {
        let known = self.certificates.iter().find(|(san, _)| names.iter().any(|name| is_same(name, san)));
        known.map(|(_, principal)| Arc::clone(principal))
    }

    /// Whether anybody in it is an administrator.
    #[must_use]
    pub fn has_admin(&self) -> bool {
        self.principals().any(|known| known.scopes.allows(Scope::Admin))
    }

    /// Who there is: by keys, then by certificates.
    fn principals(&self) -> impl Iterator<Item = &Arc<Principal>> {
        let keys = self.keys.iter().map(|(_, known)| known);
        keys.chain(self.certificates.iter().map(|(_, known)| known))
    }

    /// Goes on with the buckets of `before`, where the rate is the same: reading a file again is no way around a limit.
    pub(super) fn keep_buckets(&mut self, before: &Self) {
        let old: HashMap<&str, &Arc<Bucket>> = before
            .principals()
            .filter_map(|known| Some((known.name.as_str(), known.bucket.as_ref()?)))
            .collect();
        let of_keys = self.keys.iter_mut().map(|(_, known)| known);
        for known in of_keys.chain(self.certificates.iter_mut().map(|(_, known)| known)) {
            let earlier = old.get(known.name.as_str());
            let (Some(bucket), Some(&earlier)) = (&known.bucket, earlier) else { continue };
            if bucket.rate() == earlier.rate() {
                let bucket = Some(Arc::clone(earlier));
                *known = Arc::new(Principal { bucket, ..Principal::clone(known) });
            }
        }
    }
}

/// Whether two names in certificates are one. In DNS names case means nothing, in the paths of URIs it does.
fn is_same(one: &str, other: &str) -> bool {
    if one.contains(':') { one == other } else { one.eq_ignore_ascii_case(other) }
}

/// A message without line breaks, and without the keys that it quotes of the file: somebody may have put one in any
/// place.
fn plain(message: &str) -> String {
    let mut parts = message.split(PREFIX);
    let first = parts.next().unwrap_or_default().to_owned();
    let whole = parts.fold(first, |text, rest| {
        let own = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
        format!("{text}{PREFIX}…{}", rest.trim_start_matches(own))
    });
    whole.replace('\n', "; ")
}

struct Limits<'a> {
    expires: Option<&'a str>,
    rate: Option<f64>,
    burst: Option<u32>,
}

fn principal(
    name: &str,
    known: Known,
    scopes: &[Scope],
    models: &[String],
    limits: Limits<'_>,
    now: Instant,
) -> Result<Principal, String> {
    if scopes.is_empty() {
        return Err("`scopes` must name at least one of read, infer and admin".to_owned());
    }
    if models.is_empty()
        || models.iter().any(|model| model.trim_end_matches('*').contains('*') || model.is_empty())
    {
        return Err("`models` must be a list of names, in which `*` stands at the end or alone".to_owned());
    }
    let expires = limits.expires.map(|text| {
        moment::parse(text).ok_or_else(|| {
            format!("`expires` must be like 2030-12-31T00:00:00Z, but is {}", shown(&plain(text)))
        })
    });
    let bucket = match (limits.rate, limits.burst) {
        (None, None) => None,
        (None, Some(_)) => return Err("`burst` needs a `rate`".to_owned()),
        (Some(rate), burst) => Some(Arc::new(Bucket::new(Rate::new(rate, burst)?, now))),
    };
    Ok(Principal {
        name: name.to_owned(),
        known,
        scopes: Scopes::of(scopes),
        models: Models::of(models),
        expires: expires.transpose()?,
        bucket,
    })
}

/// Whether something can be the name of a key: it stands in logs.
///
/// # Errors
/// What would be right.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    if name.starts_with(PREFIX) {
        return Err(format!("`name` must not begin with `{PREFIX}`, as keys do: it stands in logs"));
    }
    if (1..=64).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err("`name` must be 1 to 64 letters, digits and any of `-_.@`".to_owned())
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.is_ascii())?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

/// A key that nobody has yet.
///
/// # Errors
/// When the system gives no random bytes.
pub fn generate() -> Result<Secret, String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system gives no random bytes".to_owned())?;
    Ok(Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
}

/// What the file has of a key.
#[must_use]
pub fn hash(key: &str) -> String {
    format!("sha256:{}", artifact::digest::sha256_hex(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(entries: &str) -> String {
        format!("version = 1\n{entries}")
    }

    fn entry(name: &str, key: &str, more: &str) -> String {
        format!("[[key]]\nname = \"{name}\"\nhash = \"{}\"\n{more}\n", hash(key))
    }

    #[test]
    fn keys_are_found_by_themselves_alone() {
        let text = entry("a", "brz_a", "scopes = [\"admin\"]")
            + &entry("b", "brz_b", "scopes = [\"read\"]\nmodels = [\"m\"]");
        let keys = Keys::parse(&file(&text), Instant::now()).unwrap();
        assert_eq!(keys.find("brz_a").unwrap().name, "a");
        assert_eq!(keys.find("brz_b").unwrap().name, "b");
        for other in ["", "brz_", "brz_c", "brz_a ", "BRZ_A", &hash("brz_a")] {
            assert!(keys.find(other).is_none(), "{other}");
        }
        assert!(keys.has_admin());
        assert!(!Keys::parse(&file(""), Instant::now()).unwrap().has_admin());
    }

    #[test]
    fn what_is_wrong_is_named_and_keys_are_not_repeated() {
        let good = "scopes = [\"read\"]";
        let secret = generate().unwrap();
        let cases = [
            ("version = 2".to_owned(), "`version` must be 1"),
            (String::new(), "missing field `version`"),
            (file("colour = 1"), "line 2: unknown field `colour`"),
            (
                file(&format!("[[key]]\nname = \"a\"\nhash = \"{}\"\n{good}", secret.expose())),
                "`hash` must be `sha256:`",
            ),
            (
                file(&format!("[[key]]\nname = \"a\"\nkey = \"{}\"\n{good}", secret.expose())),
                "unknown field `key`",
            ),
            (file(&format!("[[key]]\nname = {}", secret.expose())), "line 3"),
            (file(&entry("a b", "x", good)), "`name` must be"),
            (file(&(entry("a", "x", good) + &entry("a", "y", good))), "the same `name`"),
            (file(&(entry("a", "x", good) + &entry("b", "x", good))), "the same `hash`"),
            (file(&entry("a", "x", "")), "missing field `scopes`"),
            (file(&entry("a", "x", "scopes = []")), "at least one"),
            (file(&entry("a", "x", "scopes = [\"root\"]")), "unknown variant `root`"),
            (file(&entry("a", "x", "scopes = [\"read\"]\nmodels = []")), "`models` must be"),
            (file(&entry("a", "x", "scopes = [\"read\"]\nmodels = [\"a*b\"]")), "`models` must be"),
            (file(&entry("a", "x", "scopes = [\"read\"]\nexpires = \"tomorrow\"")), "`expires` must be like"),
            (file(&entry("a", "x", "scopes = [\"read\"]\nrate = 0")), "`rate` must be"),
            (file(&entry("a", "x", "scopes = [\"read\"]\nburst = 2")), "needs a `rate`"),
            // Wherever somebody puts a key.
            (file(&format!("[[key]]\nname = \"a\"\nscopes = \"{}\"", secret.expose())), "brz_…"),
            (file(&entry("a", "x", &format!("{good}\nrate = \"{}\"", secret.expose()))), "brz_…"),
            (file(&entry("a", "x", &format!("{good}\n{} = 1", secret.expose()))), "unknown field `brz_…`"),
            (file(&entry("a", "x", &format!("{good}\nexpires = \"{}\"", secret.expose()))), "but is `brz_…`"),
            (file(&entry(secret.expose(), "x", good)), "`name` must not begin with `brz_`"),
            (file("[[certificate]]\nname = \"c\"\nsan = \"*.x\"\nscopes = [\"read\"]"), "`san` must be one"),
        ];
        for (text, part) in cases {
            let error = Keys::parse(&text, Instant::now()).unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
            assert!(!error.contains(&secret.expose()[4..]), "{part}");
        }
    }

    #[test]
    fn certificates_are_known_by_their_names() {
        let certificate = |name: &str, san: &str| {
            format!("[[certificate]]\nname = \"{name}\"\nsan = \"{san}\"\nscopes = [\"read\"]\n")
        };
        let text = certificate("a", "spiffe://td/ns/Prod") + &certificate("b", "spiffe://td/ns/prod");
        let keys =
            Keys::parse(&file(&(text + &certificate("c", "Billing.example"))), Instant::now()).unwrap();
        let found = |name: &str| keys.find_certificate(&[name.to_owned()]).map(|known| known.name.clone());
        assert_eq!(found("spiffe://td/ns/Prod").as_deref(), Some("a"));
        assert_eq!(found("spiffe://td/ns/prod").as_deref(), Some("b"));
        assert_eq!(found("spiffe://td/ns/PROD"), None);
        assert_eq!(found("billing.EXAMPLE").as_deref(), Some("c"));
        let twice = certificate("a", "x.example") + &certificate("b", "X.example");
        assert!(Keys::parse(&file(&twice), Instant::now()).unwrap_err().contains("the same `san`"));
    }

    #[test]
    fn new_keys_differ_and_are_long() {
        let (a, b) = (generate().unwrap(), generate().unwrap());
        assert_ne!(a.expose(), b.expose());
        assert!(a.expose().starts_with(PREFIX) && a.expose().len() == PREFIX.len() + 43);
        assert!(!format!("{a:?}").contains(&a.expose()[4..]));
    }

    #[test]
    fn a_limit_outlives_reading_the_file_again() {
        let now = Instant::now();
        let text = |burst: u32| {
            file(&entry("a", "x", &format!("scopes = [\"read\"]\nrate = 0.001\nburst = {burst}")))
        };
        let read = |burst| Keys::parse(&text(burst), now).unwrap();
        let take = |keys: &Keys| keys.find("x").unwrap().bucket.as_ref().unwrap().take(now).is_ok();
        let before = read(1);
        assert!(take(&before) && !take(&before));
        let mut same = read(1);
        same.keep_buckets(&before);
        assert!(!take(&same));
        let mut other = read(2);
        other.keep_buckets(&before);
        assert!(take(&other), "another limit begins anew");
    }

    proptest! {
        #[test]
        fn no_file_is_too_much(text in "\\PC{0,200}") {
            let _ = Keys::parse(&text, Instant::now());
            let _ = Keys::parse(&file(&text), Instant::now());
        }

        #[test]
        fn no_entry_is_too_much(name in "\\PC{0,20}", hash in "\\PC{0,80}", models in "\\PC{0,20}", expires in "\\PC{0,30}") {
            let text = |value: &str| toml::Value::String(value.to_owned()).to_string();
            let entry = format!(
                "[[key]]\nname = {}\nhash = {}\nscopes = [\"read\"]\nmodels = [{}]\nexpires = {}",
                text(&name), text(&hash), text(&models), text(&expires)
            );
            prop_assert!(Keys::parse(&file(&entry), Instant::now()).is_err(), "no such hash can be");
        }
    }
}
