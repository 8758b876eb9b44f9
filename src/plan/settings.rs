//! What holds for the whole server rather than for one endpoint.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{At, Secret};

/// `[server]`
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The most client connections open at once.
    pub max_connections: usize,
    /// How long running requests may take once a shutdown began.
    pub shutdown_timeout: Duration,
    /// Whose pages may read answers in a browser.
    pub cors: Option<Origins>,
    /// What to speak TLS with; without it, nobody does.
    pub tls: Option<TlsSettings>,
    /// Whether clients may begin with HTTP/2 where there is no TLS to agree on it: RFC 9113, 3.3.
    pub h2c: bool,
}

/// PEM files, and where they are named.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// The certificate, then those that lead from it to one that clients know.
    pub(super) cert: At<PathBuf>,
    /// The certificate's private key.
    pub(super) key: At<PathBuf>,
}

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFile {
    /// `cert`
    Cert,
    /// `key`
    Key,
}

impl TlsSettings {
    /// The file, and where it is named.
    pub(super) fn named(&self, file: TlsFile) -> &At<PathBuf> {
        match file {
            TlsFile::Cert => &self.cert,
            TlsFile::Key => &self.key,
        }
    }

    /// Where the file is.
    pub fn path(&self, file: TlsFile) -> &Path {
        &self.named(file).value
    }
}

/// Origins of web pages, as browsers name them (RFC 6454, 6.2): a scheme, a host, a port unless it
/// is the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Every page's.
    Any,
    /// These alone.
    Named(Vec<String>),
}

/// `[repository]`
#[derive(Debug, Clone)]
pub struct RepositorySettings {
    /// A libpq-style URL or key=value string; it may hold a password.
    pub url: Secret,
    /// The most connections to Postgres at once.
    pub max_connections: usize,
    /// Postgres ends a statement that runs longer.
    pub statement_timeout: Duration,
    /// The most loads a second that clients may cause, over all endpoints.
    pub max_loads_per_second: u32,
}

/// `[cache]`
#[derive(Debug, Clone)]
pub struct CacheSettings {
    /// The most bytes held for entries of endpoints with parameters: bodies, keys and overhead.
    pub max_size: u64,
}
