//! Reads certificates and keys from PEM files. Errors say what is wrong with a file, and repeat nothing of it
//! but the names of well-known sections.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// The most bytes of a file that are read. Bundles of authorities take 300 KB, revocation lists several MB.
const MAX_BYTES: u64 = 64 << 20;

/// How to decrypt a private key. Larder does not: it would need the password in a file
/// next to the key.
pub(crate) const DECRYPT: &str =
    "decrypt it with `openssl pkey -in <this file> -out <another>`, and name that one";

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PemError {
    /// It cannot be read.
    #[error("this file cannot be read: {0}")]
    Unread(io::Error),
    /// It contains an encrypted private key.
    #[error("the private key in this file is encrypted")]
    Encrypted,
    /// It contains something else.
    #[error("there is no {wanted} in this file{}", instead(found))]
    Missing {
        /// What it should contain.
        wanted: &'static str,
        /// The known sections that it contains.
        found: Vec<&'static str>,
    },
    /// It is not valid PEM.
    #[error("this file is not PEM: {0}")]
    Malformed(&'static str),
}

fn instead(found: &[&'static str]) -> String {
    if found.is_empty() {
        return String::new();
    }
    format!(", but {}", found.join(", "))
}

/// Sections that an error names if a file contains them.
const SECTIONS: [&str; 10] = [
    "CERTIFICATE",
    "TRUSTED CERTIFICATE",
    "CERTIFICATE REQUEST",
    "NEW CERTIFICATE REQUEST",
    "PRIVATE KEY",
    "RSA PRIVATE KEY",
    "EC PRIVATE KEY",
    "OPENSSH PRIVATE KEY",
    "PUBLIC KEY",
    "X509 CRL",
];

/// All certificates in a file; at least one.
///
/// # Errors
/// [`PemError`].
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    all(path, "certificate")
}

/// All revocation lists in a file; at least one.
///
/// # Errors
/// [`PemError`].
pub(crate) fn revocation_lists(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    all(path, "certificate revocation list")
}

/// The first private key in a file.
///
/// # Errors
/// [`PemError`].
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let bytes = read(path)?;
    // PKCS #8 says so in the section's name; RFC 1421, which OpenSSL's older formats follow, inside the section.
    let has = |words: &[u8]| memchr::memmem::find(&bytes, words).is_some();
    if has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(PemError::Encrypted);
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| wrong(&error, &bytes, "private key"))
}

fn all<T: PemObject>(path: &Path, wanted: &'static str) -> Result<Vec<T>, PemError> {
    let bytes = read(path)?;
    let all: Result<Vec<T>, _> = T::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| wrong(&error, &bytes, wanted))?;
    if all.is_empty() {
        return Err(wrong(&pem::Error::NoItemsFound, &bytes, wanted));
    }
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes))
        .map_err(PemError::Unread)?;
    Ok(bytes)
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "another crate may add errors"
)]
fn wrong(error: &pem::Error, bytes: &[u8], wanted: &'static str) -> PemError {
    let malformed = match error {
        pem::Error::NoItemsFound => {
            // The first byte of DER, and thus of PKCS #12.
            if bytes.starts_with(&[0x30]) {
                return PemError::Malformed("its bytes look like DER or PKCS #12");
            }
            let text = String::from_utf8_lossy(bytes);
            let holds = |section: &&str| text.contains(&format!("-----BEGIN {section}-----"));
            let found = SECTIONS.into_iter().filter(holds).collect();
            return PemError::Missing { wanted, found };
        }
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section's first line is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "a section is malformed",
    };
    PemError::Malformed(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_key_is_described_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let why = |text: &[u8]| {
            std::fs::write(&path, text).unwrap();
            private_key(&path).unwrap_err().to_string()
        };
        let pkcs8 =
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let legacy = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
            DEK-Info: AES-256-CBC,00\n\nMAA=\n-----END RSA PRIVATE KEY-----\n";
        let encrypted = "the private key in this file is encrypted";
        assert_eq!(why(pkcs8), encrypted);
        assert_eq!(why(legacy), encrypted);
        assert_eq!(
            why(b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"),
            "there is no private key in this file, but CERTIFICATE"
        );
        assert_eq!(why(b""), "there is no private key in this file");
        assert_eq!(
            why(&[0x30, 0x82, 1, 1]),
            "this file is not PEM: its bytes look like DER or PKCS #12"
        );
        assert_eq!(
            why(b"-----BEGIN PRIVATE KEY-----\nhunter2\n"),
            "this file is not PEM: a section has no end"
        );
    }
}
