//! What a token says, and whether that makes it a credential for this server: RFC 7519, 4.1.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::TokenError;
use super::issuer::Issuer;
use super::json::Object;
use crate::access::Identity;
use crate::plan::Claim;

/// The claims of a token.
#[derive(Debug)]
pub(super) struct Claims<'j>(Object<'j>);

impl<'j> Claims<'j> {
    pub(super) fn parse(payload: &'j [u8]) -> Result<Self, TokenError> {
        Object::parse(payload)
            .map(Self)
            .ok_or(TokenError::Malformed)
    }

    /// Who claims to have made it.
    pub(super) fn issuer(&self) -> Option<String> {
        self.0.string("iss")
    }

    /// Whose token this is. Its validity in time is judged at each request.
    pub(super) fn identity(&self, issuer: &Issuer) -> Result<Identity, TokenError> {
        let limits = issuer.limits_of(self.0.string("sub"));
        let (client, issuer) = (issuer.client, &issuer.settings);
        let audience = self.0.get("aud").and_then(texts).unwrap_or_default();
        if !audience.iter().any(|name| issuer.audience.contains(name)) {
            return Err(TokenError::Audience);
        }
        let expires = self.moment("exp").and_then(|found| found.ok_or(()));
        let expires = expires.map_err(|()| TokenError::Expiry)?;
        let not_before = self.moment("nbf").map_err(|()| TokenError::NotBefore)?;
        let issued_at = self.moment("iat").map_err(|()| TokenError::IssuedAt)?;
        let members = self.0.members();
        let claims =
            members.filter_map(|(name, json)| Some((name.to_owned(), Claim::from_json(json)?)));
        Ok(Identity {
            name: issuer.name.clone(),
            client,
            not_before: not_before.max(issued_at),
            expires: Some(expires),
            leeway: issuer.leeway,
            scopes: self.scopes(&issuer.scopes),
            claims: claims.collect(),
            limits,
        })
    }

    /// Text split at spaces, as in RFC 8693, 4.2, or an array of texts. Anything else has no scopes.
    fn scopes(&self, claim: &str) -> Vec<String> {
        let listed = self.0.get(claim).and_then(texts).unwrap_or_default();
        let words = listed.iter().flat_map(|text| text.split(' '));
        let words = words.filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    }

    /// A `NumericDate`, which may have a fraction; moments before 1970 count as 1970.
    fn moment(&self, claim: &str) -> Result<Option<SystemTime>, ()> {
        let Some(json) = self.0.get(claim) else {
            return Ok(None);
        };
        // Every JSON number is a number in Rust's syntax too, and no other JSON text is.
        let seconds: f64 = json.parse().map_err(|_| ())?;
        let since = Duration::try_from_secs_f64(seconds.max(0.0)).map_err(|_| ())?;
        UNIX_EPOCH.checked_add(since).map(Some).ok_or(())
    }
}

/// One text, or an array of texts.
fn texts(json: &str) -> Option<Vec<String>> {
    let one = serde_json::from_str(json).map(|text| vec![text]);
    one.or_else(|_| serde_json::from_str(json)).ok()
}
