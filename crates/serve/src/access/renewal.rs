//! Reads keys and certificates again: on SIGHUP, and when the files have changed. What cannot be used is passed over with
//! a word in the log, and what was before goes on.

use std::sync::Arc;
use std::time::Duration;

use super::audit::{self, Action, Asked};
use super::config::AccessConfig;
use super::files::Watched;
use super::principal::Principal;
use super::{Access, Admitted, Now};
use crate::tls::{Tls, TlsConfig};
use crate::traffic::Clock;

/// The files behind a running server's access and encryption.
#[derive(Debug)]
pub struct Renewal {
    access: Arc<Access>,
    tls: Option<Tls>,
    settings: (AccessConfig, TlsConfig),
    watched: Watched,
}

impl Renewal {
    /// Of files that have been read since `watched` looked at them.
    #[must_use]
    pub fn new(
        access: Arc<Access>,
        tls: Option<Tls>,
        settings: (AccessConfig, TlsConfig),
        watched: Watched,
    ) -> Self {
        Self { access, tls, settings, watched }
    }

    /// Waits until one of the files has changed; for ever where nothing looks.
    pub async fn changed(&mut self) {
        loop {
            match self.settings.0.poll_s {
                0 => std::future::pending().await,
                seconds => tokio::time::sleep(Duration::from_secs(seconds)).await,
            }
            if self.watched.changed() {
                return;
            }
        }
    }

    /// Writes down that something is to be read again, in a file that is opened anew. `cause` is who or what asked for
    /// it. Nothing where it cannot be written: then nothing else may happen than [`Renewal::renew`].
    pub async fn begin(&self, cause: &'static str) -> Option<Asked> {
        if let Err(error) = self.access.audit.reopen() {
            tracing::error!(%error, "the audit log cannot be opened again; the one before stays");
        }
        let admitted =
            Admitted { principal: Arc::new(Principal::operator(cause)), address: None, generation: 0 };
        let action = Action { action: "reload".to_owned(), model: None, version: None, by: "operator" };
        audit::begin(&self.access.audit, &admitted, action).await.ok()
    }

    /// Reads the files again, by the settings as they are or by others. What is revoked must be so even if it could not
    /// be written down.
    pub async fn renew(
        &mut self,
        settings: Option<(AccessConfig, TlsConfig)>,
        cause: &'static str,
        asked: Option<Asked>,
    ) {
        if let Some(settings) = settings {
            self.settings = settings;
        }
        // Before they are read, so that a change meanwhile is one.
        self.watched = watched(&self.settings.0, &self.settings.1);
        let closed = self.access.is_closed();
        let (access, encryption) = &self.settings;
        let mut faults = Vec::new();
        if let Err(error) = self.access.reload(access) {
            tracing::error!(%error, cause, "keys and tokens: what is there now cannot be used; those before stay");
            faults.push(error.to_string());
        }
        if let Some(tls) = &self.tls
            && let Err(error) = tls.reload(encryption, self.access.time())
        {
            tracing::error!(%error, cause, "certificates: what is there now cannot be used; those before stay");
            faults.push(error.to_string());
        }
        if closed && !self.access.is_closed() {
            self.access.warn_if_open();
        }
        if faults.is_empty() {
            tracing::info!(cause, "keys and certificates have been read again");
        }
        if let Some(asked) = asked {
            let result = if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) };
            audit::end(asked, None, result).await;
        }
    }
}

fn watched(access: &AccessConfig, tls: &TlsConfig) -> Watched {
    Watched::new(access.files().chain(tls.files()))
}

/// Reads what `[access]` and `[tls]` name, after a look at the files, so that a change from then on is one.
///
/// # Errors
/// Which file cannot be used, and why.
pub fn open(
    access: &AccessConfig,
    tls: &TlsConfig,
    now: Now,
    clock: Clock,
) -> Result<(Access, Option<Tls>, Watched), super::files::FileFault> {
    let watched = watched(access, tls);
    let tls = Tls::open(tls, now())?;
    Ok((Access::read_with(access, now, Some(clock))?, tls, watched))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::keys::hash;
    use super::super::presented::Presented;
    use super::super::principal::Scope;
    use super::super::{Need, Target};
    use super::*;

    #[tokio::test]
    async fn what_changes_between_the_start_and_the_first_look_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys.toml");
        std::fs::write(&keys, "version = 1\n").unwrap();
        let config = AccessConfig { keys: Some(keys.clone()), ..AccessConfig::default() };
        let tls = TlsConfig::default();
        let (access, none, watched) = open(&config, &tls, Arc::new(SystemTime::now), || None).unwrap();
        std::fs::write(&keys, "version = 1\n# a key less\n").unwrap();
        let mut renewal = Renewal::new(Arc::new(access), none, (config, tls), watched);
        assert!(renewal.watched.changed() && !renewal.watched.changed());
        std::fs::write(&keys, "version = 1\n").unwrap();
        renewal.renew(None, "file", None).await;
        assert!(!renewal.watched.changed(), "what has been read is no change any more");
    }

    #[test]
    fn who_goes_on_is_looked_at_again_where_something_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys.toml");
        let entry = format!("name = \"a\"\nhash = \"{}\"\nscopes = [\"infer\"]", hash("brz_a"));
        std::fs::write(&keys, format!("version = 1\n[[key]]\n{entry}\n")).unwrap();
        let closed = AccessConfig { keys: Some(keys), ..AccessConfig::default() };
        let access = Access::read(&closed, Arc::new(SystemTime::now)).unwrap();
        let admit = |header: Option<&str>| {
            let presented = Presented::read(header.map(str::as_bytes), None);
            access.admit(&presented, Need::Open, Target::Server, None).unwrap()
        };
        let (with_key, without) = (admit(Some("Bearer brz_a")), admit(None));
        let infer = |admitted: &Admitted| {
            let may = access.again(admitted, Need::Scope(Scope::Infer), Target::Model("m"));
            may.map_err(|error| error.to_string())
        };
        access.reload(&closed).unwrap();
        assert_eq!(infer(&with_key), Ok(()), "what is read again and is the same is no change");
        assert!(infer(&without).is_err());
        access.reload(&AccessConfig { anonymous: vec![Scope::Infer], ..closed }).unwrap();
        assert!(infer(&with_key).unwrap_err().contains("call again"));
        assert_eq!(infer(&without), Ok(()), "who shows nothing has nothing to show again");
        // Where everybody is let in, a stream lives on whatever is read again.
        let everybody = Access::open();
        let admitted = everybody.unchecked().unwrap();
        let hosts = vec!["models.example".to_owned()];
        everybody.reload(&AccessConfig { hosts, ..AccessConfig::default() }).unwrap();
        everybody.again(&admitted, Need::Scope(Scope::Infer), Target::Model("m")).unwrap();
        assert!(everybody.again(&admitted, Need::Scope(Scope::Admin), Target::Server).is_err());
    }
}
