//! What urls mean, and that no reason against one repeats a part of it.

use proptest::prelude::*;

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
        // The machine's authorities certify anyone: only together with a name is that a proof.
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
        assert!(refused(text).contains("write host as well"), "{text}");
    }
}

#[test]
fn without_sslmode_only_a_server_on_this_machine_is_talked_to_in_the_clear() {
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
fn the_query_overrules_what_is_before_it() {
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
    // None below 1 says anything.
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

/// As Postgres 18's `PQconninfoOptions` has them, with a value that libpq takes.
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

/// Those that ask for what Larder cannot do.
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
fn every_option_of_libpq_is_taken_or_refused_with_a_way_out() {
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
fn unsupported_options_are_refused_with_the_alternatives() {
    for (text, words) in [
        (
            "host=h client_encoding=LATIN1",
            "client_encoding is none of auto, UTF8",
        ),
        (
            "host=h gssencmode=require",
            "gssencmode is none of disable, prefer",
        ),
        (
            "host=h replication=database",
            "replication is none of false",
        ),
        (
            "host=h target_session_attrs=standby",
            "any, read-write, read-only: primary, standby",
        ),
        (
            "host=h sslcertmode=require",
            "sslcertmode is none of disable, allow",
        ),
        (
            "host=h channel_binding=sometimes",
            "none of disable, prefer, require",
        ),
        ("host=h sslmode=sometimes", "verify-ca, verify-full"),
        (
            "host=h ssl_max_protocol_version=TLSv1.1",
            "the least that Larder speaks",
        ),
        (
            "host=h ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
            "above ssl_max_protocol_version",
        ),
        (
            "host=h sslmode=prefer sslnegotiation=direct",
            "sslmode=prefer is too weak",
        ),
        ("host=h passfile=/f", "passfile is not read"),
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
            "schema is no option of libpq: write options=",
        ),
        ("host=h statement_timeout=5", "it is a key of [repository]"),
    ] {
        let reason = refused(text);
        assert!(reason.contains(words), "{text}: {reason}");
    }
}

/// Whatever may come to be printed of a text: an error, or what names the server; and what Postgres
/// repeats when it refuses.
fn shown(text: &str) -> Vec<String> {
    let target = match Target::parse("url", text) {
        Ok(target) => target,
        Err(error) => return vec![error.to_string(), format!("{error:?}")],
    };
    let config = &target.config;
    let mut shown: Vec<String> = target.places.iter().map(Place::to_string).collect();
    shown.push(format!("{target:?}"));
    shown.extend(
        [config.get_user(), config.get_dbname(), config.get_options()]
            .into_iter()
            .flatten()
            .map(str::to_owned),
    );
    shown
}

/// How urls are written; `{}` is the password.
const SPELLINGS: [&str; 16] = [
    "postgres://somebody:{}@db.example/shop",
    "postgresql://somebody:{}@db.example:5433/shop?sslmode=require&connect_timeout=5",
    "postgres://somebody:{}@[::1]:5433/shop",
    "postgres://somebody:{}@db.example,other.example/shop?target_session_attrs=read-write",
    "postgres://somebody:{}@/shop?host=/run/postgresql",
    "postgres://db.example:5432/shop?user=somebody&password={}&sslmode=require",
    "postgres:///shop?host=db.example&user=somebody&password={}",
    "postgres://db.example:5432?user=somebody&password={}",
    "\"postgres://somebody:{}@db.example/shop\"",
    "jdbc:postgresql://somebody:{}@db.example/shop",
    "postgres:/somebody:{}@db.example/shop?connect_timeout=1",
    "somebody:{}@db.example/shop",
    "host=db.example user=somebody password={} dbname=shop",
    "host=db.example user=somebody password='{}' dbname=shop",
    "password = {}",
    "db.example:5432:shop:somebody:{}",
];

#[test]
fn the_signs_that_urls_are_made_of_show_nothing_of_a_password_that_has_them() {
    for password in [
        "hunter2",
        "hun@ter2",
        "hun/ter2",
        "hun#ter2",
        "hun?ter2",
        "hun%ter2",
        "hun%zzter2",
        "hun:ter2",
        "hun&ter2",
        "hun=ter2",
        "hun ter2",
        "hun'ter2",
        "'hun'ter2",
        "hun\"ter2",
        "hun\\ter2",
        "hun,ter2",
        "5432/hunter2",
        "5432/hun@ter2",
        "hun@ter2/hunter2",
        "hun@hunter2:5433",
        "hun@ter2?host=hunter2",
        "hun?user=hunter2",
        "hun?hunter2=1",
        "hun@[::1]:hunter2",
        "hun?sslmode=hunter2",
        "hun?port=hunter2",
        "hun[ter2",
        "hun]ter2",
        "@hunter2",
        "/hunter2",
        "?hunter2",
        "hunter2@",
        "hunter2/",
        "hun@@ter2",
    ] {
        for spelling in SPELLINGS {
            let text = spelling.replace("{}", password);
            for shown in shown(&text) {
                assert!(!shown.contains("ter2"), "{text}: {shown}");
            }
        }
    }
    let reason = refused("postgres://somebody:p@ss@db.example/shop");
    assert!(reason.contains("write %40 for @"), "{reason}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn nothing_of_any_password_is_shown(
        password in r#"[A-Z0-9@/?#%&=:'"\\ ,;\[\]<>$.-]{4,20}"#,
        spelling in proptest::sample::select(SPELLINGS.to_vec()),
    ) {
        let text = spelling.replace("{}", &password);
        let characters: Vec<char> = password.chars().collect();
        let shown = shown(&text);
        for piece in characters.windows(4).map(|four| four.iter().collect::<String>()) {
            // What the text says elsewhere as well.
            if spelling.contains(&piece) || !piece.contains(|c: char| c.is_ascii_uppercase()) {
                continue;
            }
            for shown in &shown {
                prop_assert!(!shown.contains(&piece), "{} shows {} of {}", shown, piece, text);
            }
        }
    }

    #[test]
    fn no_text_panics(text in r"(postgres://|host=|port=|[a-z@/?#%&=:'\\ ,\[\]]){0,12}") {
        let _ = Target::parse("url", &text);
    }
}

#[test]
fn passwords_that_libpq_reads_as_they_are_need_no_encoding() {
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
fn the_operator_sees_where_it_connects_to() {
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

#[test]
fn a_wrong_url_is_explained_without_its_password() {
    for text in [
        "postgres://u:hunter2@h/d?sslmode=sometimes",
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
