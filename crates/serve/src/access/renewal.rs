//! Reads keys and certificates again: on SIGHUP, and when the files have changed. What cannot be used is passed over with
//! a word in the log, and what was before goes on.

use std::sync::Arc;
use std::time::Duration;

use super::audit::{self, Action};
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
    /// Of files that have just been read.
    #[must_use]
    pub fn new(access: Arc<Access>, tls: Option<Tls>, settings: (AccessConfig, TlsConfig)) -> Self {
        let watched = Watched::new(settings.0.files().chain(settings.1.files()));
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

    /// Reads the files again, by the settings as they are or by others. `cause` is who or what asked for it.
    pub async fn renew(&mut self, settings: Option<(AccessConfig, TlsConfig)>, cause: &'static str) {
        if let Some(settings) = settings {
            self.settings = settings;
        }
        // Before they are read, so that a change meanwhile is one.
        self.watched = Watched::new(self.settings.0.files().chain(self.settings.1.files()));
        if let Err(error) = self.access.audit.reopen() {
            tracing::error!(%error, "the audit log cannot be opened again; the one before stays");
        }
        let admitted =
            Admitted { principal: Arc::new(Principal::operator(cause)), address: None, generation: 0 };
        let action = Action { action: "reload".to_owned(), model: None, by: "operator" };
        // What is revoked must be so even if it cannot be written down.
        let asked = audit::begin(&self.access.audit, &admitted, action).await.ok();
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
        if faults.is_empty() {
            tracing::info!(cause, "keys and certificates have been read again");
        }
        if let Some(asked) = asked {
            let result = if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) };
            audit::end(asked, None, result).await;
        }
    }
}

/// Reads what `[access]` and `[tls]` name.
///
/// # Errors
/// Which file cannot be used, and why.
pub fn open(
    access: &AccessConfig,
    tls: &TlsConfig,
    now: Now,
    clock: Clock,
) -> Result<(Access, Option<Tls>), super::files::FileFault> {
    let tls = Tls::open(tls, now())?;
    Ok((Access::read_with(access, now, Some(clock))?, tls))
}
