//! Why a token is refused.

/// Why a token is refused. The texts are for the client, in `error_description` too: they have no quotes and
/// nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenError {
    /// It is not a compact JWS with a JSON object as its header and another as its claims.
    Malformed,
    /// It is longer than any token that is verified.
    TooLong,
    /// `crit` names extensions, of which none is supported.
    Extension,
    /// `typ` says that it is a token of another kind.
    Type,
    /// `iss` is missing, is not text, or names an issuer that is not declared.
    Issuer,
    /// `alg` is not one that the issuer signs with.
    Algorithm,
    /// The issuer has no key that fits.
    Key,
    /// The issuer has more keys that fit than are tried.
    ManyKeys,
    /// It was not signed with the key.
    Signature,
    /// `aud` is missing, malformed, or names others.
    Audience,
    /// `exp` is missing, or is not a moment.
    Expiry,
    /// `nbf` is not a moment.
    NotBefore,
    /// `iat` is not a moment.
    IssuedAt,
}

impl TokenError {
    /// One sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => {
                "The credential is not a known key, and not a signed JSON Web Token."
            }
            Self::TooLong => "The token is longer than 16 KiB.",
            Self::Extension => "The token demands an extension with `crit`.",
            Self::Type => "The token is of another type than JWT or at+jwt.",
            Self::Issuer => "The token has no `iss` that names a trusted issuer.",
            Self::Algorithm => "The token is signed with an algorithm that is not accepted.",
            Self::Key => "The token is signed with a key that its issuer does not list.",
            Self::ManyKeys => {
                "The token does not say which of the keys of its issuer it is signed with."
            }
            Self::Signature => "The signature of the token is wrong.",
            Self::Audience => "The token has no `aud` that names this service.",
            Self::Expiry => "The token has no valid `exp`.",
            Self::NotBefore => "The token has no valid `nbf`.",
            Self::IssuedAt => "The token has no valid `iat`.",
        }
    }
}
