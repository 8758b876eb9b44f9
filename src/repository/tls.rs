//! How strictly the server's certificate is verified, in libpq's terms, with rustls.

mod authorities;
mod leaf;
mod names;
mod verifier;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, SupportedProtocolVersion};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::pem::{self, PemError};
use authorities::Authorities;
pub(super) use verifier::refusal;
use verifier::{Trust, Verifier};

/// Makes TLS connections to Postgres.
pub(super) type Connector = MakeRustlsConnect;

/// The URL's settings for TLS.
#[derive(Debug, Clone)]
pub(super) struct TlsSettings {
    pub demand: Demand,
    pub roots: Option<Roots>,
    /// A file of revocation lists.
    pub revoked: Option<PathBuf>,
    /// A folder of such files.
    pub revoked_folder: Option<PathBuf>,
    /// The client certificate, and its key.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub sends_certificate: bool,
    /// Whether to send SNI.
    pub sends_server_name: bool,
    /// Whether TLS begins without negotiation.
    pub direct: bool,
    pub versions: Vec<&'static SupportedProtocolVersion>,
}

/// What a server has to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// Nothing: TLS is not used.
    Nothing,
    /// That it holds the key of its own certificate, without checking who it is.
    Encryption,
    /// That a known authority certified it, under any name. Unless `needed`, this is required only if
    /// authorities are known.
    Authority { needed: bool },
    /// That a known authority certified it under the name that Larder connects to.
    Name,
}

/// Where the authorities' certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// In the system's trust store.
    System,
    /// In a PEM file.
    File(PathBuf),
}

/// The connector for these settings, and whether it verifies the server's identity.
///
/// # Errors
/// Why a file cannot be used, and which.
pub(super) fn connector(settings: &TlsSettings) -> Result<(Connector, bool), String> {
    let provider = Arc::new(ring::default_provider());
    let trust = trust(settings)?;
    let is_verified = !matches!(trust, Trust::Anyone);
    let verifier = Verifier::new(trust, Arc::clone(&provider));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&settings.versions)
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match own_certificate(settings, &provider)? {
        Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        None => builder.with_no_client_auth(),
    };
    // Every connection verifies the certificate, as in libpq.
    config.resumption = Resumption::disabled();
    config.enable_sni = settings.sends_server_name;
    if settings.direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok((MakeRustlsConnect::new(config), is_verified))
}

fn trust(settings: &TlsSettings) -> Result<Trust, String> {
    let (is_needed, by_name) = match settings.demand {
        Demand::Nothing | Demand::Encryption => return Ok(Trust::Anyone),
        Demand::Authority { needed } => (needed, false),
        Demand::Name => (true, true),
    };
    let default = || of_home("root.crt").map(Roots::File);
    let Some(roots) = settings.roots.clone().or_else(default) else {
        if is_needed {
            return Err(no_roots(by_name));
        }
        if settings.revoked.is_some() || settings.revoked_folder.is_some() {
            return Err(
                "sslcrl and sslcrldir need sslrootcert, whose certificates they revoke".to_owned(),
            );
        }
        return Ok(Trust::Anyone);
    };
    let authorities = match &roots {
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            Authorities::of_system(found.certs)
        }
        Roots::File(path) => pem::certificates(path)
            .map_err(|error| error.to_string())
            .and_then(Authorities::of_file)
            .map_err(|reason| about("sslrootcert", path, &reason))?,
    };
    if authorities.is_empty() {
        return Err(match roots {
            Roots::System => {
                "this machine has no root certificates to verify the server with: install \
                 ca-certificates, or name a file with sslrootcert"
                    .to_owned()
            }
            Roots::File(path) => about(
                "sslrootcert",
                &path,
                "it contains no root certificate of an authority",
            ),
        });
    }
    let authorities = Box::new(authorities.revoking(&revocation_lists(settings)?)?);
    Ok(if by_name {
        Trust::NamedBy(authorities)
    } else {
        Trust::SignedBy(authorities)
    })
}

fn no_roots(by_name: bool) -> String {
    let (mode, alternative) = if by_name {
        (
            "verify-full",
            "or sslrootcert=system for the machine's own authorities",
        )
    } else {
        (
            "verify-ca",
            "or sslmode=verify-full&sslrootcert=system for the machine's own authorities",
        )
    };
    let home = std::env::home_dir().unwrap_or_default();
    let default = home.join(".postgresql/root.crt");
    format!(
        "sslmode={mode} needs the certificate of the server's authority, but there is none at {}: name \
         its file with sslrootcert, {alternative}",
        default.display()
    )
}

/// libpq's default path for a file, if it exists.
fn of_home(name: &str) -> Option<PathBuf> {
    let path = std::env::home_dir()?.join(".postgresql").join(name);
    path.exists().then_some(path)
}

fn about(option: &str, path: &Path, reason: &str) -> String {
    format!("{option} {}: {reason}", path.display())
}

fn revocation_lists(
    settings: &TlsSettings,
) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let mut files: Vec<(&str, PathBuf)> = Vec::new();
    files.extend(settings.revoked.clone().map(|path| ("sslcrl", path)));
    if let Some(folder) = &settings.revoked_folder {
        let unread = |error: std::io::Error| about("sslcrldir", folder, &error.to_string());
        for entry in fs::read_dir(folder).map_err(unread)? {
            let path = entry.map_err(unread)?.path();
            // Mounted secrets may have folders among the files.
            if path.is_file() {
                files.push(("sslcrldir", path));
            }
        }
    }
    if files.is_empty() {
        files.extend(of_home("root.crl").map(|path| ("sslcrl", path)));
    }
    let mut lists = Vec::new();
    for (option, path) in files {
        let read = pem::revocation_lists(&path);
        lists.extend(read.map_err(|error| about(option, &path, &error.to_string()))?);
    }
    Ok(lists)
}

/// The client certificate, sent to a server that asks for one.
fn own_certificate(
    settings: &TlsSettings,
    provider: &CryptoProvider,
) -> Result<Option<CertifiedKey>, String> {
    if !settings.sends_certificate || settings.demand == Demand::Nothing {
        return Ok(None);
    }
    let certificate = settings
        .certificate
        .clone()
        .or_else(|| of_home("postgresql.crt"));
    let key = settings.key.clone().or_else(|| of_home("postgresql.key"));
    let Some(certificate) = certificate else {
        return Ok(None);
    };
    let chain = pem::certificates(&certificate)
        .map_err(|error| about("sslcert", &certificate, &error.to_string()))?;
    let Some(path) = key else {
        return Err("sslcert needs sslkey, the file of its private key".to_owned());
    };
    let key = pem::private_key(&path).map_err(|error| {
        let reason = match error {
            PemError::Encrypted => format!("{error}; {}", pem::DECRYPT),
            PemError::Unread(_) | PemError::Missing { .. } | PemError::Malformed(_) => {
                error.to_string()
            }
        };
        about("sslkey", &path, &reason)
    })?;
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|error| about("sslkey", &path, &error.to_string()))?;
    let shown = CertifiedKey::new(chain, key);
    // rustls reads only X.509 v3, so the keys are compared in a form that it can read.
    let readable = shown.cert.first().and_then(|own| leaf::only_key(own).ok());
    let compared = readable.map(|own| CertifiedKey::new(vec![own], Arc::clone(&shown.key)));
    let is_another =
        compared.is_some_and(|own| own.keys_match() == Err(InconsistentKeys::KeyMismatch.into()));
    if is_another {
        return Err(about("sslkey", &path, "this is not the key of sslcert"));
    }
    Ok(Some(shown))
}
