//! Verifies the server's certificate for rustls.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use super::authorities::Authorities;
use super::leaf::{self, Leaf};
use super::names;

/// Which certificates are accepted.
pub(super) enum Trust {
    /// Any: the connection is encrypted, but the server is not verified.
    Anyone,
    /// Those certified by these authorities, for any name.
    SignedBy(Box<Authorities>),
    /// Those certified by these authorities for the host's name.
    NamedBy(Box<Authorities>),
}

/// Verifies certificates as `trust` requires. The signatures of a handshake are always verified, so that the
/// server has the key of the certificate it sends.
pub(super) struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(super) fn new(trust: Trust, provider: Arc<CryptoProvider>) -> Self {
        Self { trust, provider }
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), String> {
        let (authorities, by_name) = match &self.trust {
            Trust::Anyone => return Ok(()),
            Trust::SignedBy(authorities) => (authorities, false),
            Trust::NamedBy(authorities) => (authorities, true),
        };
        let leaf = Leaf::read(certificate).map_err(|_| "it cannot be read")?;
        authorities.verify(&leaf, sent, now, &self.provider)?;
        if by_name && !names::is_valid_for(&leaf, host) {
            return Err(format!("it is not valid for name {}", host.to_str()));
        }
        Ok(())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.verify(certificate, intermediates, name, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(reason) => {
                let refusal = OtherError(Arc::new(Refusal(reason)));
                Err(Error::InvalidCertificate(CertificateError::Other(refusal)))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, &key_of(certificate)?, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, &key_of(certificate)?, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn key_of(certificate: &CertificateDer<'_>) -> Result<CertificateDer<'static>, Error> {
    leaf::only_key(certificate)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

/// Why a certificate is not accepted.
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server's certificate is not accepted: {}", self.0)
    }
}

impl StdError for Refusal {}

/// Why the server's certificate was not accepted, if that is the error. rustls would show it in debug format.
pub(crate) fn refusal(error: &tokio_postgres::Error) -> Option<String> {
    let cause = error.source()?.downcast_ref::<io::Error>()?.get_ref()?;
    let Error::InvalidCertificate(CertificateError::Other(other)) = cause.downcast_ref()? else {
        return None;
    };
    Some(other.to_string())
}
