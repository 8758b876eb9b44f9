//! The server's own certificate, in a form that webpki accepts.
//!
//! webpki accepts only X.509 v3, and no authority's certificate as a server's. The certificates of Postgres's
//! manual are v1 if an authority signs them, and an authority's if they are self-signed; OpenSSL accepts both,
//! and so does every client with libpq. So webpki gets the same certificate as v3, without what marks it as an
//! authority's, while signatures are verified over the bytes that were signed. Nothing else is changed: dates,
//! usages and constraints stay.

use rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, DnsName, InvalidSignature, SignatureVerificationAlgorithm,
};
use x509_cert::Version;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::asn1::{Ia5String, ObjectIdentifier, OctetString};
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{self, Decode, Encode, Reader, SliceReader};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};

/// id-at-commonName, X.520.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// A certificate with any serial number.
pub(super) type Certificate = CertificateInner<Raw>;

/// The server's certificate.
pub(super) struct Leaf<'c> {
    pub(super) der: &'c CertificateDer<'c>,
    pub(super) certificate: Certificate,
    /// The host's name in old certificates. libpq still reads it if `names` contains no DNS name.
    pub(super) common_name: Option<Vec<u8>>,
    /// The subject alternative names.
    pub(super) names: Vec<GeneralName>,
    /// The bytes that its issuer signed.
    signed: &'c [u8],
}

/// A certificate in the form that webpki accepts.
pub(super) struct Converted {
    pub(super) der: CertificateDer<'static>,
    /// The bytes that webpki takes for those that the issuer signed.
    to_be_signed: Vec<u8>,
}

impl<'c> Leaf<'c> {
    pub(super) fn read(der: &'c CertificateDer<'c>) -> der::Result<Self> {
        let certificate = Certificate::from_der(der)?;
        let tbs = &certificate.tbs_certificate;
        let names = tbs.get::<SubjectAltName>()?;
        let subject = tbs.subject.0.iter().flat_map(|part| part.0.iter());
        // The first, as in libpq.
        let common_name = subject
            .filter(|attribute| attribute.oid == COMMON_NAME)
            .map(|attribute| attribute.value.value().to_vec())
            .next();
        let signed = SliceReader::new(der)?.sequence(|reader| {
            let signed = reader.tlv_bytes()?;
            while !reader.is_finished() {
                reader.tlv_bytes()?;
            }
            Ok(signed)
        })?;
        Ok(Self {
            der,
            common_name,
            names: names.map(|(_, names)| names.0).unwrap_or_default(),
            certificate,
            signed,
        })
    }

    /// Whether its key may be used in a TLS handshake: a check of OpenSSL that webpki does not make.
    pub(super) fn is_for_tls(&self) -> bool {
        match self.certificate.tbs_certificate.get::<KeyUsage>() {
            Ok(None) => true,
            Ok(Some((_, usage))) => {
                usage.digital_signature() || usage.key_encipherment() || usage.key_agreement()
            }
            Err(_) => false,
        }
    }

    pub(super) fn converted(&self) -> der::Result<Converted> {
        let mut converted = self.certificate.clone();
        let tbs = &mut converted.tbs_certificate;
        tbs.version = Version::V3;
        (tbs.issuer_unique_id, tbs.subject_unique_id) = (None, None);
        let extensions = tbs.extensions.get_or_insert_default();
        extensions
            .retain(|one| ![BasicConstraints::OID, SubjectAltName::OID].contains(&one.extn_id));
        let names = self.all_names()?;
        if !names.is_empty() {
            extensions.push(Extension {
                extn_id: SubjectAltName::OID,
                critical: false,
                extn_value: OctetString::new(SubjectAltName(names).to_der()?)?,
            });
        }
        Ok(Converted {
            to_be_signed: converted.tbs_certificate.to_der()?,
            der: CertificateDer::from(converted.to_der()?),
        })
    }

    /// The subject alternative names, or the common name if that counts, so that the name constraints of an
    /// authority apply to it too.
    fn all_names(&self) -> der::Result<Vec<GeneralName>> {
        let mut names = self.names.clone();
        let is_dns = |name: &GeneralName| matches!(name, GeneralName::DnsName(_));
        let common_name = self.common_name.as_deref().unwrap_or_default();
        if !names.iter().any(is_dns)
            && let Ok(name) = std::str::from_utf8(common_name)
            && DnsName::try_from(name).is_ok()
        {
            names.push(GeneralName::DnsName(Ia5String::new(name)?));
        }
        Ok(names)
    }
}

/// The certificate without anything that webpki may reject before it gets to the key. Enough for verifying the
/// signatures of a handshake.
pub(super) fn only_key(der: &CertificateDer<'_>) -> der::Result<CertificateDer<'static>> {
    let mut certificate = Certificate::from_der(der)?;
    let tbs = &mut certificate.tbs_certificate;
    tbs.version = Version::V3;
    (tbs.issuer_unique_id, tbs.subject_unique_id) = (None, None);
    tbs.extensions = None;
    Ok(CertificateDer::from(certificate.to_der()?))
}

/// A signature algorithm that verifies the original bytes instead of those of the converted certificate.
#[derive(Debug)]
pub(super) struct OverTheOriginal<'c> {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    converted: &'c [u8],
    signed: &'c [u8],
}

impl<'c> OverTheOriginal<'c> {
    pub(super) fn new(
        algorithm: &'static dyn SignatureVerificationAlgorithm,
        leaf: &Leaf<'c>,
        converted: &'c Converted,
    ) -> Self {
        Self {
            algorithm,
            converted: &converted.to_be_signed,
            signed: leaf.signed,
        }
    }
}

impl SignatureVerificationAlgorithm for OverTheOriginal<'_> {
    fn verify_signature(
        &self,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let message = if message == self.converted {
            self.signed
        } else {
            message
        };
        self.algorithm.verify_signature(key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}
