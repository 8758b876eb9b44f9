//! How much of the server's certificate is believed, in libpq's terms, through rustls.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::RepositoryError;

/// Makes TLS connections to Postgres.
pub(super) type Connector = MakeRustlsConnect;

/// Whose certificate is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// Anyone's: the line is encrypted, its other end unknown. What libpq's `require` gives.
    Anyone,
    /// One signed by these, whatever name is in it: `verify-ca`.
    SignedBy(Roots),
    /// One signed by these for the host's name: `verify-full`.
    NamedBy(Roots),
}

/// Certificates that are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// The machine's own.
    System,
    /// Those in a PEM file.
    File(PathBuf),
}

/// The connector for this much trust.
///
/// # Errors
/// [`RepositoryError::Settings`] when the certificates can not be read.
pub(super) fn connector(trust: &Trust) -> Result<Connector, RepositoryError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| settings(error.to_string()))?;
    let config = match trust {
        Trust::NamedBy(roots) => builder
            .with_root_certificates(read(roots)?)
            .with_no_client_auth(),
        Trust::SignedBy(roots) => {
            let chain = WebPkiServerVerifier::builder_with_provider(
                Arc::new(read(roots)?),
                Arc::clone(&provider),
            )
            .build()
            .map_err(|error| settings(error.to_string()))?;
            let verifier = Lenient {
                chain: Some(chain),
                provider,
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_no_client_auth()
        }
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Lenient {
                chain: None,
                provider,
            }))
            .with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn settings(reason: String) -> RepositoryError {
    RepositoryError::Settings { reason }
}

fn read(roots: &Roots) -> Result<RootCertStore, RepositoryError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                return Err(settings(
                    "this machine has no certificates to verify the server with; \
                     install ca-certificates, or name a file with sslrootcert"
                        .to_owned(),
                ));
            }
        }
        Roots::File(path) => {
            for certificate in read_file(path)? {
                store
                    .add(certificate)
                    .map_err(|error| unreadable(path, &error.to_string()))?;
            }
            if store.is_empty() {
                return Err(unreadable(path, "it holds no certificate"));
            }
        }
    }
    Ok(store)
}

fn read_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, RepositoryError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(path, &error.to_string()))
}

fn unreadable(path: &Path, reason: &str) -> RepositoryError {
    settings(format!("sslrootcert {}: {reason}", path.display()))
}

/// Verifies less than the host's name: the chain alone, or nothing. Signatures are always checked, so
/// that whoever answers holds the key of the certificate it shows.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is looked at last, so everything before it held.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
