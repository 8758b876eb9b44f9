//! TLS for clients. The certificate's files are checked while it is in use, because tools that renew
//! certificates replace the files without a notification.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::observe::{Event, Observer};
use crate::pem::{self, PemError};
use crate::plan::{TlsFile, TlsSettings};

/// How often the files are checked, with two calls of `stat`. A watch on their folder would miss some of the
/// ways in which files are replaced.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// Why the files cannot be used.
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

/// The certificate and its key, and the configuration that uses them.
#[derive(Debug, Clone)]
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
        // Resumed sessions save a round trip, and tickets keep their state with the client.
        config.ticketer = ring::Ticketer::new().map_err(whole)?;
        Ok(Self {
            settings: settings.clone(),
            current,
            config: Arc::new(config),
            seen,
        })
    }

    pub(in crate::http) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Loads the files again whenever they are replaced, for ever.
    pub(in crate::http) async fn follow(mut self, observer: Observer) {
        let mut ticks = tokio::time::interval(CHECK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut refused = None;
        let mut is_out_of_date = false;
        loop {
            ticks.tick().await;
            if self.check(&observer, &mut refused).await {
                is_out_of_date = false;
            }
            let why = out_of_date(&self.current.0.load(), UnixTime::now());
            let was_out_of_date = std::mem::replace(&mut is_out_of_date, why.is_some());
            if let Some(cause) = why
                && !was_out_of_date
            {
                observer.emit(&Event::CertificateOutOfDate { cause });
            }
        }
    }

    /// Loads the files if they were replaced, and returns whether it did. `refused` are files that could not
    /// be loaded, and whether that was reported.
    async fn check(&mut self, observer: &Observer, refused: &mut Option<(Seen, bool)>) -> bool {
        let (settings, known) = (self.settings.clone(), self.seen.clone());
        // Disks can be slow, and can be on a network.
        let check = move || {
            let seen = Seen::of(&settings);
            let read = (seen != known).then(|| certified_key(&settings));
            (seen, read)
        };
        let (seen, read) = match tokio::task::spawn_blocking(check).await {
            Ok(checked) => checked,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_ends) => return false,
            },
        };
        match (read, refused) {
            (None, refused) => {
                if refused.take().is_some() {
                    observer.emit(&Event::CertificateRestored);
                }
            }
            (Some(Ok(key)), refused) => {
                self.current.0.store(Arc::new(key));
                self.seen = seen;
                *refused = None;
                observer.emit(&Event::CertificateRenewed);
                return true;
            }
            // They are read at each check: a lack of file descriptors may have been the reason.
            (Some(Err(error)), Some((of, is_reported))) if *of == seen => {
                if !std::mem::replace(is_reported, true) {
                    let cause = error.to_string();
                    observer.emit(&Event::CertificateRefused { cause });
                }
            }
            // One of the two files may have been replaced and the other not yet.
            (Some(Err(_)), refused) => *refused = Some((seen, false)),
        }
        false
    }
}

/// The certificate for new connections.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// What tells whether the files were replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen([Option<State>; 2]);

/// The state of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    /// Its device and inode: a symbolic link may point elsewhere now.
    identity: (u64, u64),
    length: u64,
    /// When its content or its permissions last changed.
    changed: (i64, i64),
}

impl Seen {
    fn of(settings: &TlsSettings) -> Self {
        let look = |file| {
            let of = fs::metadata(settings.path(file)).ok()?;
            Some(State {
                identity: (of.dev(), of.ino()),
                length: of.size(),
                changed: (of.ctime(), of.ctime_nsec()),
            })
        };
        Self([look(TlsFile::Cert), look(TlsFile::Key)])
    }
}

/// Why clients reject the certificate at this time, if the time is the reason.
fn out_of_date(key: &CertifiedKey, now: UnixTime) -> Option<String> {
    let date =
        |time: UnixTime| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(time.as_secs()));
    let certificate = ParsedCertificate::try_from(key.cert.first()?).ok()?;
    // No authority is trusted here, so the certificate is never accepted; but its validity period is checked
    // first.
    let authorities = RootCertStore::empty();
    let verified =
        verify_server_cert_signed_by_trust_anchor(&certificate, &authorities, &[], now, &[]);
    let Err(Error::InvalidCertificate(error)) = verified else {
        return None;
    };
    if let CertificateError::ExpiredContext { not_after, .. } = error {
        return Some(format!("it was valid until {}", date(not_after)));
    }
    if let CertificateError::NotValidYetContext { not_before, .. } = error {
        return Some(format!("it is valid from {}", date(not_before)));
    }
    None
}

fn certified_key(settings: &TlsSettings) -> Result<CertifiedKey, TlsError> {
    use TlsFile::{Cert, Key};
    let chain = pem::certificates(settings.path(Cert)).map_err(|error| unread(Cert, &error))?;
    let private = pem::private_key(settings.path(Key)).map_err(|error| unread(Key, &error))?;
    let key = CertifiedKey::from_der(chain, private, &ring::default_provider());
    key.map_err(|error| {
        if error == Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
            return TlsError {
                file: Key,
                reason: "this key does not belong to the certificate".to_owned(),
                help: "name the key that the certificate was made with",
            };
        }
        // The certificate is parsed only where the key is compared with it.
        let is_certificate = matches!(error, Error::InvalidCertificate(_));
        refused(if is_certificate { Cert } else { Key }, &error)
    })
}

fn unread(file: TlsFile, error: &PemError) -> TlsError {
    TlsError {
        file,
        reason: error.to_string(),
        help: match (error, file) {
            (PemError::Unread(_), _) => "the path is relative to the folder of config.toml",
            (PemError::Encrypted, _) => pem::DECRYPT,
            (PemError::Missing { .. } | PemError::Malformed(_), TlsFile::Cert) => {
                "it must contain -----BEGIN CERTIFICATE-----, the server's own certificate first"
            }
            (PemError::Missing { .. } | PemError::Malformed(_), TlsFile::Key) => {
                "it must contain -----BEGIN PRIVATE KEY-----"
            }
        },
    }
}

fn refused(file: TlsFile, error: &Error) -> TlsError {
    TlsError {
        file,
        reason: format!("this file cannot be used: {error}"),
        help: "use an X.509 version 3 certificate and its key: RSA of at least 2048 bits, ECDSA or Ed25519",
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivateKeyDer;

    use super::*;

    #[test]
    fn a_certificate_is_out_of_date_before_and_after_its_validity() {
        let signing_key = rcgen::KeyPair::generate().unwrap();
        let mut wanted = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        wanted.not_before = rcgen::date_time_ymd(2020, 1, 2);
        wanted.not_after = rcgen::date_time_ymd(2021, 3, 4);
        let made = wanted.self_signed(&signing_key).unwrap();
        let private = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let chain = vec![made.der().clone()];
        let key = CertifiedKey::from_der(chain, private, &ring::default_provider()).unwrap();
        let day = Duration::from_secs(24 * 60 * 60);
        let at = |days: u32| out_of_date(&key, UnixTime::since_unix_epoch(day * days));
        let from = "it is valid from Thu, 02 Jan 2020 00:00:00 GMT";
        let until = "it was valid until Thu, 04 Mar 2021 00:00:00 GMT";
        assert_eq!(at(18_262).as_deref(), Some(from));
        assert_eq!(at(18_263), None);
        assert_eq!(at(18_689), None);
        assert_eq!(at(18_691).as_deref(), Some(until));
    }
}
