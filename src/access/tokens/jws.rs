//! A token as it arrives: the compact serialization of RFC 7515, 3.1.
//!
//! Nothing in its header is followed: `jku`, `x5u`, `jwk` and `x5c` would let the token choose the key that it
//! is verified with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::TokenError;
use super::json::Object;
use crate::plan::Algorithm;

/// Everything of a token is held in memory, and hashed, before its signature is known to be good.
const LENGTH_MAX: usize = 16 * 1024;

/// A token whose signature has not been verified.
#[derive(Debug)]
pub(super) struct Jws<'t> {
    /// What is signed.
    pub(super) signed: &'t str,
    pub(super) signature: Vec<u8>,
    pub(super) algorithm: Algorithm,
    /// The name of the key that it claims to be signed with.
    pub(super) key: Option<String>,
    /// The JSON text of the claims.
    pub(super) payload: Vec<u8>,
}

impl<'t> Jws<'t> {
    pub(super) fn parse(token: &'t str) -> Result<Self, TokenError> {
        if token.len() > LENGTH_MAX {
            return Err(TokenError::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        // A dot in the payload is not base64, so there are three parts.
        let decode = |part| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| TokenError::Malformed)
        };
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let header = Object::parse(&header).ok_or(TokenError::Malformed)?;
        if header.get("crit").is_some() {
            return Err(TokenError::Extension);
        }
        check_type(&header)?;
        let algorithm = header
            .string("alg")
            .and_then(|name| Algorithm::named(&name));
        let key = match header.get("kid") {
            None => None,
            Some(_) => Some(header.string("kid").ok_or(TokenError::Malformed)?),
        };
        Ok(Self {
            signed,
            signature,
            algorithm: algorithm.ok_or(TokenError::Algorithm)?,
            key,
            payload,
        })
    }
}

/// Tokens for other purposes, such as `logout+jwt` or `dpop+jwt`, are no credentials: RFC 8725, 3.11.
fn check_type(header: &Object<'_>) -> Result<(), TokenError> {
    if header.get("typ").is_none() {
        return Ok(());
    }
    let name = header.string("typ").ok_or(TokenError::Malformed)?;
    let name = name.to_ascii_lowercase();
    // RFC 7515, 4.1.9: `application/` may be left out.
    match name.strip_prefix("application/").unwrap_or(&name) {
        "jwt" | "at+jwt" => Ok(()),
        _ => Err(TokenError::Type),
    }
}
