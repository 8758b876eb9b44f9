//! The ways to a Postgres: encrypted or not, its certificate believed or not, through a socket, by a
//! URL or by words.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use larder::app::{App as Larder, BuildError, describe_all};
use larder::observe::{Event, QueryOutcome};
use larder::repository::RepositoryError;
use larder::repository::throwaway::Throwaway;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::json;
use tempfile::TempDir;

use crate::support::app::{App, plan};
use crate::support::gate::{GATED, Gate};
use crate::support::postgres::Postgres;

/// The name in the server's certificate. Nobody resolves it: it is always given with an address.
const NAME: &str = "db.larder.test";

/// How the session that answers is connected.
const LINE: &str = r#"
    [[endpoint]]
    path = "/line"
    sql = """
    SELECT ssl AS encrypted, inet_server_addr() IS NULL AS through_a_socket
    FROM pg_stat_ssl WHERE pid = pg_backend_pid()"""
    shape = "row"
"#;

/// Someone who signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

/// A server's certificate and its key, as PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(folder.path().join("root.pem"), certificate.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            folder,
        }
    }

    /// Where its own certificate is, as the value of `sslrootcert` in a URL.
    fn file(&self) -> String {
        encoded(&self.folder.path().join("root.pem"))
    }

    /// A certificate for a name or an address.
    fn certify(&self, name: &str) -> Identity {
        self.sign(&CertificateParams::new([name.to_owned()]).unwrap())
    }

    /// One that was good once.
    fn certify_for_the_past(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(2003, 1, 1);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Identity {
    /// Restarts the server with this certificate to show.
    async fn put_on(&self, db: &Postgres) {
        db.write("server.crt", &self.certificate).await;
        db.write("server.key", &self.key).await;
        db.execute("ALTER SYSTEM SET ssl = on").await;
        db.stop().await;
        db.start_again().await;
    }
}

fn encoded(path: &Path) -> String {
    utf8_percent_encode(path.to_str().unwrap(), NON_ALPHANUMERIC).to_string()
}

/// What a throwaway Postgres's URL is made of.
struct Address<'u> {
    password: &'u str,
    port: &'u str,
}

impl<'u> Address<'u> {
    fn of(url: &'u str) -> Self {
        let (credentials, place) = url.split_once('@').unwrap();
        let (_, password) = credentials.rsplit_once(':').unwrap();
        let port = place.strip_prefix("127.0.0.1:").unwrap();
        Self {
            password,
            port: port.strip_suffix("/larder").unwrap(),
        }
    }

    /// The same server under the name in its certificate.
    fn by_name(&self) -> String {
        let Self { password, port } = self;
        format!("postgresql://larder:{password}@{NAME}:{port}/larder?hostaddr=127.0.0.1")
    }
}

/// Whether Larder's sessions there are encrypted.
async fn is_encrypted(url: &str) -> bool {
    line(url).await["encrypted"].as_bool().unwrap()
}

async fn line(url: &str) -> serde_json::Value {
    if let Err(misfits) = describe_all(&plan(url, "", LINE)).await {
        panic!("{url}: {}", misfits[0].error);
    }
    let app = App::launch(url, "", LINE).await;
    app.wait_until_ready().await;
    app.get("/line").await.json()
}

/// Why Larder does not get there.
async fn refusal(url: &str) -> RepositoryError {
    let Err(misfits) = describe_all(&plan(url, "", LINE)).await else {
        panic!("{url} is accepted")
    };
    let error = misfits.into_iter().next().unwrap().error;
    if let Some((credentials, _)) = url.split_once('@') {
        let (_, password) = credentials.rsplit_once(':').unwrap();
        assert!(!error.to_string().contains(password), "{error}");
    }
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn sslmode_decides_how_the_servers_certificate_is_verified() {
    let db = Postgres::own().await;
    let ca = Authority::new();
    ca.certify(NAME).put_on(&db).await;
    let impostor = Authority::new(); // of the same name
    let (right, wrong) = (ca.file(), impostor.file());

    let by_address = db.url();
    for (settings, encrypted) in [
        ("", true), // on the same machine it is preferred
        ("?sslmode=disable", false),
        ("?sslmode=allow", true),
        ("?sslmode=prefer", true),
        ("?sslmode=require", true),
        // These do not look at the name.
        (&*format!("?sslmode=require&sslrootcert={right}"), true),
        (&format!("?sslmode=verify-ca&sslrootcert={right}"), true),
    ] {
        let url = format!("{by_address}{settings}");
        assert_eq!(is_encrypted(&url).await, encrypted, "{settings}");
    }
    let by_name = Address::of(by_address).by_name();
    let url = format!("{by_name}&sslmode=verify-full&sslrootcert={right}");
    assert!(is_encrypted(&url).await);

    for (url, reason) in [
        (
            format!("{by_address}?sslmode=require&sslrootcert={wrong}"),
            "it is not signed by an authority in sslrootcert",
        ),
        (
            format!("{by_address}?sslmode=verify-ca&sslrootcert={wrong}"),
            "it is not signed by an authority in sslrootcert",
        ),
        (
            format!("{by_name}&sslmode=verify-full&sslrootcert={wrong}"),
            "it is not signed by an authority in sslrootcert",
        ),
        (
            format!("{by_address}?sslmode=verify-full&sslrootcert={right}"),
            "not valid for name",
        ),
    ] {
        let refused = refusal(&url).await.to_string();
        assert!(refused.contains("certificate"), "{refused}");
        assert!(refused.contains(reason), "{refused}");
    }
    // The machine's own authorities do not know ours, if there are any.
    refusal(&format!("{by_name}&sslmode=verify-full&sslrootcert=system")).await;
    refusal(&format!("{by_name}&sslrootcert=system")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused_by_sslmode_require() {
    let db = Postgres::own().await;
    let by_address = db.url();
    for settings in ["", "?sslmode=disable", "?sslmode=prefer"] {
        assert!(!is_encrypted(&format!("{by_address}{settings}")).await);
    }
    let root = Authority::new();
    let insisting = [
        format!("{by_address}?sslmode=require"),
        format!(
            "{by_address}?sslmode=verify-full&sslrootcert={}",
            root.file()
        ),
    ];
    for url in insisting {
        let refused = refusal(&url).await.to_string();
        assert!(refused.contains("server does not support TLS"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_requires_tls_gets_tls() {
    let db = Postgres::own().await;
    Authority::new().certify(NAME).put_on(&db).await;
    db.write(
        "pg_hba.conf",
        "hostnossl all careful 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 scram-sha-256",
    )
    .await;
    db.execute("CREATE ROLE careful LOGIN PASSWORD 'hunter2-of-careful'")
        .await;
    db.stop().await;
    db.start_again().await;
    let (_, place) = db.url().split_once('@').unwrap();
    let careful = format!("postgresql://careful:hunter2-of-careful@{place}");
    assert!(is_encrypted(&careful).await);
    let refused = refusal(&format!("{careful}?sslmode=disable")).await;
    assert!(
        matches!(&refused, RepositoryError::Settings { reason, .. } if reason.contains("no encryption")),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused_until_renewed() {
    let db = Postgres::own().await;
    let ca = Authority::new();
    ca.certify_for_the_past("127.0.0.1").put_on(&db).await;
    let url = |mode| format!("{}?sslmode={mode}&sslrootcert={}", db.url(), ca.file());
    for mode in ["verify-ca", "verify-full"] {
        let refused = refusal(&url(mode)).await.to_string();
        assert!(refused.contains("expired"), "{refused}");
    }
    let app = App::launch(&url("verify-full"), "", LINE).await;
    app.wait_for(
        1,
        |event| matches!(event, Event::RepositoryLost { cause } if cause.contains("expired")),
    )
    .await;
    ca.certify("127.0.0.1").put_on(&db).await;
    app.wait_until_ready().await;
    assert_eq!(app.get("/line").await.json()["encrypted"], json!(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_query_is_cancelled_over_tls() {
    let db = Postgres::own().await;
    let ca = Authority::new();
    ca.certify(NAME).put_on(&db).await;
    let by_name = Address::of(db.url()).by_name();
    let url = format!("{by_name}&sslmode=verify-full&sslrootcert={}", ca.file());
    assert_cancelled(&url, &db).await;
}

/// A query there that takes too long is cancelled; nothing but Larder would end it.
async fn assert_cancelled(url: &str, db: &Postgres) {
    let endpoint = format!("{GATED}\ntimeout = \"300ms\"");
    let app = App::launch(url, "statement_timeout = \"1d\"", &endpoint).await;
    app.wait_until_ready().await;
    let gate = Gate::close(db).await;
    app.get("/gated/7").await.assert_status(504);
    let timed_out = |event: &Event| {
        matches!(
            event,
            Event::QueryFinished {
                outcome: QueryOutcome::Timeout,
                ..
            }
        )
    };
    app.wait_for(1, timed_out).await;
    gate.wait_for_queries(0).await;
    gate.open().await;
    app.get("/gated/7").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn unix_sockets_work() {
    let folder = tempfile::tempdir().unwrap();
    // The server's user creates the socket.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let path = folder.path().to_str().unwrap();
    let server = Throwaway::start_with(&[("unix_socket_directories", path)])
        .await
        .unwrap();
    let Address { password, port } = Address::of(server.url());
    let encoded = encoded(folder.path());
    for url in [
        format!("postgres:///larder?host={path}&port={port}&user=larder&password={password}"),
        format!("postgresql://larder:{password}@{encoded}:{port}/larder"),
        format!("host={path} port={port} user=larder password={password} dbname=larder"),
        format!("user = larder password='{password}' port={port} host = '{path}' dbname=larder"),
        // What does not leave the machine needs no encryption, as libpq sees it.
        format!("postgresql://larder:{password}@{encoded}:{port}/larder?sslmode=require"),
    ] {
        let expected = json!({ "encrypted": false, "through_a_socket": true });
        assert_eq!(line(&url).await, expected, "{url}");
    }
    let wrong =
        format!("host={path}/nowhere port={port} user=larder password={password} dbname=larder");
    let refused = refusal(&wrong).await.to_string();
    assert!(
        refused.contains(&format!("{path}/nowhere/.s.PGSQL.{port}")),
        "{refused}"
    );
    assert!(!refused.contains(password), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_value_pairs_work_like_a_url() {
    let db = Postgres::own().await;
    let ca = Authority::new();
    ca.certify(NAME).put_on(&db).await;
    let Address { password, port } = Address::of(db.url());
    let words = format!("port={port} user=larder password={password} dbname=larder");
    let root = ca.folder.path().join("root.pem");
    let root = root.display();
    for (words, encrypted) in [
        (format!("host=127.0.0.1 {words}"), true),
        (format!("hostaddr=127.0.0.1 {words}"), true),
        (format!("host=127.0.0.1 {words} sslmode=disable"), false),
        (
            format!(
                "host={NAME} hostaddr=127.0.0.1 {words} sslmode=verify-full sslrootcert='{root}'"
            ),
            true,
        ),
    ] {
        assert_eq!(is_encrypted(&words).await, encrypted, "{words}");
    }
}

#[test]
fn an_unreadable_root_certificate_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("empty.pem", ""),
        ("words.pem", "-----BEGIN CERTIFICATE-----\nwords\n"),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    for name in ["missing.pem", "empty.pem", "words.pem"] {
        let path = folder.path().join(name);
        let url = format!(
            "postgresql://larder:hunter2@db/larder?sslmode=verify-full&sslrootcert={}",
            encoded(&path)
        );
        let refused = Larder::build(Arc::new(plan(&url, "", LINE)), Vec::new()).unwrap_err();
        assert!(
            matches!(
                refused,
                BuildError::Repository(RepositoryError::Settings { .. })
            ),
            "{refused:?}"
        );
        let refused = refused.to_string();
        assert!(
            refused.contains(&format!("sslrootcert {}: ", path.display())),
            "{refused}"
        );
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}
