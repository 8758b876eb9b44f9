//! Whose certificate is believed: what psql says of a server, Larder says too, for certificates as
//! Postgres's manual makes them and for those that must not do.

mod cases;

use std::fs;
use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::postgres::Postgres;
use crate::support::program::Program;

use cases::CASES;

const FUNCTIONS: &str = include_str!("certificates/make.sh");

/// The name in most certificates; nobody resolves it.
const NAME: &str = "db.larder.test";

/// Nothing that a certificate could be for.
const ADDRESS_ALONE: &str = "hostaddr=127.0.0.1";

const CA: &str = "basicConstraints=critical,CA:TRUE";

/// Runs these lines of shell in a folder of their own.
async fn make(lines: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("{FUNCTIONS}\nca={CA}\n{lines}");
    let mut shell = Command::new("bash");
    let shell = shell.args(["-c", &script]).current_dir(folder.path());
    let made = shell.output().await.unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{lines}: {said}");
    folder
}

/// Has the server show what is in the folder.
async fn put_on(folder: &Path, db: &Postgres) {
    for name in ["server.crt", "server.key"] {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        // Without the words that -text adds.
        let lines = text.lines().skip_while(|line| !line.starts_with("-----"));
        db.write(name, &lines.collect::<Vec<_>>().join("\n")).await;
    }
    db.execute("ALTER SYSTEM SET ssl = on").await;
    db.stop().await;
    db.start_again().await;
}

/// A home folder with a configuration in it.
fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let config = "[repository]\nurl = \"${DATABASE_URL}\"\n\
        [[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1 AS n\"";
    fs::write(home.path().join("config.toml"), config).unwrap();
    home
}

/// A way to the server.
struct Way<'a> {
    words: String,
    home: &'a Path,
}

impl Way<'_> {
    async fn is_open_to_psql(&self) -> bool {
        let mut psql = Command::new("psql");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            psql.env_remove(name);
        }
        let psql = psql.args(["--no-psqlrc", "-c", "SELECT 1", "-d", &self.words]);
        let ended = psql.env("HOME", self.home).output().await.unwrap();
        ended.status.success()
    }

    /// Whether Larder gets there, or why not.
    async fn of_larder(&self) -> Result<(), String> {
        let ended = Program::larder(&["check", "--no-measure"])
            .within(self.home)
            .env("HOME", self.home)
            .env("DATABASE_URL", &self.words)
            .run()
            .await;
        match ended.code {
            Some(0) => Ok(()),
            _ => Err(ended.stderr),
        }
    }
}

/// The words that a throwaway Postgres's URL is made of, without its host.
fn words(url: &str) -> String {
    let (credentials, place) = url.split_once('@').unwrap();
    let (_, password) = credentials.rsplit_once(':').unwrap();
    let (_, port) = place
        .strip_suffix("/larder")
        .unwrap()
        .split_once(':')
        .unwrap();
    format!("port={port} user=larder password={password} dbname=larder")
}

fn by_name() -> String {
    format!("host={NAME} hostaddr=127.0.0.1")
}

#[tokio::test(flavor = "multi_thread")]
async fn larder_and_psql_trust_the_same_certificates() {
    let db = Postgres::own().await;
    let words = words(db.url());
    let other = make("root").await;
    let wrong = other.path().join("root.crt");
    let home = home();
    let home = home.path();
    let mut wrongs = Vec::new();
    for case in CASES {
        let folder = make(case.make).await;
        put_on(folder.path(), &db).await;
        let right = folder.path().join("root.crt");
        let mut accepted = Vec::new();
        let ask = async |(root, host, mode): (Option<&PathBuf>, String, &str)| {
            let file = root.map(|root| format!(" sslrootcert='{}'", root.display()));
            let file = file.unwrap_or_default();
            let words = format!("{host} {words} sslmode={mode}{file}");
            let way = Way { words, home };
            (way.is_open_to_psql().await, way.of_larder().await)
        };
        let ways = ways(&right, &wrong);
        let answers = join_all(ways.iter().cloned().map(ask)).await;
        for ((root, host, mode), (psql, larder)) in ways.into_iter().zip(answers) {
            if psql != larder.is_ok() {
                wrongs.push(format!(
                    "{}, {host} {mode} {root:?}: psql {psql}, {larder:?}",
                    case.what
                ));
            }
            if root == Some(&right) && host != ADDRESS_ALONE {
                accepted.push(larder.is_ok());
            }
        }
        if accepted != case.accepted {
            wrongs.push(format!("{}: {accepted:?}", case.what));
        }
    }
    assert!(wrongs.is_empty(), "{}", wrongs.join("\n"));
}

/// First those with the right root, as [`Case::accepted`] has them.
fn ways<'p>(
    right: &'p PathBuf,
    wrong: &'p PathBuf,
) -> Vec<(Option<&'p PathBuf>, String, &'static str)> {
    let by_address = "host=127.0.0.1".to_owned();
    vec![
        (Some(right), by_name(), "require"),
        (Some(right), by_name(), "verify-ca"),
        (Some(right), by_name(), "verify-full"),
        (Some(right), by_address.clone(), "verify-full"),
        (Some(wrong), by_name(), "require"),
        (Some(wrong), by_name(), "verify-full"),
        (None, by_address.clone(), "require"),
        (None, by_address, "verify-ca"),
        (None, by_name(), "verify-full"),
        (Some(right), ADDRESS_ALONE.to_owned(), "verify-full"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_certificates_are_refused() {
    let db = Postgres::own().await;
    let words = words(db.url());
    let home = home();
    for (lines, is_open) in [
        ("root; signed; revoke", true),
        ("root; signed; revoke server.crt", false),
        ("root; intermediate $ca; revoke intermediate.crt", false),
        // No list says anything of the server's own certificate.
        ("root; intermediate $ca; revoke", false),
        // It was to be renewed long ago.
        (
            "root; signed; openssl() { faketime -f -90d openssl \"$@\"; }; revoke",
            false,
        ),
    ] {
        let folder = make(lines).await;
        put_on(folder.path(), &db).await;
        let file = |name| folder.path().join(name).display().to_string();
        let (root, file, lists) = (file("root.crt"), file("root.crl"), file("lists"));
        for list in [format!("sslcrl='{file}'"), format!("sslcrldir='{lists}'")] {
            let words = format!(
                "{} {words} sslmode=verify-full sslrootcert='{root}' {list}",
                by_name()
            );
            let way = Way {
                words,
                home: home.path(),
            };
            assert_eq!(
                way.is_open_to_psql().await,
                is_open,
                "psql: {lines}, {list}"
            );
            let of_larder = way.of_larder().await;
            assert_eq!(of_larder.is_ok(), is_open, "{lines}, {list}: {of_larder:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificates_are_sent_on_request() {
    let db = Postgres::own().await;
    let server = make("root; signed").await;
    put_on(server.path(), &db).await;
    // Of the manual as well: v1.
    let client = make(
        "root; name=guest; signed; cp server.crt client.crt; cp server.key client.key; \
        openssl pkey -in client.key -aes256 -passout pass:hunter2 -out encrypted.key; \
        openssl rsa -in client.key -traditional -aes256 -passout pass:hunter2 -out legacy.key; \
        chmod 600 *.key; name=nobody; signed",
    )
    .await;
    let root = fs::read_to_string(client.path().join("root.crt")).unwrap();
    let root = &root[root.find("-----BEGIN").unwrap()..];
    db.write("clients.crt", root).await;
    let who = "hostssl all guest 127.0.0.1/32 cert\nhost all all 127.0.0.1/32 scram-sha-256";
    db.write("pg_hba.conf", who).await;
    db.execute("CREATE ROLE guest LOGIN").await;
    db.execute("ALTER SYSTEM SET ssl_ca_file = 'clients.crt'")
        .await;
    db.stop().await;
    db.start_again().await;

    let home = home();
    let guest = words(db.url()).replace("user=larder", "user=guest");
    let file = |name| client.path().join(name).display().to_string();
    let way = |more: String| Way {
        words: format!("host=127.0.0.1 {guest} sslmode=require {more}"),
        home: home.path(),
    };
    let with = |certificate, key| format!("sslcert='{}' sslkey='{}'", file(certificate), file(key));
    let right = with("client.crt", "client.key");
    for (more, is_open) in [
        (right.clone(), true),
        (format!("{right} sslcertmode=disable"), false),
        (with("server.crt", "server.key"), false),
        (String::new(), false),
    ] {
        let way = way(more);
        // psql 15 does not know sslcertmode yet.
        if !way.words.contains("sslcertmode") {
            assert_eq!(way.is_open_to_psql().await, is_open, "psql: {}", way.words);
        }
        let of_larder = way.of_larder().await;
        assert_eq!(of_larder.is_ok(), is_open, "{}: {of_larder:?}", way.words);
    }
    for (certificate, key, reason) in [
        ("client.crt", "server.key", "this is not the key of sslcert"),
        (
            "client.crt",
            "encrypted.key",
            "is encrypted; decrypt it with `openssl pkey",
        ),
        (
            "client.crt",
            "legacy.key",
            "is encrypted; decrypt it with `openssl pkey",
        ),
        (
            "client.crt",
            "client.crt",
            "there is no private key in this file, but CERTIFICATE",
        ),
        (
            "none.crt",
            "client.key",
            "none.crt: this file cannot be read",
        ),
    ] {
        let refused = way(with(certificate, key)).of_larder().await.unwrap_err();
        assert!(refused.contains(reason), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn default_files_are_those_of_libpq() {
    let db = Postgres::own().await;
    let words = words(db.url());
    let server = make("root; signed; revoke server.crt").await;
    let other = make("root").await;
    put_on(server.path(), &db).await;
    let home = home();
    let folder = home.path().join(".postgresql");
    fs::create_dir(&folder).unwrap();
    let put = |from: &TempDir, name: &str| {
        fs::copy(from.path().join(name), folder.join(name)).unwrap();
    };
    let agrees = async |mode: &str, is_open: bool| {
        let way = Way {
            words: format!("{} {words} sslmode={mode}", by_name()),
            home: home.path(),
        };
        assert_eq!(way.is_open_to_psql().await, is_open, "psql: {mode}");
        let of_larder = way.of_larder().await;
        assert_eq!(of_larder.is_ok(), is_open, "{mode}: {of_larder:?}");
        of_larder.err().unwrap_or_default()
    };
    for mode in ["verify-ca", "verify-full"] {
        let refused = agrees(mode, false).await;
        let path = folder.join("root.crt");
        let words = format!("there is none at {}: name its file", path.display());
        assert!(refused.contains(&words), "{refused}");
    }
    agrees("require", true).await;
    put(&server, "root.crt");
    for mode in ["require", "verify-ca", "verify-full"] {
        agrees(mode, true).await;
    }
    put(&server, "root.crl");
    for mode in ["require", "verify-ca", "verify-full"] {
        let refused = agrees(mode, false).await;
        assert!(refused.contains("is revoked"), "{refused}");
    }
    put(&other, "root.crt");
    let refused = agrees("require", false).await;
    assert!(
        refused.contains("it is not signed by an authority in sslrootcert"),
        "{refused}"
    );
}
