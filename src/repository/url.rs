//! libpq-style connection settings. tokio-postgres reads most of them; the TLS ones it does not know,
//! or knows differently, are taken out here first. Says what is wrong without repeating the text,
//! which may hold a password.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::RepositoryError;
use super::tls::{Roots, Trust};

/// How long connecting to one address may take where the url does not say: TCP, TLS, authentication
/// and the session's settings together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where Postgres listens unless told otherwise.
const DEFAULT_PORT: u16 = 5432;

/// A silent peer is probed after this long, this often, this many times: a dead one is noticed
/// within a minute rather than within the two hours of the system's default.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// What was sent and not acknowledged for this long ends the connection (Linux).
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

/// Where to connect, and how.
#[derive(Debug)]
pub(super) struct Target {
    /// At least one, in the order of the text.
    pub places: Vec<Place>,
    /// For tokio-postgres: everything but the hosts, of which it can not be rid again. Its `Debug`
    /// hides the password.
    pub config: Config,
    /// How much of the server's certificate is believed.
    pub trust: Trust,
    /// Whether TLS is demanded without the text saying so.
    pub tls_is_default: bool,
    /// The limit on connecting to one address.
    pub connect_timeout: Duration,
}

/// One of the hosts.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Its name, for TLS as well, or the folder of its socket.
    pub host: Host,
    /// Its address, where the text says it.
    pub address: Option<IpAddr>,
    pub port: u16,
}

impl Target {
    /// Reads `postgres://…` or `key=value …`.
    pub(super) fn parse(text: &str) -> Result<Self, RepositoryError> {
        if text.trim().is_empty() {
            return Err(settings("it is empty"));
        }
        let Split {
            whole,
            hostless,
            tls,
        } = split(text)?;
        let whole = config(&whole)?;
        let mut config = config(&hostless)?;
        let places = places(&whole)?;
        let is_default = tls.sslmode.is_none();
        let (mut mode, mut trust) = tls.resolve(places.iter().all(Place::is_local))?;
        if places.iter().all(Place::is_socket) {
            // Postgres speaks no TLS there, so that libpq as well ignores what is said of it.
            (mode, trust) = (SslMode::Disable, Trust::Anyone);
        }
        let connect_timeout = config
            .get_connect_timeout()
            .copied()
            .unwrap_or(CONNECT_TIMEOUT);
        config.ssl_mode(mode).connect_timeout(connect_timeout);
        if config.get_application_name().is_none() {
            config.application_name("larder");
        }
        if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
            config.keepalives_idle(KEEPALIVE.0);
        }
        if config.get_keepalives_interval().is_none() {
            config.keepalives_interval(KEEPALIVE.1);
        }
        if config.get_keepalives_retries().is_none() {
            config.keepalives_retries(KEEPALIVE.2);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(UNACKNOWLEDGED);
        }
        Ok(Self {
            places,
            config,
            trust,
            tls_is_default: is_default && mode == SslMode::Require,
            connect_timeout,
        })
    }

    /// For tokio-postgres: one of the places, at one of its addresses.
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
    /// Whether nothing leaves the machine.
    fn is_local(&self) -> bool {
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

    /// Whether it is reached through a socket's file.
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

fn config(text: &str) -> Result<Config, RepositoryError> {
    text.parse()
        .map_err(|error| settings(&super::error::chain(&error)))
}

/// The hosts, with their addresses and ports.
fn places(config: &Config) -> Result<Vec<Place>, RepositoryError> {
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let ports = config.get_ports();
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return Err(settings(
            "it names no host; write one, or a socket's folder as in postgres:///name?host=/run/postgresql",
        ));
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(settings("it has not as many addresses as hosts"));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(settings("it has not as many ports as hosts"));
    }
    let hosts = if hosts.is_empty() {
        // An address without a name is its own, to TLS.
        let named = |address: &IpAddr| Host::Tcp(address.to_string());
        addresses.iter().map(named).collect()
    } else {
        hosts.to_vec()
    };
    let place = |(at, host)| Place {
        host,
        address: addresses.get(at).copied(),
        port: *ports.get(at).or(ports.first()).unwrap_or(&DEFAULT_PORT),
    };
    Ok(hosts.into_iter().enumerate().map(place).collect())
}

fn settings(reason: &str) -> RepositoryError {
    RepositoryError::Settings {
        reason: reason.to_owned(),
    }
}

/// The settings taken out for ourselves.
#[derive(Debug, Default)]
struct TlsSettings {
    sslmode: Option<String>,
    sslrootcert: Option<String>,
}

impl TlsSettings {
    /// libpq's meaning of `sslmode` (its documentation, table 34.1), except that a server elsewhere
    /// is not talked to in the clear unless the operator says so.
    fn resolve(self, local: bool) -> Result<(SslMode, Trust), RepositoryError> {
        let roots = match self.sslrootcert.as_deref() {
            None => None,
            Some("system") => Some(Roots::System),
            Some(path) => Some(Roots::File(PathBuf::from(path))),
        };
        let mode = self
            .sslmode
            .as_deref()
            .unwrap_or(if local { "prefer" } else { "require" });
        Ok(match mode {
            "disable" => (SslMode::Disable, Trust::Anyone),
            "allow" | "prefer" => (SslMode::Prefer, Trust::Anyone),
            // As in libpq: with a root certificate at hand, `require` verifies like `verify-ca`.
            "require" => (
                SslMode::Require,
                roots.map_or(Trust::Anyone, Trust::SignedBy),
            ),
            "verify-ca" => (
                SslMode::Require,
                Trust::SignedBy(roots.unwrap_or(Roots::System)),
            ),
            "verify-full" => (
                SslMode::Require,
                Trust::NamedBy(roots.unwrap_or(Roots::System)),
            ),
            other => {
                return Err(settings(&format!(
                    "sslmode={} is none of disable, allow, prefer, require, verify-ca, verify-full",
                    other.escape_debug()
                )));
            }
        })
    }

    /// Keeps the setting if it is one of ours.
    fn take(&mut self, key: &str, value: &str) -> Result<bool, RepositoryError> {
        match key {
            "sslmode" => self.sslmode = Some(value.to_owned()),
            "sslrootcert" => self.sslrootcert = Some(value.to_owned()),
            "sslcert" | "sslkey" | "sslpassword" | "sslcrl" | "passfile" | "service"
            | "gssencmode" | "krbsrvname" | "requirepeer" => {
                return Err(settings(&format!("{key} is not supported; leave it out")));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The text in parts.
#[derive(Debug, Default)]
struct Split {
    /// Without our settings.
    whole: String,
    /// Without our settings and without the hosts, their addresses and their ports.
    hostless: String,
    /// Our settings.
    tls: TlsSettings,
}

fn split(text: &str) -> Result<Split, RepositoryError> {
    let text = text.trim();
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        split_url(text)
    } else if text.contains("://") {
        Err(settings(
            "its scheme is neither postgres:// nor postgresql://",
        ))
    } else {
        split_pairs(text)
    }
}

fn is_of_hosts(key: &str) -> bool {
    matches!(key, "host" | "hostaddr" | "port")
}

fn split_url(url: &str) -> Result<Split, RepositoryError> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut split = Split::default();
    let (mut whole, mut hostless) = (Vec::new(), Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| settings("a setting behind the `?` has no value"))?;
        let value = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| settings("a setting behind the `?` is not UTF-8"))?;
        if split.tls.take(key, &value)? {
            continue;
        }
        whole.push(pair);
        if !is_of_hosts(key) {
            hostless.push(pair);
        }
    }
    split.whole = join(base, &whole);
    split.hostless = join(&without_hosts(base), &hostless);
    Ok(split)
}

fn join(base: &str, query: &[&str]) -> String {
    if query.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", query.join("&"))
    }
}

/// `postgres://user@/name` of `postgres://user@host:port,host:port/name`.
fn without_hosts(base: &str) -> String {
    let from = base.find("://").map_or(0, |at| at + 3);
    let from = base[from..].find('@').map_or(from, |at| from + at + 1);
    let to = base[from..].find('/').map_or(base.len(), |at| from + at);
    format!("{}{}", &base[..from], &base[to..])
}

/// `key = value` pairs, values perhaps in single quotes with `\'` and `\\` inside.
fn split_pairs(text: &str) -> Result<Split, RepositoryError> {
    let mut split = Split::default();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = rest
            .split_once('=')
            .ok_or_else(|| settings("it is neither a URL nor key=value pairs"))?;
        let (value, after) = take_value(after.trim_start())?;
        let key = key.trim();
        // tokio-postgres repeats a key that it does not know, and this could be anything.
        if !key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            return Err(settings("it is neither a URL nor key=value pairs"));
        }
        if !split.tls.take(key, &value)? {
            let escaped = value.replace('\\', "\\\\").replace('\'', "\\'");
            let pair = format!("{key}='{escaped}' ");
            split.whole.push_str(&pair);
            if !is_of_hosts(key) {
                split.hostless.push_str(&pair);
            }
        }
        rest = after.trim_start();
    }
    Ok(split)
}

fn take_value(text: &str) -> Result<(String, &str), RepositoryError> {
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some((_, escaped)) => value.push(escaped),
                None => return Err(settings("it ends in a lone backslash")),
            },
            '\'' if quoted => return Ok((value, &body[at + 1..])),
            c if !quoted && c.is_whitespace() => return Ok((value, &body[at..])),
            c => value.push(c),
        }
    }
    if quoted {
        Err(settings("a quoted value does not end"))
    } else {
        Ok((value, ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect_mode: SslMode, expect_trust: &str) {
        let target = Target::parse(text).unwrap();
        assert_eq!(target.config.get_ssl_mode(), expect_mode, "{text}");
        assert_eq!(format!("{:?}", target.trust), expect_trust, "{text}");
    }

    fn refused(text: &str) -> String {
        Target::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn sslmode_means_what_libpq_means() {
        check("postgres://h/d?sslmode=disable", SslMode::Disable, "Anyone");
        check("postgres://h/d?sslmode=prefer", SslMode::Prefer, "Anyone");
        check("postgres://h/d?sslmode=require", SslMode::Require, "Anyone");
        check(
            "postgres://h/d?sslmode=require&sslrootcert=%2Fca%20one.pem",
            SslMode::Require,
            r#"SignedBy(File("/ca one.pem"))"#,
        );
        check(
            "postgres://h/d?sslmode=verify-full",
            SslMode::Require,
            "NamedBy(System)",
        );
        check(
            "host=h dbname=d sslmode=verify-full sslrootcert='/a b.pem'",
            SslMode::Require,
            r#"NamedBy(File("/a b.pem"))"#,
        );
    }

    #[test]
    fn without_sslmode_only_a_server_on_this_machine_is_talked_to_in_the_clear() {
        check("postgres://localhost/d", SslMode::Prefer, "Anyone");
        check("postgres://127.0.0.1/d", SslMode::Prefer, "Anyone");
        check(
            "postgres:///d?host=/run/postgresql&sslmode=verify-full",
            SslMode::Disable,
            "Anyone",
        );
        check("postgres://db.example/d", SslMode::Require, "Anyone");
    }

    #[test]
    fn other_settings_reach_tokio_postgres_unchanged() {
        let target = Target::parse(
            r"host=/run/x user=u password='it\'s \\ here' dbname=d options='-c search_path=s' sslmode=disable",
        )
        .unwrap();
        assert_eq!(target.config.get_password(), Some(&b"it's \\ here"[..]));
        assert_eq!(target.config.get_options(), Some("-c search_path=s"));
        assert_eq!(target.config.get_application_name(), Some("larder"));
        let target =
            Target::parse("postgres://u@h/d?application_name=mine&connect_timeout=2").unwrap();
        assert_eq!(target.config.get_application_name(), Some("mine"));
        assert_eq!(target.connect_timeout, Duration::from_secs(2));
    }

    #[test]
    fn the_operator_is_told_where_it_connects_to() {
        let place = |text| {
            let places = Target::parse(text).unwrap().places;
            let places: Vec<String> = places.iter().map(Place::to_string).collect();
            places.join(", ")
        };
        assert_eq!(place("postgres://u:hunter2@h/d"), "h:5432");
        assert_eq!(
            place("postgres://u@a,b:2,[::1]:3/d"),
            "a:5432, b:2, [::1]:3"
        );
        assert_eq!(
            place("postgres:///d?host=/run/x&port=7"),
            "/run/x/.s.PGSQL.7"
        );
        assert_eq!(place("hostaddr=10.0.0.1 dbname=d"), "10.0.0.1:5432");
        assert_eq!(place("host=a,b port=7 dbname=d"), "a:7, b:7");
        assert_eq!(place("host=a,b,c port=,2,3"), "a:5432, b:2, c:3");
    }

    #[test]
    fn one_of_several_hosts_is_connected_to_with_every_other_setting() {
        for (text, alone) in [
            (
                "postgres://u:p%40ss@a:1,b:2/d?target_session_attrs=read-write&connect_timeout=3",
                "postgres://u:p%40ss@b:2/d?target_session_attrs=read-write&connect_timeout=3",
            ),
            (
                "postgres://u@a,b:2?hostaddr=::1,::2",
                "postgres://u@b:2?hostaddr=::2",
            ),
            (
                "postgres:///d?host=a&host=b&port=1,2&user=u",
                "postgres:///d?host=b&port=2&user=u",
            ),
            (
                "host=a,b hostaddr=::1,::2 port=1,2 user=u options='-c x=\\'y\\'' load_balance_hosts=random",
                "host=b hostaddr=::2 port=2 user=u options='-c x=\\'y\\'' load_balance_hosts=random",
            ),
            (
                "host=a,/b port=1,2 user=u keepalives=0",
                "host=/b port=2 user=u keepalives=0 sslmode=prefer",
            ),
        ] {
            let of_second = |text| {
                let target = Target::parse(text).unwrap();
                let place = target.places.last().unwrap();
                target.config_for(place, place.address)
            };
            let mut alone = of_second(alone);
            let of_all = of_second(text);
            alone.ssl_mode(of_all.get_ssl_mode());
            assert_eq!(of_all, alone, "{text}");
            assert_eq!(of_all.get_hosts().len(), 1, "{text}");
            assert_eq!(of_all.get_ports(), [2], "{text}");
        }
    }

    #[test]
    fn a_wrong_url_is_explained_without_its_password() {
        for text in [
            "postgres://u:hunter2@h/d?sslmode=sometimes",
            "postgres://u:hunter2@h/d?sslcert=x",
            "postgres://u:hunter2@h:port/d",
            "postgres://u:hunter2@h/d?nonsense=1",
            "postgres://u:hunter2@a,b,c/d?hostaddr=::1",
            "host=a,b,c port=1,2 password=hunter2",
            "mysql://u:hunter2@h/d",
            "postgres:/u:hunter2@h/d?connect_timeout=1",
            "password=hunter2 host",
            "password='hunter2",
            "",
        ] {
            let text = refused(text);
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert!(refused("postgres://h/d?sslmode=sometimes").contains("verify-full"));
    }
}
