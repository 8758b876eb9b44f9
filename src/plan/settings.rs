//! Settings of the whole server, rather than of one endpoint.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{At, Secret};

/// `[server]`
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Where to listen.
    pub listen: Listen,
    /// The most client connections open at once.
    pub max_connections: usize,
    /// How long running requests may take after a shutdown begins.
    pub shutdown_timeout: Duration,
    /// Whose pages may read answers in a browser.
    pub cors: Option<Origins>,
    /// The certificate and key; `None` for plain HTTP.
    pub tls: Option<TlsSettings>,
    /// Whether clients may use HTTP/2 without TLS, by prior knowledge: RFC 9113, 3.3.
    pub h2c: bool,
    /// The host names that requests may use; `None` for any.
    pub hosts: Option<Vec<HostName>>,
    /// The most bytes held in memory only because clients have not received them yet.
    pub max_pending: u64,
}

/// A host as `Host` and `:authority` name it, with or without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName {
    /// In lower case, without a trailing dot; IPv6 addresses are in brackets.
    pub host: String,
    /// `None` for any port.
    pub port: Option<u16>,
}

/// Where to listen. A name is resolved when the listener starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address of this machine.
    Address(SocketAddr),
    /// A port on all addresses of this machine.
    Everywhere(u16),
    /// A host name, and a port.
    Name(String, u16),
}

impl Listen {
    /// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`; `:8080` and `*:8080` for all addresses.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_number)?;
        match host {
            "" | "*" => Some(Self::Everywhere(port)),
            name => is_host_name(name).then(|| Self::Name(name.to_owned(), port)),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Everywhere(port) => write!(f, "*:{port}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// RFC 1123, 2.1, with the underscores of container networks. A last label of digits would be a mistyped
/// address.
fn is_host_name(name: &str) -> bool {
    let is_of_label = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && !label.starts_with('-') && label.bytes().all(is_of_label)
    };
    let mut labels = name.strip_suffix('.').unwrap_or(name).rsplit('.');
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= 253
        && labels.clone().all(is_label)
        && labels.next().is_some_and(|last| !is_number(last))
}

/// The PEM files of `tls`, and where they are named.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// The certificate chain, the server's own first.
    pub(super) cert: At<PathBuf>,
    /// The private key.
    pub(super) key: At<PathBuf>,
}

/// One of the files of `tls`.
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

/// Origins of web pages as browsers send them (RFC 6454, 6.2): a scheme, a host, and a port unless it is the
/// scheme's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Any origin.
    Any,
    /// Only these.
    Named(Vec<String>),
}

/// `[repository]`
#[derive(Debug, Clone)]
pub struct RepositorySettings {
    /// A libpq-style URL or key=value string; it may hold a password.
    pub url: Secret,
    /// The most connections to Postgres at once.
    pub max_connections: usize,
    /// Postgres cancels statements that run longer.
    pub statement_timeout: Duration,
    /// The most loads per second that clients may cause, over all endpoints.
    pub max_loads_per_second: u32,
}

/// `[cache]`
#[derive(Debug, Clone)]
pub struct CacheSettings {
    /// The most bytes held for entries of endpoints with parameters: bodies, keys and overhead.
    pub max_size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_names_and_bare_ports_are_accepted() {
        let name = |name: &str, port| Some(Listen::Name(name.to_owned(), port));
        for (text, expected) in [
            ("localhost:8080", name("localhost", 8080)),
            ("api.internal.example:80", name("api.internal.example", 80)),
            ("my_container:0", name("my_container", 0)),
            ("localhost.:1", name("localhost.", 1)),
            (":8080", Some(Listen::Everywhere(8080))),
            ("*:8080", Some(Listen::Everywhere(8080))),
        ] {
            assert_eq!(Listen::parse(text), expected, "{text}");
        }
        for text in ["127.0.0.1:8080", "0.0.0.0:0", "[::]:8080", "[::1]:65535"] {
            let address = Listen::parse(text).unwrap();
            assert!(matches!(address, Listen::Address(_)), "{text}");
            assert_eq!(address.to_string(), text);
        }
        for text in [
            "",
            ":",
            "8080",
            "localhost",
            "localhost:",
            "localhost:http",
            "localhost:+80",
            "localhost:65536",
            "127.0.0:8080",
            "256.0.0.1:8080",
            "::1:8080",
            "http://localhost:8080",
            "-a:80",
            "a..b:80",
            "a b:80",
            " localhost:80",
            "larder/x:80",
        ] {
            assert_eq!(Listen::parse(text), None, "{text}");
        }
    }
}
