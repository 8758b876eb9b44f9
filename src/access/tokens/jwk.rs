//! What signatures are verified with: the keys of a JWK set (RFC 7517), or a secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hmac, signature};
use serde::Deserialize;
use serde_json::Value;

use super::error::TokenError;
use super::jws::Jws;
use crate::plan::Algorithm;

/// More than any issuer publishes.
const KEYS_MAX: usize = 100;

/// How many keys are tried for a token. A token that does not say which key it is signed with could otherwise
/// make this machine try them all.
const TRIED_MAX: usize = 4;

/// Sizes of RSA keys in bits, which ring verifies. Smaller ones are broken: RFC 7518, 3.3.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The keys of an issuer that fit its algorithms.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Key>);

/// A key, and what it may be used for.
#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// The only algorithm it may be used with; if there is none, any that fits.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Public(PublicKey),
    /// It prints itself without the secret.
    Secret(hmac::Key),
}

#[derive(Debug, PartialEq, Eq)]
enum PublicKey {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// A point in uncompressed form.
    P256(Vec<u8>),
    /// Likewise.
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Why there are no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is no JSON object with an array `keys`.
    #[error("it is not a JWK set: {0}")]
    Malformed(String),
    /// It has too many.
    #[error("it has more than {KEYS_MAX} keys")]
    TooMany,
    /// No key is usable.
    #[error("none of its {0} keys fits `algorithms`")]
    NoneFits(usize),
}

/// RFC 7517, 5.
#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

/// RFC 7517, 4, and RFC 7518, 6. Certificates in it are not looked at: the set is trusted as it is.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a JWK set. Keys of other types and for other purposes are skipped.
    pub(super) fn parse(json: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeySetError> {
        let set: JwkSet =
            serde_json::from_slice(json).map_err(|e| KeySetError::Malformed(e.to_string()))?;
        let count = set.keys.len();
        if count > KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let keys = set.keys.into_iter().filter_map(Key::of);
        let keys: Vec<Key> = keys
            .filter(|key| algorithms.iter().any(|algorithm| key.fits(*algorithm)))
            .collect();
        if keys.is_empty() {
            return Err(KeySetError::NoneFits(count));
        }
        Ok(Self(keys))
    }

    /// A secret as the key of each algorithm.
    pub(super) fn of_secret(secret: &[u8], algorithms: &[Algorithm]) -> Self {
        let key = |algorithm: &Algorithm| {
            Some(Key {
                id: None,
                algorithm: Some(*algorithm),
                material: Material::Secret(hmac::Key::new(hmac_of(*algorithm)?, secret)),
            })
        };
        Self(algorithms.iter().filter_map(key).collect())
    }

    /// Whether both have the same public keys, in any order.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let has = |set: &Self, key| set.0.iter().any(|other| other.is_same(key));
        self.0.len() == other.0.len()
            && self.0.iter().all(|key| has(other, key))
            && other.0.iter().all(|key| has(self, key))
    }

    /// Checks the signature of a token.
    ///
    /// # Errors
    /// [`TokenError::Key`] if no key fits, so that newer keys could help; [`TokenError::ManyKeys`] and
    /// [`TokenError::Signature`].
    pub(super) fn verify(&self, token: &Jws<'_>) -> Result<(), TokenError> {
        let fits = |key: &&Key| key.fits(token.algorithm);
        let named = |key: &&Key| token.key.is_none() || key.id == token.key;
        let mut keys: Vec<&Key> = self.0.iter().filter(fits).filter(named).collect();
        if keys.is_empty() {
            // A key without a name may be the one that the token names.
            let nameless = |key: &&Key| key.id.is_none();
            keys = self.0.iter().filter(fits).filter(nameless).collect();
        }
        if keys.is_empty() {
            return Err(TokenError::Key);
        }
        if keys.len() > TRIED_MAX {
            return Err(TokenError::ManyKeys);
        }
        if keys.iter().any(|key| key.has_signed(token)) {
            Ok(())
        } else {
            Err(TokenError::Signature)
        }
    }
}

impl Key {
    /// `None` if this is not a public key for signatures of a known type.
    fn of(jwk: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(jwk).ok()?;
        let is_for_signatures = jwk.usage.as_ref().is_none_or(|usage| usage == "sig");
        let can_verify = |operations: &Vec<String>| operations.iter().any(|it| it == "verify");
        if !is_for_signatures || !jwk.key_ops.as_ref().is_none_or(can_verify) {
            return None;
        }
        let algorithm = match &jwk.alg {
            None => None,
            Some(name) => Some(Algorithm::named(name)?),
        };
        Some(Self {
            algorithm,
            material: Material::Public(jwk.public_key()?),
            id: jwk.kid,
        })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        let is_allowed = self.algorithm.is_none_or(|only| only == algorithm);
        is_allowed
            && match &self.material {
                Material::Secret(_) => hmac_of(algorithm).is_some(),
                Material::Public(key) => key.verification(algorithm).is_some(),
            }
    }

    fn has_signed(&self, token: &Jws<'_>) -> bool {
        let (message, signature) = (token.signed.as_bytes(), &token.signature);
        match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Public(key) => key
                .verification(token.algorithm)
                .is_some_and(|verification| key.verify(verification, message, signature)),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        let (Material::Public(mine), Material::Public(others)) = (&self.material, &other.material)
        else {
            return false;
        };
        self.id == other.id && self.algorithm == other.algorithm && mine == others
    }
}

impl Jwk {
    fn public_key(&self) -> Option<PublicKey> {
        let point = |length: usize| {
            let coordinate = |text| bytes(text).filter(|bytes| bytes.len() == length);
            let (x, y) = (coordinate(&self.x)?, coordinate(&self.y)?);
            Some([vec![4], x, y].concat())
        };
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let modulus = number(&self.n)?;
                let bits = modulus.len() * 8 - modulus.first()?.leading_zeros() as usize;
                let exponent = number(&self.e)?;
                RSA_BITS
                    .contains(&bits)
                    .then_some(PublicKey::Rsa { modulus, exponent })
            }
            ("EC", Some("P-256")) => point(32).map(PublicKey::P256),
            ("EC", Some("P-384")) => point(48).map(PublicKey::P384),
            ("OKP", Some("Ed25519")) => {
                let key = bytes(&self.x).filter(|bytes| bytes.len() == 32);
                key.map(PublicKey::Ed25519)
            }
            // A secret that is published is none.
            _ => None,
        }
    }
}

fn bytes(text: &Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.as_ref()?).ok()
}

/// A number greater than zero. Leading zeros, which some issuers write, are left out.
fn number(text: &Option<String>) -> Option<Vec<u8>> {
    let bytes = bytes(text)?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[first..].to_vec())
}

/// How the signatures of a public key are verified.
enum Verification {
    Rsa(&'static signature::RsaParameters),
    Other(&'static dyn signature::VerificationAlgorithm),
}

impl PublicKey {
    /// How signatures of this key with this algorithm are verified; `None` if the two do not fit.
    fn verification(&self, algorithm: Algorithm) -> Option<Verification> {
        Some(match (self, algorithm) {
            (Self::Rsa { .. }, Algorithm::Rs256) => {
                Verification::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256)
            }
            (Self::Rsa { .. }, Algorithm::Rs384) => {
                Verification::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384)
            }
            (Self::Rsa { .. }, Algorithm::Rs512) => {
                Verification::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512)
            }
            (Self::Rsa { .. }, Algorithm::Ps256) => {
                Verification::Rsa(&signature::RSA_PSS_2048_8192_SHA256)
            }
            (Self::Rsa { .. }, Algorithm::Ps384) => {
                Verification::Rsa(&signature::RSA_PSS_2048_8192_SHA384)
            }
            (Self::Rsa { .. }, Algorithm::Ps512) => {
                Verification::Rsa(&signature::RSA_PSS_2048_8192_SHA512)
            }
            (Self::P256(_), Algorithm::Es256) => {
                Verification::Other(&signature::ECDSA_P256_SHA256_FIXED)
            }
            (Self::P384(_), Algorithm::Es384) => {
                Verification::Other(&signature::ECDSA_P384_SHA384_FIXED)
            }
            (Self::Ed25519(_), Algorithm::EdDsa | Algorithm::Ed25519) => {
                Verification::Other(&signature::ED25519)
            }
            _ => return None,
        })
    }

    fn verify(&self, verification: Verification, message: &[u8], signature: &[u8]) -> bool {
        match (self, verification) {
            (Self::Rsa { modulus, exponent }, Verification::Rsa(parameters)) => {
                let key = signature::RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                key.verify(parameters, message, signature).is_ok()
            }
            (Self::P256(key) | Self::P384(key) | Self::Ed25519(key), Verification::Other(how)) => {
                let key = signature::UnparsedPublicKey::new(how, key);
                key.verify(message, signature).is_ok()
            }
            (Self::Rsa { .. }, Verification::Other(_))
            | (Self::P256(_) | Self::P384(_) | Self::Ed25519(_), Verification::Rsa(_)) => false,
        }
    }
}

fn hmac_of(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        Algorithm::Rs256
        | Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512
        | Algorithm::Es256
        | Algorithm::Es384
        | Algorithm::EdDsa
        | Algorithm::Ed25519 => None,
    }
}
