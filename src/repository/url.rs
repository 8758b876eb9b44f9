//! libpq-style connection settings. tokio-postgres reads most of them; the TLS ones it does not know,
//! or knows differently, are taken out here first. Says what is wrong without repeating the text,
//! which may hold a password.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::RepositoryError;
use super::tls::{Roots, Trust};

/// How long establishing a connection may take where the url does not say: name look-up, TCP, TLS
/// and authentication together.
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
    /// For tokio-postgres. Its `Debug` hides the password.
    pub config: Config,
    /// How much of the server's certificate is believed.
    pub trust: Trust,
    /// Whether TLS is demanded without the text saying so.
    pub tls_is_default: bool,
    /// The limit on establishing a connection.
    pub connect_timeout: Duration,
}

impl Target {
    /// Reads `postgres://…` or `key=value …`.
    pub(super) fn parse(text: &str) -> Result<Self, RepositoryError> {
        if text.trim().is_empty() {
            return Err(settings("it is empty"));
        }
        let (rest, tls) = split(text)?;
        let mut config: Config = rest
            .parse()
            .map_err(|error| settings(&super::error::chain(&error)))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(settings(
                "it names no host; write one, or a socket's folder as in postgres:///name?host=/run/postgresql",
            ));
        }
        let is_default = tls.sslmode.is_none();
        let (mut mode, mut trust) = tls.resolve(is_local(&config))?;
        if is_socket(&config) {
            // Postgres speaks no TLS there, so that libpq as well ignores what is said of it.
            (mode, trust) = (SslMode::Disable, Trust::Anyone);
        }
        if config.get_hosts().is_empty() {
            // An address without a name is its own, to TLS.
            for address in config.get_hostaddrs().to_vec() {
                config.host(address.to_string());
            }
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
            config,
            trust,
            tls_is_default: is_default && mode == SslMode::Require,
            connect_timeout,
        })
    }

    /// The addresses that are tried, for the operator.
    pub(super) fn place(&self) -> String {
        let ports = self.config.get_ports();
        let hosts = self.config.get_hosts().iter().enumerate();
        let places = hosts.map(|(index, host)| {
            let port = ports.get(index).or(ports.first()).unwrap_or(&DEFAULT_PORT);
            match host {
                Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
                Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                Host::Unix(folder) => format!("{}/.s.PGSQL.{port}", folder.display()),
            }
        });
        places.collect::<Vec<_>>().join(", ")
    }
}

fn settings(reason: &str) -> RepositoryError {
    RepositoryError::Settings {
        reason: reason.to_owned(),
    }
}

/// Whether nothing leaves the machine.
fn is_local(config: &Config) -> bool {
    let local_address = |address: &std::net::IpAddr| address.is_loopback();
    if !config.get_hostaddrs().is_empty() {
        return config.get_hostaddrs().iter().all(local_address);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address| local_address(&address))
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    })
}

/// Whether it is reached through a socket's file alone.
fn is_socket(config: &Config) -> bool {
    let is_file = |host: &Host| match host {
        Host::Tcp(_) => false,
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    config.get_hostaddrs().is_empty() && config.get_hosts().iter().all(is_file)
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

/// The text without our settings, and our settings.
fn split(text: &str) -> Result<(String, TlsSettings), RepositoryError> {
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

fn split_url(url: &str) -> Result<(String, TlsSettings), RepositoryError> {
    let mut tls = TlsSettings::default();
    let Some((base, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), tls));
    };
    let mut kept = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| settings("a setting behind the `?` has no value"))?;
        let value = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| settings("a setting behind the `?` is not UTF-8"))?;
        if !tls.take(key, &value)? {
            kept.push(pair);
        }
    }
    let rest = if kept.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", kept.join("&"))
    };
    Ok((rest, tls))
}

/// `key = value` pairs, values perhaps in single quotes with `\'` and `\\` inside.
fn split_pairs(text: &str) -> Result<(String, TlsSettings), RepositoryError> {
    let mut tls = TlsSettings::default();
    let mut kept = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = rest
            .split_once('=')
            .ok_or_else(|| settings("it is neither a URL nor key=value pairs"))?;
        let (value, after) = take_value(after.trim_start())?;
        let key = key.trim();
        if !tls.take(key, &value)? {
            let escaped = value.replace('\\', "\\\\").replace('\'', "\\'");
            kept.push_str(&format!("{key}='{escaped}' "));
        }
        rest = after.trim_start();
    }
    Ok((kept, tls))
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
        let place = |text| Target::parse(text).unwrap().place();
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
    }

    #[test]
    fn a_wrong_url_is_explained_without_its_password() {
        for text in [
            "postgres://u:hunter2@h/d?sslmode=sometimes",
            "postgres://u:hunter2@h/d?sslcert=x",
            "postgres://u:hunter2@h:port/d",
            "postgres://u:hunter2@h/d?nonsense=1",
            "mysql://u:hunter2@h/d",
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
