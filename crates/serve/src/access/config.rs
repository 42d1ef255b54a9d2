//! The settings of the access: `[access]` of the server's configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files::{self, FileFault};
use super::jwt::JwtConfig;
use super::principal::Scope;

/// Who may do what. SIGHUP reads these settings, and the files that they name, again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    /// The file of the keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<PathBuf>,
    /// Where there are keys or tokens: what a request without them may do all the same. Never `admin`.
    pub anonymous: Vec<Scope>,
    /// The web pages that may ask from a browser, such as `https://app.example`; the server's own always may.
    pub origins: Vec<String>,
    /// The names by which the server may be asked for; none: any, but where it is open to everybody on loopback.
    pub hosts: Vec<String>,
    /// The file that administrative actions are written to; without it they go to the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<PathBuf>,
    /// Seconds between two looks at the files of keys and certificates; 0: only SIGHUP reads them again.
    pub poll_s: u64,
    /// How tokens that somebody else issued are verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtConfig>,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            keys: None,
            anonymous: Vec::new(),
            origins: Vec::new(),
            hosts: Vec::new(),
            audit: None,
            poll_s: 30,
            jwt: None,
        }
    }
}

impl AccessConfig {
    /// The first setting that cannot work: its key below `access`, and what would.
    #[must_use]
    pub fn fault(&self) -> Option<(String, &'static str)> {
        let origin = |text: &String| {
            let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
            host.is_some_and(|host| {
                !host.is_empty() && !host.contains(['/', '*', ' ', '@']) && host.is_ascii()
            })
        };
        let host =
            |text: &String| !text.is_empty() && text.is_ascii() && !text.contains(['/', '*', ' ', '@']);
        let closed = self.keys.is_some() || self.jwt.is_some();
        let faults = [
            (self.anonymous.contains(&Scope::Admin), "anonymous", "must not hold `admin`"),
            (
                !self.anonymous.is_empty() && !closed,
                "anonymous",
                "has no effect without `access.keys` or `access.jwt`: everybody may read and infer",
            ),
            (
                !self.origins.iter().all(origin),
                "origins",
                "must hold origins such as https://app.example, without a path and without `*`",
            ),
            (
                !self.hosts.iter().all(host),
                "hosts",
                "must hold names such as models.example, with a port or without",
            ),
            (self.poll_s > 86_400, "poll_s", "must be at most 86400"),
        ];
        let own =
            faults.into_iter().find_map(|(wrong, key, message)| wrong.then(|| (key.to_owned(), message)));
        own.or_else(|| {
            let (key, message) = self.jwt.as_ref()?.fault()?;
            Some((format!("jwt.{key}"), message))
        })
    }

    /// The files that it reads.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        let tokens = self.jwt.iter().flat_map(JwtConfig::files);
        self.keys.iter().chain(tokens).cloned()
    }

    /// A digest of the settings and of the files that they name, by which a change is known.
    ///
    /// # Errors
    /// Which file cannot be read.
    pub(super) fn digest(&self) -> Result<String, FileFault> {
        let mut all = format!("{self:?}").into_bytes();
        for file in self.files() {
            let bytes = files::read(&file)?;
            all.extend((bytes.len() as u64).to_le_bytes());
            all.extend(bytes);
        }
        Ok(artifact::digest::sha256_hex(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_named() {
        let fault = |text: &str| {
            let config: AccessConfig = toml::from_str(text).unwrap();
            config.fault().map(|(key, _)| key)
        };
        let jwt = |more: &str| format!("[jwt]\nissuer = \"i\"\naudience = [\"a\"]\n{more}");
        let cases = [
            (String::new(), None),
            ("keys = \"k\"\nanonymous = [\"infer\"]".to_owned(), None),
            ("anonymous = [\"infer\"]".to_owned(), Some("anonymous")),
            ("keys = \"k\"\nanonymous = [\"admin\"]".to_owned(), Some("anonymous")),
            ("origins = [\"https://a.example:8443\"]\nhosts = [\"a:80\"]".to_owned(), None),
            ("origins = [\"*\"]".to_owned(), Some("origins")),
            ("origins = [\"https://a.example/\"]".to_owned(), Some("origins")),
            ("hosts = [\"\"]".to_owned(), Some("hosts")),
            (jwt("algorithms = [\"RS256\"]\nkey = \"k\""), None),
            (jwt("algorithms = [\"RS256\"]"), Some("jwt.key")),
            (jwt("algorithms = [\"RS256\"]\nkey = \"k\"\njwks = \"j\""), Some("jwt.key")),
            (jwt("algorithms = []\nkey = \"k\""), Some("jwt.algorithms")),
            (jwt("algorithms = [\"RS256\", \"HS256\"]\nkey = \"k\""), Some("jwt.algorithms")),
            (jwt("algorithms = [\"HS256\"]\nkey = \"k\""), Some("jwt.algorithms")),
            (jwt("algorithms = [\"RS256\"]\nsecret = \"s\""), Some("jwt.algorithms")),
            (jwt("algorithms = [\"HS256\"]\nsecret = \"s\"\nleeway_s = 9999"), Some("jwt.leeway_s")),
            (jwt("algorithms = [\"HS256\"]\nsecret = \"s\"\nrate = 0"), Some("jwt.rate")),
            (jwt("algorithms = [\"HS256\"]\nsecret = \"s\"\nburst = 2"), Some("jwt.burst")),
        ];
        for (text, expected) in cases {
            assert_eq!(fault(&text).as_deref(), expected, "{text}");
        }
        for none in ["none", "None", "NONE", "HS1"] {
            let text = jwt(&format!("algorithms = [\"{none}\"]\nkey = \"k\""));
            assert!(toml::from_str::<AccessConfig>(&text).is_err(), "{none} is no algorithm");
        }
    }
}
