//! Which authorities are believed, and whether one of them certified a server: paths are built and
//! signatures verified by webpki, with what OpenSSL asks beyond that.

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

/// Extensions whose meaning is heeded, in the certificates of authorities.
const HEEDED: [ObjectIdentifier; 5] = [
    BasicConstraints::OID,
    KeyUsage::OID,
    ExtendedKeyUsage::OID,
    NameConstraints::OID,
    SubjectAltName::OID,
];

/// Who is believed.
pub(super) struct Authorities {
    /// In the order of `roots`.
    anchors: Vec<TrustAnchor<'static>>,
    roots: Vec<Root>,
    /// Certificates that lead from a server's to a root. OpenSSL believes no path that ends in one.
    between: Vec<CertificateDer<'static>>,
    /// With any, each certificate below a root has to be on none of them, and its issuer's is needed.
    revoked: Vec<CertRevocationList<'static>>,
}

/// A certificate that signs itself.
struct Root {
    der: CertificateDer<'static>,
    certificate: Certificate,
}

impl Authorities {
    /// Those of the machine, of which some may be unreadable.
    pub(super) fn of_system(certificates: Vec<CertificateDer<'static>>) -> Self {
        let mut authorities = Self::none();
        for certificate in certificates {
            let _ = authorities.add(certificate);
        }
        authorities
    }

    /// Those of a file that was named.
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
            between: Vec::new(),
            revoked: Vec::new(),
        }
    }

    fn add(&mut self, der: CertificateDer<'static>) -> Result<(), String> {
        let certificate = Certificate::from_der(&der)
            .map_err(|error| format!("a certificate in it cannot be read: {error}"))?;
        let tbs = &certificate.tbs_certificate;
        if tbs.subject != tbs.issuer {
            self.between.push(der);
            return Ok(());
        }
        let anchor = webpki::anchor_from_trusted_cert(&der)
            .map_err(|error| format!("a certificate in it cannot be used: {error}"))?;
        self.anchors.push(anchor.to_owned());
        self.roots.push(Root { der, certificate });
        Ok(())
    }

    /// With lists of what they have revoked.
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

    /// Whether one of them certified this server, and still does.
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
        if !leaf.may_shake_hands() {
            return Err("its key may not be used for TLS".to_owned());
        }
        let shown = leaf.shown().map_err(|_| UNREADABLE)?;
        let algorithms = provider.signature_verification_algorithms.all;
        let algorithms: Vec<_> = algorithms
            .iter()
            .map(|algorithm| OverTheOriginal::new(*algorithm, leaf, &shown))
            .collect();
        let algorithms: Vec<_> = algorithms
            .iter()
            .map(|algorithm| algorithm as &dyn SignatureVerificationAlgorithm)
            .collect();
        let between: Vec<_> = sent.iter().chain(&self.between).cloned().collect();
        let revoked: Vec<_> = self.revoked.iter().collect();
        // As libpq asks of OpenSSL: of every certificate in the path, by lists that are not out of date.
        let revocation = RevocationOptionsBuilder::new(&revoked).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let certificate = EndEntityCert::try_from(&shown.der).map_err(|error| words(&error))?;
        let verified = certificate.verify_for_usage(
            &algorithms,
            &self.anchors,
            &between,
            now,
            webpki::KeyUsage::server_auth(),
            revocation,
            Some(&|path| self.accept(path, leaf, now)),
        );
        verified.map(drop).map_err(|error| words(&error))
    }

    /// What webpki does not ask of a path whose signatures are right.
    fn accept(&self, path: &VerifiedPath<'_>, leaf: &Leaf<'_>, now: UnixTime) -> Result<(), Error> {
        // A server's certificate that signs itself is believed if it is among the roots, whether it may
        // sign others or not.
        if self.roots.iter().any(|root| root.der == *leaf.der) {
            return Ok(());
        }
        let mut below = 0;
        for authority in path.intermediate_certificates() {
            let certificate = Certificate::from_der(&authority.der()).map_err(|_| Error::BadDer)?;
            may_certify(&certificate, below)?;
            below += 1;
        }
        let roots = self.anchors.iter().zip(&self.roots);
        let roots = roots.filter(|(anchor, _)| *anchor == path.anchor());
        let mut reason = Error::UnknownIssuer;
        for (_, root) in roots {
            match check_validity(&root.certificate, now)
                .and_then(|()| may_certify(&root.certificate, below))
            {
                Ok(()) => return Ok(()),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }
}

/// Whether an authority's certificate lets it certify servers, with this many authorities between it
/// and the server.
fn may_certify(certificate: &Certificate, below: usize) -> Result<(), Error> {
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
        // As certificates of authorities were before they could say it.
        None if tbs.version == Version::V1 || usage.is_some() => {}
        None => return Err(Error::EndEntityUsedAsCa),
    }
    let purposes = tbs.get::<ExtendedKeyUsage>().map_err(|_| Error::BadDer)?;
    if purposes.is_some_and(|(_, purposes)| !purposes.0.contains(&SERVER_AUTH)) {
        return Err(Error::EndEntityUsedAsCa);
    }
    let mut extensions = tbs.extensions.iter().flatten();
    if extensions.any(|one| one.critical && !HEEDED.contains(&one.extn_id)) {
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
    reason = "another crate's errors, which grow"
)]
fn words(error: &Error) -> String {
    let date = |time: &UnixTime| {
        let time = DateTime::from_unix_duration(Duration::from_secs(time.as_secs()));
        time.map_or_else(|_| "a date unknown".to_owned(), |time| time.to_string())
    };
    match error {
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => {
            "no authority in sslrootcert has signed it".to_owned()
        }
        Error::CertExpired { not_after, .. } => {
            format!("it, or an authority's, expired at {}", date(not_after))
        }
        Error::CertNotValidYet { not_before, .. } => {
            format!(
                "it, or an authority's, is not valid before {}",
                date(not_before)
            )
        }
        Error::CertRevoked => "it, or an authority's, is revoked".to_owned(),
        Error::UnknownRevocationStatus => "no revocation list is about it".to_owned(),
        Error::CrlExpired { next_update, .. } => {
            format!(
                "the revocation list about it was to be renewed by {}",
                date(next_update)
            )
        }
        Error::RequiredEkuNotFoundContext(_) => "it is not for servers".to_owned(),
        Error::EndEntityUsedAsCa => "what signed it is no authority for servers".to_owned(),
        Error::PathLenConstraintViolated => {
            "an authority between it and the root may not certify others".to_owned()
        }
        Error::NameConstraintViolation => "an authority may not certify such names".to_owned(),
        other => format!("{other}"),
    }
}
