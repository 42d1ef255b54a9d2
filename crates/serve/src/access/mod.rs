//! Who may do what: one check for every route, port and protocol.
//!
//! [`Access`] holds the rules (keys, tokens, certificates) and answers one question: may who presents this do that, on
//! this model? [`http`] asks it for every request of HTTP, whatever its path, and [`rpc`] for every call of gRPC. Where
//! neither keys nor tokens are set, everybody may look and infer, and nobody may change anything.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub mod audit;
pub mod bucket;
pub mod config;
mod decide;
pub mod files;
pub mod http;
pub mod jwt;
pub mod keyring;
pub mod keys;
pub mod moment;
pub mod origin;
pub mod presented;
pub mod principal;
pub mod renewal;
pub mod rpc;
pub mod secret;

use crate::error::{Kind, Result, ServeError};
use crate::telemetry;
use crate::traffic::Clock;
use audit::Audit;
use config::AccessConfig;
use decide::{allow, refuse_unknown, take};
use files::FileFault;
use jwt::{Jwt, Refused};
use keys::Keys;
use presented::{Credential, Presented};
use principal::{Known, Principal, Scope, Scopes};

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: whether the process lives and is ready, and files that are the same for everybody.
    Open,
    /// To be let in at all; for what is no route.
    Known,
    /// A scope.
    Scope(Scope),
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The server, or all models that the principal may use.
    Server,
    /// All models, whoever may use them.
    All,
    /// A model.
    Model(&'a str),
    /// The model that answers where a request names none.
    Default(&'a str),
    /// A model that the request does not name, and the server does not know either.
    Unnamed,
    /// What only the message says; whoever reads it asks again.
    Later,
}

/// Who has been let in.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Who it is.
    pub principal: Arc<Principal>,
    /// Where it asks from.
    pub address: Option<IpAddr>,
    generation: u64,
}

/// The time of day.
pub type Now = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The rules at one moment.
#[derive(Debug)]
struct Rules {
    /// Grows with each change.
    generation: u64,
    /// The digest of what they were read from.
    source: String,
    keys: Option<Keys>,
    jwt: Option<Jwt>,
    anonymous: Arc<Principal>,
    origins: Vec<String>,
    hosts: Vec<String>,
}

/// Who may do what.
pub struct Access {
    rules: RwLock<Arc<Rules>>,
    /// Whether those who ask without a key may change things: for a program that checks by itself.
    trusting: AtomicBool,
    /// Whether only this machine reaches the server.
    loopback: AtomicBool,
    now: Now,
    counts: Counts,
    /// Where administrative actions are written.
    pub audit: Arc<Audit>,
}

/// How many requests were refused.
#[derive(Debug, Default)]
pub struct Counts {
    /// For want of a key that is known (401).
    pub unauthorized: AtomicU64,
    /// For want of a right (403).
    pub forbidden: AtomicU64,
    /// Over the limit of their key (429).
    pub limited: AtomicU64,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("rules", &self.rules())
            .field("audit", &self.audit)
            .finish_non_exhaustive()
    }
}

impl Default for Access {
    fn default() -> Self {
        Self::open()
    }
}

impl Rules {
    fn read(
        config: &AccessConfig,
        before: Option<&Self>,
        now: Instant,
    ) -> std::result::Result<Self, FileFault> {
        let before_reading = config.digest()?;
        let mut keys = match &config.keys {
            None => None,
            Some(file) => {
                let text = files::read_text(file)?;
                Some(Keys::parse(&text, now).map_err(|why| FileFault::new(file, why))?)
            }
        };
        if let (Some(keys), Some(earlier)) = (&mut keys, before.and_then(|rules| rules.keys.as_ref())) {
            keys.keep_buckets(earlier);
        }
        let mut jwt = config.jwt.as_ref().map(|config| Jwt::open(config, now)).transpose()?;
        if let (Some(jwt), Some(earlier)) = (&mut jwt, before.and_then(|rules| rules.jwt.as_ref())) {
            jwt.keep_buckets(earlier);
        }
        // Files that change while they are read are no source that was there before, nor one that comes again.
        let source = before_reading + &config.digest()?;
        let closed = keys.is_some() || jwt.is_some();
        let scopes = if closed { Scopes::of(&config.anonymous).without_admin() } else { Scopes::USE };
        Ok(Self {
            generation: before.map_or(0, |rules| rules.generation + u64::from(rules.source != source)),
            source,
            keys,
            jwt,
            anonymous: Arc::new(Principal::anonymous(scopes)),
            origins: config.origins.clone(),
            hosts: config.hosts.clone(),
        })
    }

    /// Whether it matters who asks.
    fn closed(&self) -> bool {
        self.keys.is_some() || self.jwt.is_some()
    }
}

impl Access {
    /// Everybody may look and infer, nobody may change anything.
    #[must_use]
    pub fn open() -> Self {
        let anonymous = Arc::new(Principal::anonymous(Scopes::USE));
        let rules = Rules {
            generation: 0,
            source: String::new(),
            keys: None,
            jwt: None,
            anonymous,
            origins: Vec::new(),
            hosts: Vec::new(),
        };
        Self::over(rules, Arc::new(SystemTime::now), Audit::default())
    }

    /// By these settings.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn read(config: &AccessConfig, now: Now) -> std::result::Result<Self, FileFault> {
        Self::read_with(config, now, None)
    }

    /// As [`Access::read`], with the time of day as text for the audit log.
    ///
    /// # Errors
    /// As [`Access::read`].
    pub fn read_with(
        config: &AccessConfig,
        now: Now,
        clock: Option<Clock>,
    ) -> std::result::Result<Self, FileFault> {
        let rules = Rules::read(config, None, Instant::now())?;
        let audit = Audit::open(config.audit.as_deref(), clock)?;
        Ok(Self::over(rules, now, audit))
    }

    fn over(rules: Rules, now: Now, audit: Audit) -> Self {
        Self {
            rules: RwLock::new(Arc::new(rules)),
            trusting: AtomicBool::new(false),
            loopback: AtomicBool::new(false),
            now,
            counts: Counts::default(),
            audit: Arc::new(audit),
        }
    }

    /// Takes changed settings, and reads the files again. Limits go on where they are the same.
    ///
    /// # Errors
    /// Which file cannot be used, and why; then all is as it was.
    pub fn reload(&self, config: &AccessConfig) -> std::result::Result<(), FileFault> {
        let before = self.rules();
        let rules = Rules::read(config, Some(&before), Instant::now())?;
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        Ok(())
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets who asks without a key change things, or not: for a program that embeds the server and checks by itself.
    pub fn trust(&self, trust: bool) {
        self.trusting.store(trust, Ordering::Release);
    }

    /// Whether who asks without a key may change things.
    #[must_use]
    pub fn trusts(&self) -> bool {
        self.trusting.load(Ordering::Acquire)
    }

    /// Says that only this machine reaches the server.
    pub fn on_loopback(&self, loopback: bool) {
        self.loopback.store(loopback, Ordering::Release);
    }

    /// Says in the log where other machines reach the server and nobody is asked for a key.
    pub fn warn_if_open(&self) {
        if !self.loopback.load(Ordering::Acquire) && !self.is_closed() {
            tracing::warn!(
                "other machines reach this server, and none needs a key: whoever can connect may read and infer; \
                 `access.keys` names a file of keys, which `serve key new` makes"
            );
        }
    }

    /// Whether it matters who asks: there are keys or tokens.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.rules().closed()
    }

    /// Whether anybody can be an administrator.
    #[must_use]
    pub fn has_admin(&self) -> bool {
        let rules = self.rules();
        let token = rules.jwt.as_ref().is_some_and(Jwt::grants_admin);
        token || rules.keys.as_ref().is_some_and(Keys::has_admin)
    }

    /// How many requests were refused.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The time of day.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        (self.now)()
    }

    /// Seconds since 1970.
    fn unix(&self) -> u64 {
        self.time().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// The one check: who it is, whether it asks too often, and whether it may.
    ///
    /// # Errors
    /// 401 when nobody knows who it is, 429 when it asks too often, 403 when it may not.
    pub fn admit(
        &self,
        presented: &Presented<'_>,
        need: Need,
        target: Target<'_>,
        address: Option<IpAddr>,
    ) -> Result<Admitted> {
        self.admit_by(&self.rules(), presented, need, || target, address)
    }

    /// The same by rules that have been looked up, with a target that is found only where it matters.
    fn admit_by<'t>(
        &self,
        rules: &Rules,
        presented: &Presented<'_>,
        need: Need,
        target: impl FnOnce() -> Target<'t>,
        address: Option<IpAddr>,
    ) -> Result<Admitted> {
        let admitted = |principal| Admitted { principal, address, generation: rules.generation };
        let known = self.who(rules, presented).inspect(telemetry::principal);
        if need == Need::Open {
            // Who presents nothing that is known needs no rights here.
            return Ok(admitted(known.unwrap_or_else(|_| Arc::clone(&rules.anonymous))));
        }
        let result = known.and_then(|principal| {
            take(&principal)?;
            allow(rules, &principal, need, target)?;
            Ok(admitted(principal))
        });
        result.inspect_err(|error| self.count(error))
    }

    /// Lets somebody who has been let in do one thing more, such as the next message of a stream.
    ///
    /// # Errors
    /// As [`Access::admit`]; 401 when the rules have changed meanwhile, for who asks must show the key again.
    pub fn again(&self, admitted: &Admitted, need: Need, target: Target<'_>) -> Result<()> {
        let rules = self.rules();
        let result = self.still(&rules, admitted).and_then(|principal| {
            take(&principal)?;
            allow(&rules, &principal, need, || target)
        });
        result.inspect_err(|error| self.count(error))
    }

    /// As [`Access::again`], without counting as one more request: for what goes on by itself.
    ///
    /// # Errors
    /// As [`Access::again`], but for 429.
    pub fn goes_on(&self, admitted: &Admitted, need: Need, target: Target<'_>) -> Result<()> {
        let rules = self.rules();
        let principal = self.still(&rules, admitted)?;
        allow(&rules, &principal, need, || target)
    }

    /// Who somebody is now who was let in before.
    fn still(&self, rules: &Rules, admitted: &Admitted) -> Result<Arc<Principal>> {
        if admitted.generation == rules.generation {
            self.in_time(&admitted.principal)?;
            return Ok(Arc::clone(&admitted.principal));
        }
        // Who brought nothing has nothing to show again, and is what such a one is now.
        if admitted.principal.known == Known::Anonymous {
            return self.who(rules, &Presented::default());
        }
        Err(refuse_unknown("the keys have changed; call again", true))
    }

    /// As [`Access::again`], without counting as one more request: for what is known of a request only when it is read.
    ///
    /// # Errors
    /// 403 when it may not.
    pub fn check(&self, admitted: &Admitted, need: Need, target: Target<'_>) -> Result<()> {
        allow(&self.rules(), &admitted.principal, need, || target).inspect_err(|error| self.count(error))
    }

    /// Who has been let in to a call that nothing let in, as when a service is called within the process.
    ///
    /// # Errors
    /// 401 where it matters who asks.
    pub fn unchecked(&self) -> Result<Admitted> {
        self.admit(&Presented::default(), Need::Known, Target::Server, None)
    }

    fn count(&self, error: &ServeError) {
        let counter = match error.kind() {
            Kind::Unauthorized => &self.counts.unauthorized,
            Kind::Forbidden => &self.counts.forbidden,
            Kind::TooMany => &self.counts.limited,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Who presents this.
    fn who(&self, rules: &Rules, presented: &Presented<'_>) -> Result<Arc<Principal>> {
        if !rules.closed() {
            // A key that nobody asked for is not looked at.
            let trusted = || Principal::anonymous(Scopes::of(&Scope::ALL));
            return Ok(if self.trusts() { Arc::new(trusted()) } else { Arc::clone(&rules.anonymous) });
        }
        let unknown = || refuse_unknown("the key is not known", true);
        let find = |key: &str| rules.keys.as_ref().and_then(|keys| keys.find(key)).ok_or_else(unknown);
        let principal = match presented.credential() {
            Credential::None => match presented
                .certificate()
                .and_then(|names| rules.keys.as_ref().and_then(|keys| keys.find_certificate(names)))
            {
                Some(principal) => principal,
                None => return Ok(Arc::clone(&rules.anonymous)),
            },
            Credential::Wrong(why) => return Err(refuse_unknown(why, true)),
            Credential::Key(key) => find(key)?,
            Credential::Bearer(text) => match &rules.jwt {
                Some(jwt) if !text.starts_with(keys::PREFIX) => {
                    let verified = jwt.verify(text, self.unix(), Instant::now());
                    Arc::new(verified.map_err(|refused| match refused {
                        Refused::Unverified => refuse_unknown("the token cannot be verified", true),
                        Refused::Expired => refuse_unknown("the token has expired", true),
                        Refused::NotYet => refuse_unknown("the token is not valid yet", true),
                        Refused::Claims(why) => {
                            refuse_unknown(&format!("the token is not for this server: {why}"), true)
                        }
                    })?)
                }
                _ => find(text)?,
            },
        };
        self.in_time(&principal)?;
        Ok(principal)
    }

    fn in_time(&self, principal: &Principal) -> Result<()> {
        if principal.expires.is_some_and(|expires| self.unix() >= expires) {
            let what = principal.title().trim_start_matches("this ");
            return Err(refuse_unknown(&format!("the {what} has expired"), true));
        }
        Ok(())
    }
}
