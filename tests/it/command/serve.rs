//! `larder serve`: comes up, answers, drains.

use std::net::SocketAddr;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::{config, folder, nowhere};
use crate::support::gate::{GATED, Gate};
use crate::support::http::{self, Connection};
use crate::support::postgres::Postgres;
use crate::support::program::{Program, Running};

/// Where it says that it listens.
pub(super) async fn address(serving: &mut Running) -> SocketAddr {
    serving
        .on_stderr(|text| {
            let (_, rest) = text.split_once("on http://")?;
            rest.split(['"', '\n']).next()?.parse().ok()
        })
        .await
}

pub(super) async fn wait_for_stderr(serving: &mut Running, words: &str) {
    serving
        .on_stderr(|text| text.contains(words).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_stops_it_after_running_requests() {
    let db = Postgres::with("").await;
    let endpoint = "[[endpoint]]\npath = \"/count\"\nsql = \"SELECT 2823\"\nshape = \"tuple\"";
    let folder = folder(&[("config.toml", &config(&format!("{endpoint}\n{GATED}")))]);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let mut serving = Program::larder(&["serve"])
            .within(folder.path())
            .on(db.url())
            .start();
        let address = address(&mut serving).await;
        wait_for_stderr(&mut serving, "now ready").await;
        http::get(address, "/readyz").await.assert_status(200);
        http::get(address, "/count")
            .await
            .assert_json(json!([2823]))
            .assert_cache("hit");

        let gate = Gate::close(&db).await;
        let mut running = Connection::open(address).await;
        running
            .send(b"GET /gated/1 HTTP/1.1\r\nHost: larder\r\n\r\n")
            .await;
        gate.wait_for_queries(1).await;
        serving.signal(signal);
        wait_for_stderr(&mut serving, "now draining").await;
        gate.open().await;
        running.answer("GET").await.assert_status(200);
        serving.ended().await.assert_code(0).assert_stdout("");
        assert!(TcpStream::connect(address).await.is_err(), "it has gone");
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[tokio::test]
async fn glibc_is_configured_to_unmap_large_blocks() {
    const VARIABLE: &str = "MALLOC_MMAP_THRESHOLD_";
    let (_port, url) = nowhere();
    let folder = folder(&[("config.toml", &config(N))]);
    let mut serving = Program::larder(&["serve"])
        .within(folder.path())
        .on(&url)
        .start();
    address(&mut serving).await;
    assert!(serving.has_variable(VARIABLE));
    serving.signal(Signal::SIGTERM);
    serving.ended().await.assert_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_finish_in_time_changes_the_exit_code() {
    let db = Postgres::with("").await;
    let text = config(GATED).replace("[server]", "[server]\nshutdown_timeout = \"50ms\"");
    let folder = folder(&[("config.toml", &text)]);
    let mut serving = Program::larder(&["serve", "--config", "config.toml"])
        .within(folder.path())
        .on(db.url())
        .start();
    let address = address(&mut serving).await;
    wait_for_stderr(&mut serving, "now ready").await;
    let gate = Gate::close(&db).await;
    let mut running = Connection::open(address).await;
    running
        .send(b"GET /gated/1 HTTP/1.1\r\nHost: larder\r\n\r\n")
        .await;
    gate.wait_for_queries(1).await;
    serving.signal(Signal::SIGTERM);
    serving
        .ended()
        .await
        .assert_code(1)
        .assert_stderr_has("error: not every request finished within shutdown_timeout (50ms)");
    assert!(running.is_closed().await);
    gate.open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_delay_a_drain() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let db = Postgres::with("").await;
    let endpoint = config("[[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1 AS n\"");
    let settings = "[server]\nh2c = true\nshutdown_timeout = \"1h\"";
    let text = endpoint.replace("[server]", settings);
    let folder = folder(&[("config.toml", &text)]);
    let mut serving = Program::larder(&["serve"])
        .within(folder.path())
        .on(db.url())
        .start();
    let address = address(&mut serving).await;
    wait_for_stderr(&mut serving, "now ready").await;
    let mut held = Vec::new();
    for begun in [
        &b""[..],
        b"\r\n",
        b"GET /n HTTP/1.1\r\nHost: l",
        b"PRI * HT",
        PREFACE,
        &[PREFACE, SETTINGS].concat(),
    ] {
        let mut connection = Connection::open(address).await;
        connection.send(begun).await;
        held.push(connection);
    }
    let mut kept_alive = Connection::open(address).await;
    kept_alive.get("/n").await.assert_status(200);
    held.push(kept_alive);
    // Connections are accepted in order: all of them are the server's by now.
    serving.signal(Signal::SIGTERM);
    serving.ended().await.assert_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let db = Postgres::with("").await;
    let text = config(GATED).replace("[server]", "[server]\nshutdown_timeout = \"1h\"");
    let folder = folder(&[("config.toml", &text)]);
    let mut serving = Program::larder(&["serve"])
        .within(folder.path())
        .on(db.url())
        .start();
    let address = address(&mut serving).await;
    wait_for_stderr(&mut serving, "now ready").await;
    let gate = Gate::close(&db).await;
    let mut running = Connection::open(address).await;
    running
        .send(b"GET /gated/1 HTTP/1.1\r\nHost: larder\r\n\r\n")
        .await;
    gate.wait_for_queries(1).await;
    serving.signal(Signal::SIGTERM);
    wait_for_stderr(&mut serving, "now draining").await;
    serving.signal(Signal::SIGINT);
    serving
        .ended()
        .await
        .assert_code(1)
        .assert_stderr_has("stopped at once by a second signal");
    gate.open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_file_descriptors_is_logged_once_and_is_temporary() {
    let db = Postgres::with("").await;
    let endpoint = config("[[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1 AS n\"");
    let folder = folder(&[("config.toml", &endpoint)]);
    let mut serving = Program::larder_after("ulimit -n 64", &["serve"])
        .within(folder.path())
        .on(db.url())
        .start();
    let address = address(&mut serving).await;
    wait_for_stderr(&mut serving, "the system allows 64 open files").await;
    wait_for_stderr(&mut serving, "now ready").await;
    // The system holds those that are not accepted yet.
    let mut held = Vec::new();
    for _ in 0..80 {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    wait_for_stderr(&mut serving, "no client can connect").await;
    drop(held);
    wait_for_stderr(&mut serving, "clients can connect again").await;
    http::get(address, "/n").await.assert_status(200);
    serving.signal(Signal::SIGTERM);
    let ended = serving.ended().await;
    ended.assert_code(0);
    let told = ended.stderr.matches("no client can connect").count();
    assert_eq!(
        told,
        ended.stderr.matches("clients can connect again").count()
    );
}

#[tokio::test]
async fn unusable_tls_files_are_reported_at_their_line() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let endpoint = config("[[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1 AS n\"");
    let tls = "[server]\ntls = { cert = \"a.crt\", key = \"a.key\" }";
    let text = endpoint.replace("[server]", tls);
    for (cert, key, reason) in [
        (None, Some(key.clone()), "cannot be read"),
        (Some(cert.clone()), None, "cannot be read"),
        (
            Some(String::new()),
            Some(key.clone()),
            "there is no certificate in this file",
        ),
        (
            Some(cert.clone()),
            Some(cert.clone()),
            "there is no private key in this file",
        ),
        (
            Some(cert.clone()),
            Some(other.signing_key.serialize_pem()),
            "this key does not belong to the certificate",
        ),
    ] {
        let files = [
            ("config.toml", Some(text.clone())),
            ("a.crt", cert),
            ("a.key", key),
        ];
        let files = files
            .iter()
            .filter_map(|(name, text)| Some((*name, text.as_deref()?)));
        let folder = folder(&files.collect::<Vec<_>>());
        for arguments in [&["serve"][..], &["check", "--offline"]] {
            Program::larder(arguments)
                .within(folder.path())
                .on("postgres://localhost/d")
                .run()
                .await
                .assert_code(1)
                .assert_stderr_has(reason)
                .assert_stderr_has("--> config.toml:");
        }
    }
}

#[tokio::test]
async fn without_postgres_it_runs_until_a_signal() {
    let (_port, url) = nowhere();
    let folder = folder(&[(
        "config.toml",
        &config("[[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1 AS n\""),
    )]);
    let mut serving = Program::larder(&["serve"])
        .within(folder.path())
        .on(&url)
        .start();
    let address = address(&mut serving).await;
    wait_for_stderr(&mut serving, "lost the connection to the repository").await;
    http::get(address, "/healthz").await.assert_status(200);
    http::get(address, "/readyz").await.assert_status(503);
    serving.signal(Signal::SIGTERM);
    serving.ended().await.assert_code(0);
}

#[tokio::test]
async fn a_taken_address_is_reported_with_advice() {
    let (_port, url) = nowhere();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let text = config("[[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1 AS n\"");
    let folder = folder(&[("config.toml", &text.replace("127.0.0.1:0", &taken))]);
    Program::larder(&["serve"])
        .within(folder.path())
        .on(&url)
        .run()
        .await
        .assert_code(1)
        .assert_stdout("")
        .assert_stderr_has(&format!("error: cannot listen on {taken}: "))
        .assert_stderr_has("stop the process that listens there")
        .assert_stderr_has("`listen` under [server]");
    Program::larder(&["demo", "--listen", &taken])
        .within(folder.path())
        .run()
        .await
        .assert_code(1)
        .assert_stdout("")
        .assert_stderr_has(&format!("error: cannot listen on {taken}: "))
        .assert_stderr_has("--listen");
}

#[tokio::test]
async fn it_listens_on_a_name_and_on_a_port_alone() {
    let (_port, url) = nowhere();
    let text = config("[[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1 AS n\"");
    for listen in ["localhost:0", ":0", "*:0", "[::]:0", "0.0.0.0:0"] {
        let folder = folder(&[("config.toml", &text.replace("127.0.0.1:0", listen))]);
        let mut serving = Program::larder(&["serve"])
            .within(folder.path())
            .on(&url)
            .start();
        let port = address(&mut serving).await.port();
        http::get(([127, 0, 0, 1], port).into(), "/healthz")
            .await
            .assert_status(200);
        serving.signal(Signal::SIGTERM);
        serving.ended().await.assert_code(0);
    }
    // RFC 6761, 6.4: this name is never there.
    let folder = folder(&[(
        "config.toml",
        &text.replace("127.0.0.1:0", "larder.invalid:80"),
    )]);
    Program::larder(&["serve"])
        .within(folder.path())
        .on(&url)
        .run()
        .await
        .assert_code(1)
        .assert_stderr_has("error: cannot listen on larder.invalid:80: ")
        .assert_stderr_has("choose another address with `listen` under [server]");
}

const N: &str =
    "[[endpoint]]\npath = \"/n/{n}\"\nsql = \"SELECT :n::int AS n\"\nmax_age = \"1h\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_json_unless_human_is_asked_for() {
    let db = Postgres::with("").await;
    let folder = folder(&[("config.toml", &config(N))]);
    let mut serving = Program::larder(&["serve"])
        .env("RUST_LOG", "info,larder::access=debug")
        .within(folder.path())
        .on(db.url())
        .start();
    let address = address(&mut serving).await;
    wait_for_stderr(&mut serving, "now ready").await;
    http::get(address, "/n/1471147114").await.assert_status(200);
    wait_for_stderr(&mut serving, "200 miss").await;
    serving.signal(Signal::SIGTERM);
    let ended = serving.ended().await;
    let lines: Vec<Value> = ended
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let said = |message: &str| {
        let is_it = |line: &&Value| line["message"].as_str().unwrap().starts_with(message);
        lines.iter().find(is_it).unwrap()
    };
    assert_eq!(said("larder ")["endpoints"], 1);
    assert_eq!(said("larder ")["url"], format!("http://{address}"));
    let access = said("200 miss");
    assert_eq!(access["endpoint"], "/n/{n}");
    assert_eq!(
        (&access["cache"], &access["code"]),
        (&json!("miss"), &json!(200))
    );
    assert!(
        access["took"].is_f64() && access["age"].is_f64(),
        "{access}"
    );
    assert!(
        !ended.stderr.contains("1471147114"),
        "arguments stay out of logs"
    );

    let mut serving = Program::larder(&["serve", "--log-format", "human"])
        .within(folder.path())
        .on(db.url())
        .start();
    wait_for_stderr(&mut serving, " INFO now ready\n").await;
    serving.signal(Signal::SIGTERM);
    serving.ended().await.assert_code(0);
}
