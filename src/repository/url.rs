//! libpq's connection settings. Errors never repeat the text, which may contain a password; a part of it is
//! named only once it is certain what it is.

mod options;
mod text;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tokio_postgres::Config;
use tokio_postgres::config::{
    ChannelBinding, Host, LoadBalanceHosts, SslMode, SslNegotiation, TargetSessionAttrs,
};

use super::RepositoryError;
use super::tls::{Demand, Roots, TlsSettings};
use options::Options;

/// How long connecting to one address may take by default: TCP, TLS, authentication and the session's
/// settings together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where Postgres listens unless configured otherwise.
const DEFAULT_PORT: u16 = 5432;

/// TCP keepalive: idle seconds, interval in seconds, number of probes. A dead peer is noticed within a
/// minute, instead of the two hours of the system's default.
const KEEPALIVE: (u32, u32, u32) = (30, 10, 3);

/// A connection ends if sent data is not acknowledged for this many milliseconds (Linux).
const TCP_USER_TIMEOUT: u32 = 15_000;

/// Where to connect, and how.
#[derive(Debug)]
pub(super) struct Target {
    /// The key of `[repository]` that this was parsed from.
    pub key: &'static str,
    /// At least one, in the order of the text.
    pub places: Vec<Place>,
    /// Everything but the hosts, which could not be removed from it again. Its `Debug` hides the password.
    pub config: Config,
    pub tls: TlsSettings,
    /// Whether TLS is required by default, not by the text.
    pub tls_is_default: bool,
    /// The limit on connecting to one address.
    pub connect_timeout: Duration,
}

/// One of the hosts.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Its name, which TLS uses too, or the folder of its socket.
    pub host: Host,
    /// Its address, if the text gives it.
    pub address: Option<IpAddr>,
    pub port: u16,
}

impl Target {
    /// Parses `postgres://…` or `key=value …`, the value of `key` in `[repository]`.
    pub(super) fn parse(key: &'static str, text: &str) -> Result<Self, RepositoryError> {
        read(key, text).map_err(|reason| RepositoryError::Settings { key, reason })
    }

    /// The settings for one of the places, at one of its addresses.
    pub(super) fn config_for(&self, place: &Place, address: Option<IpAddr>) -> Config {
        let mut config = self.config.clone();
        match &place.host {
            Host::Tcp(name) => config.host(name),
            #[cfg(unix)]
            Host::Unix(folder) => config.host_path(folder),
        };
        if let Some(address) = address {
            config.hostaddr(address);
        }
        config.port(place.port);
        config
    }
}

impl Place {
    /// Whether it is on this machine.
    pub(super) fn is_local(&self) -> bool {
        if let Some(address) = self.address {
            return address.is_loopback();
        }
        match &self.host {
            Host::Tcp(name) => {
                let address: Option<IpAddr> = name.parse().ok();
                name == "localhost" || address.is_some_and(|address| address.is_loopback())
            }
            #[cfg(unix)]
            Host::Unix(_) => true,
        }
    }

    /// Whether it is a Unix-domain socket.
    fn is_socket(&self) -> bool {
        match &self.host {
            Host::Tcp(_) => false,
            #[cfg(unix)]
            Host::Unix(_) => self.address.is_none(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.host {
            Host::Tcp(name) if name.contains(':') => write!(f, "[{name}]:{port}"),
            Host::Tcp(name) => write!(f, "{name}:{port}"),
            #[cfg(unix)]
            Host::Unix(folder) => write!(f, "{}/.s.PGSQL.{port}", folder.display()),
        }
    }
}

fn read(key: &'static str, text: &str) -> Result<Target, String> {
    let options = Options::of(text::pairs(text)?)?;
    let places = places(&options)?;
    let mode = options.text("sslmode");
    let (mode, tls) = if places.iter().all(Place::is_socket) {
        // Postgres does not support TLS on sockets; libpq ignores the setting too.
        (SslMode::Disable, tls(&options, Demand::Nothing)?)
    } else {
        let (mode, demand) = demand(&options, mode, &places)?;
        (mode, tls(&options, demand)?)
    };
    check_requirepeer(&options, &places)?;
    if options.text("passfile").is_some() && options.text("password").is_none() {
        return Err("passfile is not supported: write the password itself".to_owned());
    }
    let connect_timeout = options.number("connect_timeout");
    let connect_timeout = connect_timeout.map_or(CONNECT_TIMEOUT, |seconds| {
        Duration::from_secs(seconds.into())
    });
    let mut config = config(&options);
    config.ssl_mode(mode).connect_timeout(connect_timeout);
    Ok(Target {
        key,
        places,
        config,
        tls,
        tls_is_default: options.text("sslmode").is_none() && mode == SslMode::Require,
        connect_timeout,
    })
}

/// The hosts, with their addresses and ports.
fn places(options: &Options) -> Result<Vec<Place>, String> {
    let list = |name| {
        let text = options.text(name).unwrap_or_default();
        text.split(',').filter(|_| !text.is_empty())
    };
    let mut hosts = list("host").map(host).collect::<Result<Vec<_>, _>>()?;
    let addresses = list("hostaddr").map(|address| address.parse::<IpAddr>());
    let addresses = addresses.collect::<Result<Vec<_>, _>>();
    let addresses = addresses.map_err(|_| "hostaddr is not an IP address")?;
    let ports = list("port").map(port).collect::<Result<Vec<_>, _>>()?;
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return Err(
            "it has no host; add one, or a socket's folder, as in postgres:///name?host=/run/postgresql"
                .to_owned(),
        );
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err("it does not have as many addresses as hosts".to_owned());
    }
    if ports.len() > 1 && ports.len() != count {
        return Err("it does not have as many ports as hosts".to_owned());
    }
    if hosts.is_empty() {
        let named = |address: &IpAddr| Host::Tcp(address.to_string());
        hosts = addresses.iter().map(named).collect();
    }
    let place = |(at, host)| Place {
        host,
        address: addresses.get(at).copied(),
        port: *ports.get(at).or(ports.first()).unwrap_or(&DEFAULT_PORT),
    };
    Ok(hosts.into_iter().enumerate().map(place).collect())
}

fn host(text: &str) -> Result<Host, String> {
    #[cfg(unix)]
    if text.starts_with('/') {
        return Ok(Host::Unix(PathBuf::from(text)));
    }
    // Hosts are named in messages, so text that cannot be a host must not pass for one.
    let is_in_a_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '%');
    if text.is_empty() {
        return Err("one of its hosts is empty".to_owned());
    }
    if !text.chars().all(is_in_a_name) {
        return Err(
            "a host contains a character that is not valid in a host name: does the password contain one \
             that must be percent-encoded (in a URL) or quoted (in key=value form)?"
                .to_owned(),
        );
    }
    Ok(Host::Tcp(text.to_owned()))
}

fn port(text: &str) -> Result<u16, String> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    let port = text.trim().parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| {
        "a port is not a number from 1 to 65535; in a URL, does the password contain a : or a / that \
         must be percent-encoded?"
            .to_owned()
    })
}

/// What libpq guarantees for an `sslmode` (its documentation, table 34.1), except that a connection to another
/// machine is encrypted by default.
fn demand(
    options: &Options,
    mode: Option<&str>,
    places: &[Place],
) -> Result<(SslMode, Demand), String> {
    let by_system = options.text("sslrootcert") == Some("system");
    let mode = match mode {
        Some(mode) => mode,
        None if by_system => "verify-full",
        None if options.text("sslnegotiation") == Some("direct") => "require",
        None if places.iter().all(Place::is_local) => "prefer",
        None => "require",
    };
    // Public authorities certify everyone's own name, so a certificate proves nothing unless its name is checked.
    if by_system && mode != "verify-full" {
        return Err(format!(
            "sslmode={mode} is too weak for sslrootcert=system, because any publicly trusted certificate \
             would be accepted: use sslmode=verify-full, or leave it out"
        ));
    }
    let (ssl_mode, demand) = match mode {
        "disable" => (SslMode::Disable, Demand::Nothing),
        "allow" | "prefer" => (SslMode::Prefer, Demand::Encryption),
        "require" => (SslMode::Require, Demand::Authority { needed: false }),
        "verify-ca" => (SslMode::Require, Demand::Authority { needed: true }),
        _ => (SslMode::Require, Demand::Name),
    };
    if options.text("sslnegotiation") == Some("direct") && ssl_mode != SslMode::Require {
        return Err(format!(
            "sslmode={mode} is too weak for sslnegotiation=direct: use require, verify-ca or verify-full"
        ));
    }
    if demand == Demand::Name && options.text("host").is_none() {
        return Err(
            "sslmode=verify-full checks the name in the server's certificate, but there is only hostaddr: \
             add host"
                .to_owned(),
        );
    }
    Ok((ssl_mode, demand))
}

fn tls(options: &Options, demand: Demand) -> Result<TlsSettings, String> {
    let path = |name| options.text(name).map(PathBuf::from);
    Ok(TlsSettings {
        demand,
        roots: match options.text("sslrootcert") {
            Some("system") => Some(Roots::System),
            _ => path("sslrootcert").map(Roots::File),
        },
        revoked: path("sslcrl"),
        revoked_folder: path("sslcrldir"),
        certificate: path("sslcert"),
        key: path("sslkey"),
        sends_certificate: options.text("sslcertmode") != Some("disable"),
        sends_server_name: options.text("sslsni") != Some("0"),
        direct: options.text("sslnegotiation") == Some("direct"),
        versions: versions(options)?,
    })
}

/// The TLS versions to offer; Larder's own minimum is 1.2.
fn versions(options: &Options) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let least = options.text("ssl_min_protocol_version") == Some("TLSv1.3");
    let most = options.text("ssl_max_protocol_version");
    match (least, most) {
        (false, None | Some("TLSv1.3")) => Ok(vec![&TLS13, &TLS12]),
        (false, Some("TLSv1.2")) => Ok(vec![&TLS12]),
        (true, None | Some("TLSv1.3")) => Ok(vec![&TLS13]),
        (true, Some(_)) => {
            Err("ssl_min_protocol_version is above ssl_max_protocol_version".to_owned())
        }
        (false, Some(_)) => Err(
            "ssl_max_protocol_version is below TLSv1.2, the lowest version that Larder supports"
                .to_owned(),
        ),
    }
}

/// Rejects `requirepeer`: the process at the other end of a socket is not known.
fn check_requirepeer(options: &Options, places: &[Place]) -> Result<(), String> {
    if options.text("requirepeer").is_some() && places.iter().any(Place::is_socket) {
        return Err(
            "requirepeer is not supported: restrict write access to the socket's folder instead"
                .to_owned(),
        );
    }
    Ok(())
}

/// The settings for tokio-postgres, without hosts and TLS.
fn config(options: &Options) -> Config {
    let mut config = Config::new();
    if let Some(user) = options.text("user") {
        config.user(user);
    }
    if let Some(password) = options.bytes("password") {
        config.password(password);
    }
    if let Some(database) = options.text("dbname") {
        config.dbname(database);
    }
    if let Some(more) = options.text("options") {
        config.options(more);
    }
    let name = options.text("application_name");
    let name = name.or(options.text("fallback_application_name"));
    config.application_name(name.unwrap_or("larder"));

    let number = |name, default| options.number(name).unwrap_or(default);
    let seconds = |name, default: u32| Duration::from_secs(number(name, default).into());
    config
        .keepalives(options.number("keepalives").is_some() || options.text("keepalives").is_none())
        .keepalives_idle(seconds("keepalives_idle", KEEPALIVE.0))
        .keepalives_interval(seconds("keepalives_interval", KEEPALIVE.1))
        .keepalives_retries(number(
            "keepalives_count",
            number("keepalives_retries", KEEPALIVE.2),
        ));
    let timeout = number("tcp_user_timeout", TCP_USER_TIMEOUT);
    config
        .tcp_user_timeout(Duration::from_millis(timeout.into()))
        .target_session_attrs(match options.text("target_session_attrs") {
            Some("read-write") => TargetSessionAttrs::ReadWrite,
            Some("read-only") => TargetSessionAttrs::ReadOnly,
            _ => TargetSessionAttrs::Any,
        })
        .channel_binding(match options.text("channel_binding") {
            Some("disable") => ChannelBinding::Disable,
            Some("require") => ChannelBinding::Require,
            _ => ChannelBinding::Prefer,
        })
        .load_balance_hosts(match options.text("load_balance_hosts") {
            Some("random") => LoadBalanceHosts::Random,
            _ => LoadBalanceHosts::Disable,
        });
    if options.text("sslnegotiation") == Some("direct") {
        config.ssl_negotiation(SslNegotiation::Direct);
    }
    config
}

#[cfg(test)]
mod tests;
