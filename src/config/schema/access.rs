//! `[access]`, and what an endpoint says about who may ask.

use std::path::PathBuf;

use crate::config::field::{Field, NamedTexts};
use crate::config::reader::Reader;
use crate::config::secret::Secret;
use crate::config::source::{At, Span};

/// `[access]`
#[derive(Debug, Default)]
pub struct AccessSection {
    /// Its header, if there is one.
    pub span: Option<Span>,
    /// `default`
    pub default: Field<String>,
    /// `trusted_proxies`
    pub trusted_proxies: Field<Vec<At<String>>>,
    /// `limit`
    pub limit: Field<LimitSection>,
    /// Every `[[access.key]]`, in the order of the file; `None` if `key` is not an array of tables, or misspelled.
    pub keys: Option<Vec<KeySection>>,
    /// Every `[[access.jwt]]`, likewise.
    pub issuers: Option<Vec<JwtSection>>,
    /// `[access.keys]`
    pub stored_keys: Field<StoredKeysSection>,
}

/// `[access.keys]`
#[derive(Debug)]
pub struct StoredKeysSection {
    /// `sql`, verbatim.
    pub sql: Field<String>,
    /// `every`
    pub every: Field<String>,
    /// `limit`
    pub limit: Field<LimitSection>,
}

/// `[[access.key]]`
#[derive(Debug)]
pub struct KeySection {
    /// Its header.
    pub span: Span,
    /// `name`
    pub name: Field<String>,
    /// `sha256`
    pub sha256: Field<Vec<At<String>>>,
    /// `expires`
    pub expires: Field<String>,
    /// `scopes`
    pub scopes: Field<Vec<At<String>>>,
    /// `claims`
    pub claims: Field<NamedTexts>,
    /// `limit`
    pub limit: Field<LimitSection>,
}

/// `limit`
#[derive(Debug)]
pub struct LimitSection {
    /// `requests`
    pub requests: Field<String>,
    /// `loads`
    pub loads: Field<String>,
}

/// `[[access.jwt]]`
#[derive(Debug)]
pub struct JwtSection {
    /// Its header.
    pub span: Span,
    /// `name`
    pub name: Field<String>,
    /// `issuer`
    pub issuer: Field<String>,
    /// `audience`
    pub audience: Field<Vec<At<String>>>,
    /// `algorithms`
    pub algorithms: Field<Vec<At<String>>>,
    /// `keys`
    pub keys: Field<JwtKeysSection>,
    /// `leeway`
    pub leeway: Field<String>,
    /// `scopes`
    pub scopes: Field<String>,
    /// `limit`
    pub limit: Field<LimitSection>,
}

/// `keys = { … }` of an issuer.
#[derive(Debug)]
pub struct JwtKeysSection {
    /// `url`
    pub url: Field<String>,
    /// `file`
    pub file: Field<PathBuf>,
    /// `secret`
    pub secret: Field<Secret>,
    /// Whether it has unknown keys, so that a missing one may only be misspelled.
    pub is_wrong: bool,
}

/// `access` of an endpoint.
#[derive(Debug)]
pub enum EndpointAccessSection {
    /// A word, such as `"public"`.
    Word(String),
    /// `{ … }`
    Table {
        /// `scopes`
        scopes: Field<Vec<At<String>>>,
        /// `allow_from`
        allow_from: Field<Vec<At<String>>>,
    },
}

impl AccessSection {
    pub(in crate::config) fn read(section: &mut Reader<'_, '_, '_>) -> Self {
        let stored_keys = section.table("keys", StoredKeysSection::read);
        let default = section.string("default");
        let trusted_proxies = section.scalars("trusted_proxies");
        let limit = section.table("limit", LimitSection::read);
        let keys = section.tables("key", KeySection::read);
        let issuers = section.tables("jwt", JwtSection::read);
        Self {
            span: Some(section.span().clone()),
            default: section.unless_misspelled("default", default),
            trusted_proxies,
            limit,
            keys: keys.filter(|all| !all.is_empty() || !section.is_misspelled("key")),
            issuers: issuers.filter(|all| !all.is_empty() || !section.is_misspelled("jwt")),
            stored_keys: section.unless_misspelled("keys", stored_keys),
        }
    }

    /// One that is there, but cannot be read: nothing in it counts as missing.
    pub(in crate::config) fn unreadable(span: &Span) -> Self {
        Self {
            span: Some(span.clone()),
            default: Field::Wrong,
            ..Self::default()
        }
    }
}

impl KeySection {
    fn read(section: &mut Reader<'_, '_, '_>) -> Self {
        let name = section.string("name");
        let sha256 = section.scalars("sha256");
        let expires = section.scalar("expires");
        let scopes = section.scalars("scopes");
        let claims = section.texts("claims");
        let limit = section.table("limit", LimitSection::read);
        Self {
            span: section.span().clone(),
            name: section.unless_misspelled("name", name),
            sha256: section.unless_misspelled("sha256", sha256),
            expires,
            scopes,
            claims,
            limit,
        }
    }
}

impl StoredKeysSection {
    fn read(section: &mut Reader<'_, '_, '_>) -> Self {
        let sql = section.verbatim("sql");
        let every = section.duration("every");
        Self {
            sql: section.unless_misspelled("sql", sql),
            every: section.unless_misspelled("every", every),
            limit: section.table("limit", LimitSection::read),
        }
    }
}

impl LimitSection {
    fn read(section: &mut Reader<'_, '_, '_>) -> Self {
        let requests = section.string("requests");
        let loads = section.string("loads");
        Self {
            requests: section.unless_misspelled("requests", requests),
            loads: section.unless_misspelled("loads", loads),
        }
    }
}

impl JwtSection {
    fn read(section: &mut Reader<'_, '_, '_>) -> Self {
        let name = section.string("name");
        let issuer = section.string("issuer");
        let audience = section.scalars("audience");
        let algorithms = section.scalars("algorithms");
        let keys = section.table("keys", JwtKeysSection::read);
        let leeway = section.duration("leeway");
        let scopes = section.string("scopes");
        let limit = section.table("limit", LimitSection::read);
        Self {
            span: section.span().clone(),
            name,
            issuer: section.unless_misspelled("issuer", issuer),
            audience: section.unless_misspelled("audience", audience),
            algorithms: section.unless_misspelled("algorithms", algorithms),
            keys: section.unless_misspelled("keys", keys),
            leeway,
            scopes,
            limit,
        }
    }
}

impl JwtKeysSection {
    fn read(section: &mut Reader<'_, '_, '_>) -> Self {
        Self {
            url: section.string("url"),
            file: section.path("file"),
            secret: section.secret("secret"),
            is_wrong: section.has_unknown_keys(),
        }
    }
}

impl EndpointAccessSection {
    pub(super) fn read(section: &mut Reader<'_, '_, '_>) -> Field<Self> {
        section.word_or_table("access", Self::Word, |table| Self::Table {
            scopes: table.scalars("scopes"),
            allow_from: table.scalars("allow_from"),
        })
    }
}
