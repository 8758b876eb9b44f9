//! TLS towards clients: one certificate, looked at again while it is used, because those who renew
//! certificates replace the files and tell nobody.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::observe::{Event, Observer};
use crate::plan::{TlsFile, TlsSettings};

/// How often the files are looked at. Looking is two calls of `stat`; a watch on a folder would miss
/// some of the ways in which files are put in place of others.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why the files can not be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct TlsError {
    /// The file that is to blame.
    pub file: TlsFile,
    /// What is wrong with it.
    pub reason: String,
    /// What to do about it.
    pub help: &'static str,
}

/// What TLS is spoken with.
#[derive(Debug)]
pub struct Tls {
    settings: TlsSettings,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
    seen: Seen,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(settings: &TlsSettings) -> Result<Self, TlsError> {
        let seen = Seen::of(settings);
        let current = Arc::new(Current(ArcSwap::from_pointee(certified_key(settings)?)));
        let whole = |error: Error| refused(TlsFile::Cert, &error);
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(whole)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Clients that come back save a round trip, and nothing has to be kept for them.
        config.ticketer = ring::Ticketer::new().map_err(whole)?;
        Ok(Self {
            settings: settings.clone(),
            current,
            config: Arc::new(config),
            seen,
        })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Takes what takes the place of the files, until `shutdown`.
    pub(super) async fn follow(mut self, observer: Observer, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut refused: Option<Seen> = None;
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let settings = self.settings.clone();
            let look = move || (Seen::of(&settings), certified_key(&settings));
            if Seen::of(&self.settings) == self.seen {
                continue;
            }
            let Ok((seen, read)) = tokio::task::spawn_blocking(look).await else {
                continue;
            };
            match read {
                Ok(key) => {
                    self.current.0.store(Arc::new(key));
                    self.seen = seen;
                    refused = None;
                    observer.emit(&Event::CertificateRenewed);
                }
                // One of the two files may be new already and the other not yet.
                Err(_) if refused.as_ref() != Some(&seen) => refused = Some(seen),
                Err(error) => {
                    self.seen = seen;
                    let cause = error.to_string();
                    observer.emit(&Event::CertificateRefused { cause });
                }
            }
        }
    }
}

/// The certificate that new connections get.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// By what it is known that a file is not the one it was.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen([Option<(SystemTime, u64)>; 2]);

impl Seen {
    fn of(settings: &TlsSettings) -> Self {
        let look = |file| {
            let metadata = fs::metadata(settings.path(file)).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        Self([look(TlsFile::Cert), look(TlsFile::Key)])
    }
}

fn certified_key(settings: &TlsSettings) -> Result<CertifiedKey, TlsError> {
    use TlsFile::{Cert, Key};
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(settings.path(Cert)).and_then(Iterator::collect);
    let chain = chain.map_err(|error| unread(Cert, &error))?;
    if chain.is_empty() {
        return Err(TlsError {
            file: Cert,
            reason: "there is no certificate in this file".to_owned(),
            help: "it is to begin with -----BEGIN CERTIFICATE-----, the server's own first",
        });
    }
    let private = PrivateKeyDer::from_pem_file(settings.path(Key)).map_err(|error| {
        if matches!(error, pem::Error::NoItemsFound) {
            TlsError {
                file: Key,
                reason: "there is no private key in this file".to_owned(),
                help: "it is to begin with -----BEGIN PRIVATE KEY-----, and not to be encrypted",
            }
        } else {
            unread(Key, &error)
        }
    })?;
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|error| {
        if error == Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
            TlsError {
                file: Key,
                reason: "this is not the key of the certificate".to_owned(),
                help: "name the key that the certificate was made for",
            }
        } else {
            refused(Key, &error)
        }
    })
}

fn unread(file: TlsFile, error: &pem::Error) -> TlsError {
    let reason = if let pem::Error::Io(error) = error {
        format!("this file can not be read: {error}")
    } else {
        format!("this file is not PEM: {error}")
    };
    TlsError {
        file,
        reason,
        help: "the name is relative to the folder config.toml is in",
    }
}

fn refused(file: TlsFile, error: &Error) -> TlsError {
    TlsError {
        file,
        reason: format!("this file can not be used: {error}"),
        help: "make the certificate and its key anew: RSA from 2048 bits, ECDSA or Ed25519",
    }
}
