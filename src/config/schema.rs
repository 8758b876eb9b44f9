//! The sections of config.toml with their keys, and the kind of value that each key takes. What the values
//! mean is decided by the plan.

mod access; // `[access]`, and `access` of an endpoint
mod run_as; // `run_as` of an endpoint

use std::path::PathBuf;

use super::field::{Field, NamedTexts, WrongParams};
use super::reader::Reader;
use super::secret::Secret;
use super::source::{At, Span};

pub use access::{
    AccessSection, EndpointAccessSection, JwtKeysSection, JwtSection, KeySection, LimitSection,
    StoredKeysSection,
};
pub use run_as::RunAsSection;

/// `[server]`
#[derive(Debug, Default)]
pub struct ServerSection {
    /// `listen`
    pub listen: Field<String>,
    /// `max_connections`
    pub max_connections: Field<u64>,
    /// `shutdown_timeout`
    pub shutdown_timeout: Field<String>,
    /// `cors`
    pub cors: Field<CorsSection>,
    /// `tls`
    pub tls: Field<TlsSection>,
    /// `h2c`
    pub h2c: Field<bool>,
    /// `hosts`
    pub hosts: Field<Vec<At<String>>>,
    /// `max_pending`
    pub max_pending: Field<String>,
}

/// `tls = { … }`
#[derive(Debug)]
pub struct TlsSection {
    /// `cert`
    pub cert: Field<PathBuf>,
    /// `key`
    pub key: Field<PathBuf>,
}

/// `cors = { … }`
#[derive(Debug)]
pub struct CorsSection {
    /// `origins`
    pub origins: Field<Vec<At<String>>>,
}

/// `[repository]`
#[derive(Debug, Default)]
pub struct RepositorySection {
    /// Its header, if there is one.
    pub span: Option<Span>,
    /// `url`
    pub url: Field<Secret>,
    /// `max_connections`
    pub max_connections: Field<u64>,
    /// `statement_timeout`
    pub statement_timeout: Field<String>,
    /// `max_rows`
    pub max_rows: Field<u64>,
    /// `max_bytes`
    pub max_bytes: Field<String>,
    /// `max_loads_per_second`
    pub max_loads_per_second: Field<u64>,
}

/// `[cache]`
#[derive(Debug, Default)]
pub struct CacheSection {
    /// `max_size`
    pub max_size: Field<String>,
}

/// The keys that `[[endpoint]]` and `[defaults]` share.
#[derive(Debug, Default)]
pub struct PolicySection {
    /// `shape`
    pub shape: Field<String>,
    /// `max_age`
    pub max_age: Field<String>,
    /// `stale_while_revalidate`
    pub stale_while_revalidate: Field<String>,
    /// `stale_if_error`
    pub stale_if_error: Field<String>,
    /// `timeout`
    pub timeout: Field<String>,
    /// `max_rows`
    pub max_rows: Field<u64>,
    /// `max_bytes`
    pub max_bytes: Field<String>,
    /// `max_keys`
    pub max_keys: Field<u64>,
    /// `on_miss`
    pub on_miss: Field<String>,
    /// `unknown_params`
    pub unknown_params: Field<String>,
    /// `cache_control`
    pub cache_control: Field<String>,
    /// `cdn_cache_control`
    pub cdn_cache_control: Field<String>,
}

/// `[[endpoint]]`
#[derive(Debug)]
pub struct EndpointSection {
    /// Its header.
    pub span: Span,
    /// `path`
    pub path: Field<String>,
    /// `summary`
    pub summary: Field<String>,
    /// `sql`, verbatim: nothing is substituted in SQL.
    pub sql: Field<String>,
    /// The text of the file that `sql_file` names, with its place in that file.
    pub sql_file: Field<String>,
    /// Where `sql_file` is written.
    pub sql_file_span: Option<Span>,
    /// `refresh`
    pub refresh: RefreshSection,
    /// `warm`
    pub warm: Field<Vec<At<NamedTexts>>>,
    /// `warm_sql`, verbatim.
    pub warm_sql: Field<String>,
    /// The keys that `[defaults]` may set.
    pub policy: PolicySection,
    /// `access`
    pub access: Field<EndpointAccessSection>,
    /// `run_as`
    pub run_as: Field<RunAsSection>,
    /// `params`
    pub params: Vec<ParamSection>,
    /// What is no declaration in `params`, which has been reported.
    pub wrong_params: Option<WrongParams>,
}

/// `refresh = { … }`
#[derive(Debug, Default)]
pub struct RefreshSection {
    /// The table, if there is one.
    pub span: Option<Span>,
    /// Whether it is not a table or has unknown keys, so that a missing key may only be misspelled.
    pub is_wrong: bool,
    /// `every`
    pub every: Field<String>,
    /// `cron`
    pub cron: Field<String>,
    /// `timezone`
    pub timezone: Field<String>,
    /// `probe`
    pub probe: Field<ProbeSection>,
    /// `notify`
    pub notify: Field<String>,
    /// `ahead`
    pub ahead: Field<bool>,
}

/// `probe = { … }`
#[derive(Debug, Clone)]
pub struct ProbeSection {
    /// `sql`, verbatim.
    pub sql: Field<String>,
    /// `every`
    pub every: Field<String>,
}

/// `params.NAME = { … }`
#[derive(Debug)]
pub struct ParamSection {
    /// `NAME`
    pub name: At<String>,
    /// `type`
    pub declared_type: Field<String>,
    /// `default`: the text of any scalar.
    pub default: Field<String>,
    /// `optional`
    pub optional: Field<bool>,
    /// `minimum`: the text of any scalar.
    pub minimum: Field<String>,
    /// `maximum`: the text of any scalar.
    pub maximum: Field<String>,
    /// `values`: the texts of scalars.
    pub values: Field<Vec<At<String>>>,
    /// `pattern`
    pub pattern: Field<String>,
    /// `max_length`
    pub max_length: Field<u64>,
    /// `description`
    pub description: Field<String>,
    /// `claim`
    pub claim: Field<String>,
}

impl ServerSection {
    pub(super) fn read(section: &mut Reader<'_, '_, '_>) -> Self {
        Self {
            listen: section.string("listen"),
            max_connections: section.count("max_connections"),
            shutdown_timeout: section.duration("shutdown_timeout"),
            cors: section.table("cors", |section| CorsSection {
                origins: section.scalars("origins"),
            }),
            tls: section.table("tls", |section| TlsSection {
                cert: section.path("cert"),
                key: section.path("key"),
            }),
            h2c: section.boolean("h2c"),
            hosts: section.scalars("hosts"),
            max_pending: section.size("max_pending"),
        }
    }
}

impl RepositorySection {
    pub(super) fn read(section: &mut Reader<'_, '_, '_>) -> Self {
        let read = Self {
            span: Some(section.span().clone()),
            url: section.secret("url"),
            max_connections: section.count("max_connections"),
            statement_timeout: section.duration("statement_timeout"),
            max_rows: section.count("max_rows"),
            max_bytes: section.size("max_bytes"),
            max_loads_per_second: section.count("max_loads_per_second"),
        };
        Self {
            url: section.unless_misspelled("url", read.url),
            ..read
        }
    }
}

impl CacheSection {
    pub(super) fn read(section: &mut Reader<'_, '_, '_>) -> Self {
        Self {
            max_size: section.size("max_size"),
        }
    }
}

impl PolicySection {
    pub(super) fn read(section: &mut Reader<'_, '_, '_>) -> Self {
        Self {
            shape: section.string("shape"),
            max_age: section.duration("max_age"),
            stale_while_revalidate: section.duration("stale_while_revalidate"),
            stale_if_error: section.duration("stale_if_error"),
            timeout: section.duration("timeout"),
            max_rows: section.count("max_rows"),
            max_bytes: section.size("max_bytes"),
            max_keys: section.count("max_keys"),
            on_miss: section.string("on_miss"),
            unknown_params: section.string("unknown_params"),
            cache_control: section.string("cache_control"),
            cdn_cache_control: section.string("cdn_cache_control"),
        }
    }
}

impl EndpointSection {
    pub(super) fn read(section: &mut Reader<'_, '_, '_>) -> Self {
        let path = section.string("path");
        let summary = section.string("summary");
        let sql = section.verbatim("sql");
        let (sql_file, sql_file_span) = section.file("sql_file");
        let refresh = match section.table("refresh", RefreshSection::read) {
            Field::Absent => RefreshSection::default(),
            Field::Given(refresh) => refresh.value,
            Field::Wrong => RefreshSection {
                is_wrong: true,
                ..RefreshSection::default()
            },
        };
        let warm = section.named_scalars("warm");
        let warm_sql = section.verbatim("warm_sql");
        let policy = PolicySection::read(section);
        let access = EndpointAccessSection::read(section);
        let run_as = RunAsSection::read(section);
        let (params, wrong_params) = section.named_tables("params", ParamSection::read);
        let span = section.span().clone();
        let path = section.unless_misspelled("path", path);
        let sql = section.unless_misspelled("sql", sql);
        let warm = section.unless_misspelled("warm", warm);
        let warm_sql = section.unless_misspelled("warm_sql", warm_sql);
        Self {
            span,
            path,
            summary,
            sql,
            sql_file,
            sql_file_span,
            refresh,
            warm,
            warm_sql,
            policy,
            access,
            run_as,
            params,
            wrong_params,
        }
    }
}

impl RefreshSection {
    fn read(section: &mut Reader<'_, '_, '_>) -> Self {
        let every = section.duration("every");
        let cron = section.string("cron");
        let timezone = section.string("timezone");
        let probe = section.table("probe", ProbeSection::read);
        let notify = section.string("notify");
        let ahead = section.boolean("ahead");
        Self {
            span: Some(section.span().clone()),
            is_wrong: section.has_unknown_keys(),
            every,
            cron,
            timezone,
            probe,
            notify,
            ahead,
        }
    }
}

impl ProbeSection {
    fn read(section: &mut Reader<'_, '_, '_>) -> Self {
        let sql = section.verbatim("sql");
        let every = section.duration("every");
        Self {
            sql: section.unless_misspelled("sql", sql),
            every: section.unless_misspelled("every", every),
        }
    }
}

impl ParamSection {
    fn read(name: At<String>, section: &mut Reader<'_, '_, '_>) -> Self {
        Self {
            name,
            declared_type: section.string("type"),
            default: section.scalar("default"),
            optional: section.boolean("optional"),
            minimum: section.scalar("minimum"),
            maximum: section.scalar("maximum"),
            values: section.scalars("values"),
            pattern: section.string("pattern"),
            max_length: section.count("max_length"),
            description: section.string("description"),
            claim: section.string("claim"),
        }
    }
}
