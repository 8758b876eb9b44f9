//! What connection URLs mean, and which are rejected.

mod secrets; // no error repeats a part of a password

use super::*;

fn target(text: &str) -> Target {
    Target::parse("url", text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    match Target::parse("url", text) {
        Ok(_) => panic!("{text} is accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn sslmode_means_what_libpq_means() {
    use Demand::{Authority, Encryption, Name, Nothing};
    let file = |path| Some(Roots::File(PathBuf::from(path)));
    for (text, mode, demand, roots) in [
        (
            "postgres://h/d?sslmode=disable",
            SslMode::Disable,
            Nothing,
            None,
        ),
        (
            "postgres://h/d?sslmode=allow",
            SslMode::Prefer,
            Encryption,
            None,
        ),
        (
            "postgres://h/d?sslmode=prefer",
            SslMode::Prefer,
            Encryption,
            None,
        ),
        (
            "postgres://h/d?sslmode=require",
            SslMode::Require,
            Authority { needed: false },
            None,
        ),
        (
            "postgres://h/d?ssl=true",
            SslMode::Require,
            Authority { needed: false },
            None,
        ),
        (
            "postgres://h/d?sslmode=require&sslrootcert=%2Fca%20one.pem",
            SslMode::Require,
            Authority { needed: false },
            file("/ca one.pem"),
        ),
        (
            "postgres://h/d?sslmode=verify-ca",
            SslMode::Require,
            Authority { needed: true },
            None,
        ),
        (
            "postgres://h/d?sslmode=verify-full",
            SslMode::Require,
            Name,
            None,
        ),
        (
            "host=h dbname=d sslmode=verify-full sslrootcert='/a b.pem'",
            SslMode::Require,
            Name,
            file("/a b.pem"),
        ),
        // The machine's authorities certify everyone, so the name has to be checked too.
        (
            "postgres://h/d?sslrootcert=system",
            SslMode::Require,
            Name,
            Some(Roots::System),
        ),
        (
            "postgres://localhost/d?sslrootcert=system",
            SslMode::Require,
            Name,
            Some(Roots::System),
        ),
        (
            "postgres://h/d?sslrootcert=system&sslmode=verify-full",
            SslMode::Require,
            Name,
            Some(Roots::System),
        ),
    ] {
        let target = target(text);
        assert_eq!(target.config.get_ssl_mode(), mode, "{text}");
        assert_eq!(target.tls.demand, demand, "{text}");
        assert_eq!(target.tls.roots, roots, "{text}");
    }
    for weak in ["disable", "allow", "prefer", "require", "verify-ca"] {
        let reason = refused(&format!("postgres://h/d?sslrootcert=system&sslmode={weak}"));
        assert!(
            reason.contains(&format!(
                "sslmode={weak} is too weak for sslrootcert=system"
            )),
            "{reason}"
        );
    }
    for text in [
        "hostaddr=10.0.0.1 sslmode=verify-full",
        "hostaddr=10.0.0.1 sslrootcert=system",
    ] {
        assert!(refused(text).contains("add host"), "{text}");
    }
}

#[test]
fn without_sslmode_only_connections_within_the_machine_may_be_unencrypted() {
    for (text, mode, is_default) in [
        ("postgres://localhost/d", SslMode::Prefer, false),
        ("postgres://127.0.0.1/d", SslMode::Prefer, false),
        (
            "postgres:///d?host=/run/postgresql&sslmode=verify-full",
            SslMode::Disable,
            false,
        ),
        ("postgres://db.example/d", SslMode::Require, true),
        ("postgres://localhost,db.example/d", SslMode::Require, true),
        (
            "postgres://db.example/d?sslmode=require",
            SslMode::Require,
            false,
        ),
    ] {
        let target = target(text);
        assert_eq!(target.config.get_ssl_mode(), mode, "{text}");
        assert_eq!(target.tls_is_default, is_default, "{text}");
    }
}

#[test]
fn the_query_overrides_the_rest_of_the_url() {
    let target =
        target("postgres://a:b@localhost:1/d?host=/run/x&port=7&user=c&password=e&dbname=f&user=g");
    assert_eq!(target.places[0].to_string(), "/run/x/.s.PGSQL.7");
    assert_eq!(target.places.len(), 1);
    assert_eq!(target.config.get_user(), Some("g"));
    assert_eq!(target.config.get_password(), Some(&b"e"[..]));
    assert_eq!(target.config.get_dbname(), Some("f"));
}

#[test]
fn numbers_are_in_libpqs_units() {
    let one = target(
        "host=h tcp_user_timeout=1500 keepalives_idle=7 keepalives_interval=8 keepalives_count=9",
    );
    assert_eq!(
        one.config.get_tcp_user_timeout(),
        Some(&Duration::from_millis(1500))
    );
    assert_eq!(one.config.get_keepalives_idle(), Duration::from_secs(7));
    assert_eq!(
        one.config.get_keepalives_interval(),
        Some(Duration::from_secs(8))
    );
    assert_eq!(one.config.get_keepalives_retries(), Some(9));
    assert!(one.config.get_keepalives());
    // Numbers below 1 have no effect.
    let none =
        target("host=h tcp_user_timeout=0 keepalives_idle=0 keepalives_count=-1 connect_timeout=0");
    assert_eq!(
        none.config.get_tcp_user_timeout(),
        Some(&Duration::from_secs(15))
    );
    assert_eq!(none.config.get_keepalives_idle(), Duration::from_secs(30));
    assert_eq!(none.config.get_keepalives_retries(), Some(3));
    assert_eq!(none.connect_timeout, CONNECT_TIMEOUT);
    assert!(!target("host=h keepalives=0").config.get_keepalives());
}

/// `PQconninfoOptions` of Postgres 18, each with a value that libpq accepts.
const OF_LIBPQ: [(&str, &str); 51] = [
    ("service", "s"),
    ("servicefile", "/f"),
    ("user", "u"),
    ("password", "p"),
    ("passfile", "/f"),
    ("channel_binding", "prefer"),
    ("connect_timeout", "10"),
    ("dbname", "d"),
    ("host", "h"),
    ("hostaddr", "10.0.0.1"),
    ("port", "5432"),
    ("client_encoding", "UTF8"),
    ("options", "-c a=b"),
    ("application_name", "a"),
    ("fallback_application_name", "a"),
    ("keepalives", "1"),
    ("keepalives_idle", "1"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "1"),
    ("tcp_user_timeout", "1"),
    ("sslmode", "require"),
    ("sslnegotiation", "postgres"),
    ("sslcompression", "0"),
    ("sslcert", "/f"),
    ("sslkey", "/f"),
    ("sslcertmode", "allow"),
    ("sslpassword", "p"),
    ("sslrootcert", "/f"),
    ("sslcrl", "/f"),
    ("sslcrldir", "/f"),
    ("sslsni", "1"),
    ("sslkeylogfile", "/f"),
    ("requirepeer", "postgres"),
    ("require_auth", "scram-sha-256"),
    ("min_protocol_version", "3.0"),
    ("max_protocol_version", "3.2"),
    ("ssl_min_protocol_version", "TLSv1.2"),
    ("ssl_max_protocol_version", "TLSv1.3"),
    ("gssencmode", "prefer"),
    ("krbsrvname", "postgres"),
    ("gsslib", "gssapi"),
    ("gssdelegation", "0"),
    ("replication", "false"),
    ("target_session_attrs", "read-write"),
    ("load_balance_hosts", "random"),
    ("scram_client_key", "k"),
    ("scram_server_key", "k"),
    ("oauth_issuer", "i"),
    ("oauth_client_id", "c"),
    ("oauth_client_secret", "s"),
    ("oauth_scope", "s"),
];

/// The options that Larder does not support.
const NOT_SUPPORTED: [&str; 10] = [
    "service",
    "servicefile",
    "sslkeylogfile",
    "require_auth",
    "scram_client_key",
    "scram_server_key",
    "oauth_issuer",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_scope",
];

#[test]
fn every_option_of_libpq_is_accepted_or_rejected_with_an_alternative() {
    for (name, value) in OF_LIBPQ {
        let value =
            percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
        let text = format!("postgres://u:p@h/d?{name}={value}");
        if NOT_SUPPORTED.contains(&name) {
            let reason = refused(&text);
            assert!(
                reason.contains(&format!("{name} is not supported: ")),
                "{reason}"
            );
        } else {
            target(&text);
        }
    }
}

#[test]
fn unsupported_values_are_rejected_with_the_supported_ones() {
    for (text, expected) in [
        (
            "host=h client_encoding=LATIN1",
            "client_encoding is not one of auto, UTF8",
        ),
        (
            "host=h gssencmode=require",
            "gssencmode is not one of disable, prefer",
        ),
        (
            "host=h replication=database",
            "replication is not one of false",
        ),
        (
            "host=h target_session_attrs=standby",
            "any, read-write, read-only: primary, standby",
        ),
        (
            "host=h sslcertmode=require",
            "sslcertmode is not one of disable, allow",
        ),
        (
            "host=h channel_binding=sometimes",
            "not one of disable, prefer, require",
        ),
        ("host=h sslmode=sometimes", "verify-ca, verify-full"),
        (
            "host=h ssl_max_protocol_version=TLSv1.1",
            "the lowest version that Larder supports",
        ),
        (
            "host=h ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
            "above ssl_max_protocol_version",
        ),
        (
            "host=h sslmode=prefer sslnegotiation=direct",
            "sslmode=prefer is too weak",
        ),
        ("host=h passfile=/f", "passfile is not supported"),
        (
            "host=/run/x requirepeer=postgres",
            "requirepeer is not supported",
        ),
        (
            "host=h connect_timeout=soon",
            "connect_timeout is not a whole number",
        ),
        (
            "postgres://h/d?schema=shop",
            "schema is not a libpq option: use options=",
        ),
        ("host=h statement_timeout=5", "it is a key of [repository]"),
    ] {
        let reason = refused(text);
        assert!(reason.contains(expected), "{text}: {reason}");
    }
}

#[test]
fn passwords_that_libpq_accepts_unencoded_need_no_encoding() {
    for (text, password) in [
        ("postgres://u:p?ss@h/d", "p?ss"),
        ("postgres://u:p#ss@h/d", "p#ss"),
        ("postgres://u:p:ss@h/d", "p:ss"),
        ("postgres://u:p&s=s@h/d", "p&s=s"),
        ("postgres://u:p%40s%2Fs@h/d", "p@s/s"),
        ("postgres:///d?host=h&user=me@realm&password=p@ss", "p@ss"),
        ("host=h password=p@s/s=?", "p@s/s=?"),
        (r"host=h password='p\' s\\'", r"p' s\"),
    ] {
        assert_eq!(
            target(text).config.get_password(),
            Some(password.as_bytes()),
            "{text}"
        );
    }
}

#[test]
fn other_settings_reach_tokio_postgres_unchanged() {
    let target = target(
        r"host=/run/x user=u password='it\'s \\ here' dbname=d options='-c search_path=s' sslmode=disable",
    );
    assert_eq!(target.config.get_password(), Some(&b"it's \\ here"[..]));
    assert_eq!(target.config.get_options(), Some("-c search_path=s"));
    assert_eq!(target.config.get_application_name(), Some("larder"));
    let target = self::target("postgres://u@h/d?application_name=mine&connect_timeout=2");
    assert_eq!(target.config.get_application_name(), Some("mine"));
    assert_eq!(target.connect_timeout, Duration::from_secs(2));
    let target = self::target("postgres://u@h/d?fallback_application_name=theirs");
    assert_eq!(target.config.get_application_name(), Some("theirs"));
}

#[test]
fn a_place_is_shown_as_host_and_port() {
    let place = |text| {
        let places = target(text).places;
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
fn each_of_several_hosts_gets_every_other_setting() {
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
            let target = target(text);
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
