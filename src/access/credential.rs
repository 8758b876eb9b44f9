//! Where a request carries its credential: `Authorization: Bearer …` (RFC 6750, 2.1) or `X-API-Key: …`, and
//! never the URL, which ends up in logs and histories.

/// A credential as it is presented. It is never printed.
#[derive(Clone, Copy)]
pub struct Credential<'r>(&'r str);

/// Why what was presented is not a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// There are two.
    #[error("the request has more than one credential")]
    Several,
    /// It is not `Bearer` and a token.
    #[error("`Authorization` must be `Bearer` and a key or a token")]
    Malformed,
}

impl<'r> Credential<'r> {
    /// The credential in the values of `Authorization` and `X-API-Key`, if there is one.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn read(
        authorization: impl Iterator<Item = &'r [u8]>,
        api_key: impl Iterator<Item = &'r [u8]>,
    ) -> Result<Option<Self>, CredentialError> {
        let bearers = authorization.map(|value| bearer(value).ok_or(CredentialError::Malformed));
        let mut all = bearers.chain(api_key.map(Ok));
        let Some(first) = all.next() else {
            return Ok(None);
        };
        if all.next().is_some() {
            return Err(CredentialError::Several);
        }
        let text = first?;
        let is_token = !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte));
        let text = std::str::from_utf8(text).ok().filter(|_| is_token);
        text.map(|text| Some(Self(text)))
            .ok_or(CredentialError::Malformed)
    }

    /// The key or the token.
    pub fn text(&self) -> &'r str {
        self.0
    }

    /// Whether it may be a token of an issuer, which has three parts.
    pub(super) fn is_token(&self) -> bool {
        self.0.bytes().filter(|byte| *byte == b'.').count() == 2
    }
}

/// What follows the scheme, whose name may be written in any case: RFC 9110, 11.1.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| rest.trim_ascii())
}

/// RFC 6750, 2.1: `b64token`.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}
