//! Encryption for HTTP and gRPC: certificates of files, which can change while the server runs.
//!
//! `rustls` with `ring`, TLS 1.2 and newer. What is read again holds for the next connection; those that are open go on.
//! Sessions are not resumed: a client shows its certificate at every connection, so that an authority that is not
//! trusted any more ends that with the next one.

mod incoming;
mod verify;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use webpki::{EndEntityCert, Error as Invalid};

use crate::access::files::{self, FileFault};

pub use incoming::{Encrypted, Peer, incoming};
use verify::Clients;

/// An encrypted connection of HTTP, as the HTTP library has it.
pub type HttpStream = actix_tls::accept::rustls_0_23::TlsStream<actix_web::rt::net::TcpStream>;

/// The settings: `[tls]` of the server's configuration. Encryption begins with a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The server's certificate and those between it and its authority (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM: PKCS#8, PKCS#1 or SEC1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The authorities that clients' certificates must be of (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Whether clients without a certificate are let in, where there is a `client_ca`.
    pub client_auth: ClientAuth,
    /// Seconds that a handshake may take.
    pub handshake_timeout_s: u64,
}

/// Whether clients must have a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// None connects without.
    #[default]
    Required,
    /// Who has none may have a key.
    Optional,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            certificate: None,
            key: None,
            client_ca: None,
            client_auth: ClientAuth::Required,
            handshake_timeout_s: 5,
        }
    }
}

impl TlsConfig {
    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.certificate.is_some()
    }

    /// What cannot work, before any file is read: the key below `tls`, and what would.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        let faults = [
            (self.certificate.is_some() && self.key.is_none(), "key", "must be given with `tls.certificate`"),
            (self.certificate.is_none() && self.key.is_some(), "certificate", "must be given with `tls.key`"),
            (
                self.certificate.is_none() && self.client_ca.is_some(),
                "client_ca",
                "needs `tls.certificate` and `tls.key`",
            ),
            (!(1..=60).contains(&self.handshake_timeout_s), "handshake_timeout_s", "must be from 1 to 60"),
        ];
        faults.into_iter().find_map(|(wrong, key, message)| wrong.then_some((key, message)))
    }

    /// The files that it reads.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        [&self.certificate, &self.key, &self.client_ca].into_iter().flatten().cloned()
    }

    /// How long a handshake may take.
    #[must_use]
    pub fn handshake_timeout(&self) -> Duration {
        Duration::from_secs(self.handshake_timeout_s)
    }
}

/// The certificates as they are now, for every connection to come.
#[derive(Clone, Debug)]
pub struct Tls {
    own: Arc<Own>,
    clients: Arc<Clients>,
    provider: Arc<CryptoProvider>,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

#[derive(Debug)]
struct Own(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Tls {
    /// Reads the files; nothing where encryption is off.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn open(config: &TlsConfig, now: SystemTime) -> Result<Option<Self>, FileFault> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let Some(own) = own(config, &provider, now)? else { return Ok(None) };
        let clients = Arc::new(Clients::new(verify::verifier(config, &provider)?, &provider));
        let own = Arc::new(Own(RwLock::new(own)));
        Ok(Some(Self { own, clients, provider, handshake_timeout: config.handshake_timeout() }))
    }

    /// Reads the files again, for connections to come.
    ///
    /// # Errors
    /// Which file cannot be used, and why; then all is as it was.
    pub fn reload(&self, config: &TlsConfig, now: SystemTime) -> Result<(), FileFault> {
        let own = own(config, &self.provider, now)?;
        let verifier = verify::verifier(config, &self.provider)?;
        if let Some(own) = own {
            *self.own.0.write().unwrap_or_else(PoisonError::into_inner) = own;
            self.clients.set(verifier);
        }
        Ok(())
    }

    /// What a server is given, for these protocols.
    ///
    /// # Errors
    /// When the versions of TLS are not there, which a build decides.
    pub fn server_config(&self, protocols: &[&str]) -> std::io::Result<ServerConfig> {
        let clients: Arc<Clients> = Arc::clone(&self.clients);
        let own: Arc<Own> = Arc::clone(&self.own);
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(std::io::Error::other)?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(own);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(config)
    }
}

/// The server's own certificate and key, checked.
fn own(
    config: &TlsConfig,
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<Option<Arc<CertifiedKey>>, FileFault> {
    let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else { return Ok(None) };
    let chain = certificates(certificate)?;
    // What the parser quotes could be the key.
    let private = PrivateKeyDer::from_pem_slice(&files::read(key)?)
        .map_err(|_| FileFault::new(key, "it holds no private key (PEM)"))?;
    if let Some(first) = chain.first() {
        check_validity(first, now).map_err(|why| FileFault::new(certificate, why))?;
    }
    let pair = CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            FileFault::new(key, format!("it is not the key of the certificate in {}", certificate.display()))
        }
        rustls::Error::InvalidCertificate(_) => FileFault::new(certificate, "its certificate cannot be read"),
        _ => FileFault::new(key, "its private key is of a kind that is not used in TLS, or damaged"),
    })?;
    Ok(Some(Arc::new(pair)))
}

/// Reads every certificate of a file.
fn certificates(file: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let bytes = files::read(file)?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let list = list.map_err(|_| FileFault::new(file, "its certificates (PEM) cannot be read"))?;
    if list.is_empty() {
        return Err(FileFault::new(file, "it holds no certificate (PEM)"));
    }
    Ok(list)
}

/// Whether a certificate's time is now.
fn check_validity(certificate: &CertificateDer<'_>, now: SystemTime) -> Result<(), String> {
    let parsed =
        EndEntityCert::try_from(certificate).map_err(|_| "its certificate cannot be read".to_owned())?;
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    // There is no authority to find; times are looked at before one is looked for.
    let usage = webpki::KeyUsage::server_auth();
    match parsed.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[], &[], now, usage, None, None) {
        Err(Invalid::CertExpired { .. }) => Err("its certificate has expired".to_owned()),
        Err(Invalid::CertNotValidYet { .. }) => Err("its certificate is not valid yet".to_owned()),
        Err(Invalid::InvalidCertValidity) => Err("its certificate ends before it begins".to_owned()),
        _ => Ok(()),
    }
}

/// The names in a client's certificate, which has been verified: DNS names and URIs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(Arc<[String]>);

impl Identity {
    /// Who is at the other end, if a certificate says so.
    #[must_use]
    pub fn of(connection: &rustls::ServerConnection) -> Option<Self> {
        let certificate = connection.peer_certificates()?.first()?;
        let parsed = EndEntityCert::try_from(certificate).ok()?;
        Some(Self(parsed.valid_dns_names().chain(parsed.valid_uri_names()).map(str::to_owned).collect()))
    }

    /// The names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}
