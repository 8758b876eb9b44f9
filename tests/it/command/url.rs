//! What the program says of the url: nothing that could be a password, and who may answer there.

use std::fs;

use tokio::process::Command;

use super::{config, folder};
use crate::support::postgres::Postgres;
use crate::support::program::Program;

const ENDPOINT: &str = "[[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1 AS n\"";

const WARNING: &str = "gets the password and is trusted: the url of [repository] has no sslmode";

#[tokio::test(flavor = "multi_thread")]
async fn no_part_of_an_unencoded_password_is_printed() {
    let folder = folder(&[("config.toml", &config(ENDPOINT))]);
    for url in [
        "postgres://somebody:p@hunter2-secret@127.0.0.1:1/shop",
        "postgres://somebody:p@hunter2-secret/x@127.0.0.1:1/shop",
        "postgres://somebody:1/hunter2-secret@127.0.0.1:1/shop",
        "postgres://somebody:p?hunter2-secret=1@127.0.0.1:1/shop",
        "postgres://somebody:p?host=hunter2-secret@127.0.0.1:1/shop",
        "postgres://somebody:p#hunter2-secret@127.0.0.1:1/shop",
        "postgres://somebody:%zzhunter2-secret@127.0.0.1:1/shop",
        "postgres://127.0.0.1:1?user=somebody&password=p@hunter2-secret",
        "postgres://127.0.0.1:1/shop?user=somebody&password=p&hunter2-secret=",
        "'postgres://somebody:hunter2-secret@127.0.0.1:1/shop'",
        "host=127.0.0.1 port=1 user=somebody password=p hunter2-secret",
        "host=127.0.0.1 port=hunter2-secret",
        "host=127.0.0.1 password=p hunter2-secret=x",
    ] {
        for arguments in [&["check"][..], &["check", "--offline"], &["openapi"]] {
            let ended = Program::larder(arguments)
                .within(folder.path())
                .env("DATABASE_URL", url)
                .run()
                .await;
            let said = ended.stdout + &ended.stderr;
            assert!(!said.contains("hunter2"), "{arguments:?} {url}: {said}");
        }
        // Where the text can be read after all, it waits for a Postgres that is not there.
        if !url.contains('#') {
            let serving = Program::larder(&["serve"]).within(folder.path());
            let ended = serving.env("DATABASE_URL", url).run().await;
            ended.assert_code(1);
            assert!(!ended.stderr.contains("hunter2"), "{url}: {}", ended.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unverified_remote_server_causes_a_warning() {
    let folder = folder(&[("config.toml", &config(ENDPOINT))]);
    let offline = async |url: &str| {
        let check = Program::larder(&["check", "--offline"]).within(folder.path());
        let ended = check.env("HOME", folder.path()).on(url).run().await;
        ended.assert_code(0).assert_stderr("");
        ended.stdout
    };
    let said = offline("postgres://somebody:hunter2-of-somebody@db.larder.test/shop").await;
    assert!(said.contains(WARNING), "{said}");
    assert!(
        said.contains(
            "\nwarning: the identity of the server at db.larder.test:5432 is not verified"
        ),
        "{said}"
    );
    assert!(
        said.contains("sslmode=verify-full&sslrootcert=system"),
        "{said}"
    );
    for meant in [
        "?sslmode=require",
        "?sslmode=disable",
        "?sslmode=verify-full&sslrootcert=%2Fnowhere",
        "?sslrootcert=%2Fnowhere",
        "?channel_binding=require",
        "?hostaddr=127.0.0.1",
    ] {
        let said = offline(&format!("postgres://somebody@db.larder.test/shop{meant}")).await;
        assert!(!said.contains("warning"), "{meant}: {said}");
    }
    // One log line at start, wherever Postgres is.
    let mut serving = Program::larder(&["serve"])
        .within(folder.path())
        .env("HOME", folder.path())
        .on("postgres://somebody:hunter2-of-somebody@db.larder.test/shop")
        .start();
    serving
        .on_stderr(|text| text.contains("\"WARN\"").then_some(()))
        .await;
    serving
        .on_stderr(|text| text.contains(WARNING).then_some(()))
        .await;
    serving.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = serving.ended().await;
    assert_eq!(ended.stderr.matches(WARNING).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unverified_server_is_not_a_mistake() {
    let db = Postgres::own().await;
    let folder = folder(&[("config.toml", &config(ENDPOINT))]);
    let mut openssl = Command::new("openssl");
    let made = openssl
        .args([
            "req", "-new", "-x509", "-days", "2", "-nodes", "-subj", "/CN=any",
        ])
        .args(["-out", "server.crt", "-keyout", "server.key"])
        .current_dir(folder.path());
    assert!(made.output().await.unwrap().status.success());
    for name in ["server.crt", "server.key"] {
        let text = fs::read_to_string(folder.path().join(name)).unwrap();
        db.write(name, &text).await;
    }
    db.execute("ALTER SYSTEM SET ssl = on").await;
    db.stop().await;
    db.start_again().await;
    // The same machine, by a name that does not say so.
    let url = db.url().replace("127.0.0.1", "LOCALHOST");
    let check = Program::larder(&["check"]).within(folder.path());
    let ended = check.env("HOME", folder.path()).on(&url).run().await;
    ended.assert_code(0).assert_stderr("");
    assert!(ended.stdout.contains(WARNING), "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_server_key_is_explained() {
    let tls = "tls = { cert = \"server.crt\", key = \"KEY\" }";
    let folder = folder(&[]);
    let script = "openssl req -new -x509 -nodes -subj /CN=any -out server.crt -keyout server.key
        openssl pkey -in server.key -aes256 -passout pass:hunter2 -out pkcs8.key
        openssl rsa -in server.key -traditional -aes256 -passout pass:hunter2 -out legacy.key
        openssl pkey -in server.key -pubout -out public.key
        openssl pkey -in server.key -outform DER -out der.key";
    let mut shell = Command::new("sh");
    let shell = shell.args(["-ec", script]).current_dir(folder.path());
    assert!(shell.output().await.unwrap().status.success());
    for (key, reason, help) in [
        (
            "pkcs8.key",
            "the private key in this file is encrypted",
            "decrypt it with `openssl pkey -in",
        ),
        (
            "legacy.key",
            "the private key in this file is encrypted",
            "decrypt it with `openssl pkey -in",
        ),
        (
            "public.key",
            "there is no private key in this file, but PUBLIC KEY",
            "BEGIN PRIVATE KEY",
        ),
        (
            "server.crt",
            "there is no private key in this file, but CERTIFICATE",
            "BEGIN PRIVATE KEY",
        ),
        (
            "der.key",
            "its bytes look like DER or PKCS #12",
            "BEGIN PRIVATE KEY",
        ),
    ] {
        let text = config(ENDPOINT).replace(
            "[server]",
            &format!("[server]\n{}", tls.replace("KEY", key)),
        );
        fs::write(folder.path().join("config.toml"), text).unwrap();
        let check = Program::larder(&["check", "--offline"]).within(folder.path());
        let ended = check.on("postgres://localhost/shop").run().await;
        ended
            .assert_code(1)
            .assert_stderr_has(reason)
            .assert_stderr_has(help);
    }
}
