//! Which authorities are trusted, and whether one of them certified a server. webpki builds the paths and verifies
//! the signatures; the checks that only OpenSSL makes are added.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, SignatureVerificationAlgorithm, TrustAnchor,
    UnixTime,
};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
use x509_cert::Version;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{DateTime, Decode};
use x509_cert::ext::pkix::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, NameConstraints, SubjectAltName,
};

use super::leaf::{Certificate, Leaf, OverTheOriginal};

/// id-kp-serverAuth, RFC 5280, 4.2.1.12.
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");

/// The extensions that are supported in certificates of authorities.
const SUPPORTED: [ObjectIdentifier; 5] = [
    BasicConstraints::OID,
    KeyUsage::OID,
    ExtendedKeyUsage::OID,
    NameConstraints::OID,
    SubjectAltName::OID,
];

/// The trusted authorities.
pub(super) struct Authorities {
    /// In the order of `roots`.
    anchors: Vec<TrustAnchor<'static>>,
    roots: Vec<Root>,
    /// Intermediate certificates. OpenSSL accepts no path that ends in one.
    intermediates: Vec<CertificateDer<'static>>,
    /// Revocation lists. If there are any, every certificate below a root needs a list of its issuer, and must not
    /// be on it.
    revoked: Vec<CertRevocationList<'static>>,
}

/// A certificate that signs itself.
struct Root {
    der: CertificateDer<'static>,
    certificate: Certificate,
}

impl Authorities {
    /// The system's authorities; unreadable certificates are skipped.
    pub(super) fn of_system(certificates: Vec<CertificateDer<'static>>) -> Self {
        let mut authorities = Self::none();
        for certificate in certificates {
            let _ = authorities.add(certificate);
        }
        authorities
    }

    /// The authorities of a file.
    ///
    /// # Errors
    /// Why one of them is unreadable.
    pub(super) fn of_file(certificates: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let mut authorities = Self::none();
        for certificate in certificates {
            authorities.add(certificate)?;
        }
        Ok(authorities)
    }

    fn none() -> Self {
        Self {
            anchors: Vec::new(),
            roots: Vec::new(),
            intermediates: Vec::new(),
            revoked: Vec::new(),
        }
    }

    fn add(&mut self, der: CertificateDer<'static>) -> Result<(), String> {
        let certificate = Certificate::from_der(&der)
            .map_err(|error| format!("a certificate in it cannot be read: {error}"))?;
        let tbs = &certificate.tbs_certificate;
        if tbs.subject != tbs.issuer {
            self.intermediates.push(der);
            return Ok(());
        }
        let anchor = webpki::anchor_from_trusted_cert(&der)
            .map_err(|error| format!("a certificate in it cannot be used: {error}"))?;
        self.anchors.push(anchor.to_owned());
        self.roots.push(Root { der, certificate });
        Ok(())
    }

    /// Adds revocation lists.
    ///
    /// # Errors
    /// Why one of the lists is unreadable.
    pub(super) fn revoking(
        mut self,
        lists: &[CertificateRevocationListDer<'static>],
    ) -> Result<Self, String> {
        for list in lists {
            let list = OwnedCertRevocationList::from_der(list).map_err(|error| {
                format!("a certificate revocation list cannot be used: {error}")
            })?;
            self.revoked.push(list.into());
        }
        Ok(self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Checks that one of them certified this server, and that the certificate is valid.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn verify(
        &self,
        leaf: &Leaf<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(), String> {
        const UNREADABLE: &str = "it cannot be read";
        if !leaf.is_for_tls() {
            return Err("its key may not be used for TLS".to_owned());
        }
        let converted = leaf.converted().map_err(|_| UNREADABLE)?;
        let algorithms = provider.signature_verification_algorithms.all;
        let algorithms: Vec<_> = algorithms
            .iter()
            .map(|algorithm| OverTheOriginal::new(*algorithm, leaf, &converted))
            .collect();
        let algorithms: Vec<_> = algorithms
            .iter()
            .map(|algorithm| algorithm as &dyn SignatureVerificationAlgorithm)
            .collect();
        let intermediates: Vec<_> = sent.iter().chain(&self.intermediates).cloned().collect();
        let revoked: Vec<_> = self.revoked.iter().collect();
        // As in libpq: every certificate in the path is checked, against lists that have not expired.
        let revocation = RevocationOptionsBuilder::new(&revoked).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let certificate =
            EndEntityCert::try_from(&converted.der).map_err(|error| reason(&error))?;
        let verified = certificate.verify_for_usage(
            &algorithms,
            &self.anchors,
            &intermediates,
            now,
            webpki::KeyUsage::server_auth(),
            revocation,
            Some(&|path| self.accept(path, leaf, now)),
        );
        verified.map(drop).map_err(|error| reason(&error))
    }

    /// The checks on a path that webpki does not make.
    fn accept(&self, path: &VerifiedPath<'_>, leaf: &Leaf<'_>, now: UnixTime) -> Result<(), Error> {
        // A self-signed certificate is accepted if it is among the roots, whether it may sign others or not.
        if self.roots.iter().any(|root| root.der == *leaf.der) {
            return Ok(());
        }
        let mut below = 0;
        for authority in path.intermediate_certificates() {
            let certificate = Certificate::from_der(&authority.der()).map_err(|_| Error::BadDer)?;
            check_authority(&certificate, below)?;
            below += 1;
        }
        let roots = self.anchors.iter().zip(&self.roots);
        let roots = roots.filter(|(anchor, _)| *anchor == path.anchor());
        let mut reason = Error::UnknownIssuer;
        for (_, root) in roots {
            match check_validity(&root.certificate, now)
                .and_then(|()| check_authority(&root.certificate, below))
            {
                Ok(()) => return Ok(()),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }
}

/// Checks that an authority may certify servers, with this many authorities between it and the server.
fn check_authority(certificate: &Certificate, below: usize) -> Result<(), Error> {
    let tbs = &certificate.tbs_certificate;
    let usage = tbs.get::<KeyUsage>().map_err(|_| Error::BadDer)?;
    if usage
        .as_ref()
        .is_some_and(|(_, usage)| !usage.key_cert_sign())
    {
        return Err(Error::EndEntityUsedAsCa);
    }
    match tbs.get::<BasicConstraints>().map_err(|_| Error::BadDer)? {
        Some((_, constraints)) if !constraints.ca => return Err(Error::EndEntityUsedAsCa),
        Some((_, constraints)) => {
            let most = constraints.path_len_constraint.map(usize::from);
            if most.is_some_and(|most| below > most) {
                return Err(Error::PathLenConstraintViolated);
            }
        }
        // An old certificate, from before authorities were marked as such.
        None if tbs.version == Version::V1 || usage.is_some() => {}
        None => return Err(Error::EndEntityUsedAsCa),
    }
    let purposes = tbs.get::<ExtendedKeyUsage>().map_err(|_| Error::BadDer)?;
    if purposes.is_some_and(|(_, purposes)| !purposes.0.contains(&SERVER_AUTH)) {
        return Err(Error::EndEntityUsedAsCa);
    }
    let mut extensions = tbs.extensions.iter().flatten();
    if extensions.any(|one| one.critical && !SUPPORTED.contains(&one.extn_id)) {
        return Err(Error::UnsupportedCriticalExtension);
    }
    Ok(())
}

fn check_validity(certificate: &Certificate, now: UnixTime) -> Result<(), Error> {
    let validity = &certificate.tbs_certificate.validity;
    let at = |time: x509_cert::time::Time| UnixTime::since_unix_epoch(time.to_unix_duration());
    let (not_before, not_after) = (at(validity.not_before), at(validity.not_after));
    if now < not_before {
        return Err(Error::CertNotValidYet {
            time: now,
            not_before,
        });
    }
    if now > not_after {
        return Err(Error::CertExpired {
            time: now,
            not_after,
        });
    }
    Ok(())
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "another crate may add errors"
)]
fn reason(error: &Error) -> String {
    let date = |time: &UnixTime| {
        let time = DateTime::from_unix_duration(Duration::from_secs(time.as_secs()));
        time.map_or_else(|_| "an unknown date".to_owned(), |time| time.to_string())
    };
    match error {
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => {
            "it is not signed by an authority in sslrootcert".to_owned()
        }
        Error::CertExpired { not_after, .. } => {
            format!(
                "it, or that of an authority, expired at {}",
                date(not_after)
            )
        }
        Error::CertNotValidYet { not_before, .. } => {
            format!(
                "it, or that of an authority, is not valid before {}",
                date(not_before)
            )
        }
        Error::CertRevoked => "it, or that of an authority, is revoked".to_owned(),
        Error::UnknownRevocationStatus => "no revocation list covers it".to_owned(),
        Error::CrlExpired { next_update, .. } => {
            format!(
                "the revocation list that covers it expired at {}",
                date(next_update)
            )
        }
        Error::RequiredEkuNotFoundContext(_) => "it is not valid for servers".to_owned(),
        Error::EndEntityUsedAsCa => "its issuer is not an authority for servers".to_owned(),
        Error::PathLenConstraintViolated => {
            "an authority between it and the root may not certify other authorities".to_owned()
        }
        Error::NameConstraintViolation => "its authority may not certify this name".to_owned(),
        other => format!("{other}"),
    }
}
