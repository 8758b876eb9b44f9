//! Makes keys, and their digests.

use ring::digest::{SHA256, digest as sha2};
use ring::rand::{SecureRandom, SystemRandom};

use crate::plan::KeyDigest;

/// Characters of a key, each of six random bits: 192 bits in all.
const KEY_LENGTH: usize = 32;

/// A new key, or `None` if the system has no randomness. Its prefix lets scanners of repositories and logs
/// recognise it.
pub fn generate() -> Option<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0; KEY_LENGTH];
    SystemRandom::new().fill(&mut bytes).ok()?;
    let digits = bytes.map(|byte| char::from(DIGITS[usize::from(byte % 64)]));
    Some(
        std::iter::once("larder_".to_owned())
            .chain(digits.map(String::from))
            .collect(),
    )
}

/// SHA-256 of a key.
pub fn digest(key: &str) -> KeyDigest {
    let mut digest = KeyDigest::default();
    digest.copy_from_slice(sha2(&SHA256, key.as_bytes()).as_ref());
    digest
}

/// A digest as the configuration writes it.
pub fn hexadecimal(digest: &KeyDigest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
