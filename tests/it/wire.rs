//! The wire: what hostile, slow and modern clients get, and what others notice of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use larder::observe::Event;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::app::App;
use crate::support::http::{self, Connection};
use crate::support::postgres::Postgres;

const ENDPOINTS: &str = r#"
    [[endpoint]]
    path = "/n"
    sql = "SELECT 1 AS n"
    shape = "value"
    max_age = "1h"
    [[endpoint]]
    path = "/large"
    sql = "SELECT repeat('x', 4000000) AS x"
    shape = "value"
    max_age = "1h"
"#;

/// Sends all of it, if the server takes it, and reads until it hangs up.
async fn converse(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut reads, mut writes) = stream.split();
    let write = async {
        // A server that has refused need not take the rest.
        let _ = writes.write_all(bytes).await;
        let _ = writes.shutdown().await;
    };
    let read = async {
        let mut answer = Vec::new();
        // A reset after the refusal is no less of an end.
        let _ = reads.read_to_end(&mut answer).await;
        answer
    };
    tokio::join!(write, read).1
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_is_refused_and_others_are_served() {
    let db = Postgres::with("").await;
    let app = App::start(&db, ENDPOINTS).await;
    let head = |rest: &str| format!("GET /n HTTP/1.1\r\nHost: l\r\n{rest}").into_bytes();
    let noise: Vec<u8> = (0..50_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let hello = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        vec![7; 508],
    ]
    .concat();
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("nothing", Vec::new(), &[]),
        ("noise", noise, &[400]),
        ("a hello of TLS", hello, &[400]),
        (
            "HTTP/2 that was not agreed on",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            &[400, 505],
        ),
        ("100,000 fields", head(&"a: b\r\n".repeat(100_000)), &[431]),
        (
            "101 fields",
            head(&("a: b\r\n".repeat(101) + "\r\n")),
            &[431],
        ),
        (
            "a field of 1 MB",
            head(&format!("a: {}\r\n\r\n", "b".repeat(1 << 20))),
            &[431],
        ),
        (
            "a target of 10 MB",
            format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(10 << 20)).into_bytes(),
            &[414, 431],
        ),
        (
            "a version to come",
            b"GET /n HTTP/9.9\r\n\r\n".to_vec(),
            &[400, 505],
        ),
        (
            "a NUL in a field",
            b"GET /n HTTP/1.1\r\na: \0\r\n\r\n".to_vec(),
            &[400],
        ),
        (
            "two lengths",
            head("content-length: 1\r\ncontent-length: 2\r\n\r\n"),
            &[400],
        ),
        (
            "length and chunks",
            head("content-length: 1\r\ntransfer-encoding: gzip\r\n\r\n"),
            &[400, 413],
        ),
        ("half a head", b"GET /n HTT".to_vec(), &[]),
    ];
    for (what, bytes, statuses) in cases {
        let answer = converse(app.address(), &bytes).await;
        let status = String::from_utf8_lossy(&answer)
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok());
        match status {
            Some(status) => assert!(statuses.contains(&status), "{what}: {status}"),
            None => assert!(answer.is_empty(), "{what}: {answer:?}"),
        }
        app.get("/n").await.assert_status(200).assert_json(json!(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_why_and_is_counted() {
    let db = Postgres::with("").await;
    let app = App::start(&db, ENDPOINTS).await;
    let target = format!("/n?{}", "a".repeat(8 << 10));
    let length = "POST /n HTTP/1.1\r\nHost: l\r\nContent-Length: 3\r\n\r\nabc";
    let cases = [
        (
            format!("GET {target} HTTP/1.1\r\nHost: l\r\n\r\n"),
            414,
            "LRD-112",
        ),
        (length.replace("POST", "GET"), 413, "LRD-113"),
        (length.replace("POST", "OPTIONS"), 413, "LRD-113"),
        (length.to_owned(), 405, "LRD-102"),
        (
            "CONNECT db:5432 HTTP/1.1\r\nHost: db\r\n\r\n".to_owned(),
            400,
            "LRD-110",
        ),
        (
            "BREW /n HTTP/1.1\r\nHost: l\r\n\r\n".to_owned(),
            405,
            "LRD-102",
        ),
    ];
    let served = |e: &Event| matches!(e, Event::RequestServed { .. });
    for (request, status, code) in cases {
        let before = app.count(served);
        let answer = http::raw(app.address(), request.as_bytes()).await;
        answer
            .assert_status(status)
            .assert_header("content-type", "application/problem+json");
        assert_eq!(answer.json()["code"], code, "{request}");
        assert_eq!(app.count(served), before + 1, "{request}");
    }
    for (request, status) in [
        ("OPTIONS * HTTP/1.1\r\nHost: l\r\n\r\n", 204),
        (
            "GET http://elsewhere.example/n HTTP/1.1\r\nHost: l\r\n\r\n",
            200,
        ),
        (
            "GET /n HTTP/1.1\r\nHost: l\r\nContent-Length: 0\r\n\r\n",
            200,
        ),
        (
            "GET /n HTTP/1.1\r\nHost: l\r\nExpect: 100-continue\r\n\r\n",
            200,
        ),
    ] {
        http::raw(app.address(), request.as_bytes())
            .await
            .assert_status(status);
    }
    for method in [
        "GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE",
    ] {
        let answer = http::request(app.address(), method, "/n", &[]).await;
        let expected = match method {
            "GET" | "HEAD" => 200,
            "OPTIONS" => 204,
            _ => 405,
        };
        assert_eq!(answer.status, expected, "{method}");
        if expected != 200 {
            answer.assert_header("allow", "GET, HEAD, OPTIONS");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_a_row_are_answered_in_a_row() {
    let db = Postgres::with("").await;
    let app = App::start(&db, ENDPOINTS).await;
    let mut connection = Connection::open(app.address()).await;
    let request = "GET /n HTTP/1.1\r\nHost: l\r\n\r\n";
    let missing = "GET /m HTTP/1.1\r\nHost: l\r\n\r\n";
    connection
        .send((request.repeat(15) + missing).as_bytes())
        .await;
    for _ in 0..15 {
        connection.answer("GET").await.assert_json(json!(1));
    }
    connection.answer("GET").await.assert_status(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_slow_clients_are_nobody_elses_business() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(16_384), hard).unwrap();
    let db = Postgres::with("").await;
    let app = App::start(&db, ENDPOINTS).await;
    app.get("/large").await.assert_status(200);
    let before = memory(&app).await;
    let slow = (0..2_000).map(|n| {
        let address = app.address();
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // Half of them never end their request, the others never read their answer.
            let sent: &[u8] = if n % 2 == 0 {
                b"GET /n HTTP/1.1\r\nHost: l\r\nx-slow: "
            } else {
                b"GET /large HTTP/1.1\r\nHost: l\r\n\r\n"
            };
            stream.write_all(sent).await.unwrap();
            if n % 2 == 1 {
                stream.readable().await.unwrap();
            }
            stream
        }
    });
    let held = join_all(slow).await;
    let mut connection = Connection::open(app.address()).await;
    for _ in 0..100 {
        connection.get("/n").await.assert_json(json!(1));
        app.get("/n").await.assert_json(json!(1));
    }
    let whole = connection.get("/large").await;
    assert_eq!(whole.body.len(), 4_000_002);
    // Four megabytes for each of a thousand would be four gigabytes: they share one.
    let grown = memory(&app).await.saturating_sub(before);
    assert!(grown < 512 << 20, "{grown} bytes more");
    drop(held);
    connection.get("/n").await.assert_json(json!(1));
}

async fn memory(app: &App) -> u64 {
    let metrics = app.get("/metrics").await;
    let name = "process_resident_memory_bytes ";
    let line = metrics
        .text()
        .lines()
        .find_map(|line| line.strip_prefix(name));
    line.unwrap().parse::<f64>().unwrap() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_when_it_is_told_to_stop_is_answered() {
    let db = Postgres::with("").await;
    let app = App::start(&db, ENDPOINTS).await;
    let served = |e: &Event| matches!(e, Event::RequestServed { code: 200, .. });
    let warmed = app.count(served);
    let (received, is_over) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let clients: Vec<_> = (0..64)
        .map(|n| {
            let (address, received, is_over) =
                (app.address(), Arc::clone(&received), Arc::clone(&is_over));
            let path = if n % 8 == 0 { "/large" } else { "/n" };
            let request = format!("GET {path} HTTP/1.1\r\nHost: l\r\n\r\n");
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let Ok(mut stream) = TcpStream::connect(address).await else {
                        break;
                    };
                    while is_answered(&mut stream, request.as_bytes()).await {
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    app.wait_for(warmed + 2_000, served).await;
    is_over.store(true, Ordering::Relaxed);
    let (could_end, answered) = app.stop_and_count(served).await;
    assert!(could_end);
    join_all(clients).await;
    assert_eq!(answered - warmed, received.load(Ordering::Relaxed));
}

/// Sends a request and says whether its answer came whole.
async fn is_answered(stream: &mut TcpStream, request: &[u8]) -> bool {
    if stream.write_all(request).await.is_err() {
        return false;
    }
    let mut answer = Vec::new();
    loop {
        if !matches!(stream.read_buf(&mut answer).await, Ok(read) if read > 0) {
            return false;
        }
        let Some(head) = answer.windows(4).position(|part| part == b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if answer.len() == head + 4 + length.unwrap().parse::<usize>().unwrap() {
            return true;
        }
    }
}

/// A certificate for `localhost` and its key, as PEM files.
fn certificate(folder: &TempDir) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(
        folder.path().join("server.key"),
        made.signing_key.serialize_pem(),
    )
    .unwrap();
    std::fs::write(folder.path().join("server.crt"), made.cert.pem()).unwrap();
    made.cert.der().clone()
}

fn tls(folder: &TempDir) -> String {
    let path = |name| folder.path().join(name).display().to_string();
    format!(
        "tls = {{ cert = {:?}, key = {:?} }}",
        path("server.crt"),
        path("server.key")
    )
}

async fn connect(
    address: SocketAddr,
    root: &CertificateDer<'static>,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// A request over HTTP/2: its status and body.
async fn over_h2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> (u16, Vec<u8>) {
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = warp::http::Request::get(format!("https://localhost{path}"))
        .body(())
        .unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let answer = answer.await.unwrap();
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    let mut bytes = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        bytes.extend_from_slice(&part);
    }
    (status, bytes)
}

/// A request over HTTP/1.1 on a stream that is kept.
async fn over_h1(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    stream
        .write_all(b"GET /n HTTP/1.1\r\nHost: l\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n1") {
        assert!(
            stream.read_buf(&mut answer).await.unwrap() > 0,
            "{answer:?}"
        );
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_agree_on_tls_and_on_the_version() {
    let folder = TempDir::new().unwrap();
    let root = certificate(&folder);
    let db = Postgres::with("").await;
    let app = App::start_with(&db, &tls(&folder), ENDPOINTS).await;
    let mut stream = connect(app.address(), &root, &[b"http/1.1"]).await.unwrap();
    assert!(over_h1(&mut stream).await.starts_with("HTTP/1.1 200"));
    let stream = connect(app.address(), &root, &[b"h2", b"http/1.1"])
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(over_h2(stream, "/n").await, (200, b"1".to_vec()));
    let stream = connect(app.address(), &root, &[b"h2"]).await.unwrap();
    let (status, body) = over_h2(stream, "/large").await;
    assert_eq!((status, body.len()), (200, 4_000_002));
    let stream = connect(app.address(), &root, &[b"h2"]).await.unwrap();
    assert_eq!(over_h2(stream, "/missing").await.0, 404);
    // Plain text, half a handshake, and nothing at all.
    let plain = http::raw(app.address(), b"GET /n HTTP/1.1\r\nHost: l\r\n\r\n").await;
    plain.assert_status(400);
    assert!(plain.text().ends_with("https://\n"), "{}", plain.text());
    converse(app.address(), b"\x16\x03\x01\x02\x00").await;
    let mut stream = connect(app.address(), &root, &[]).await.unwrap();
    assert!(over_h1(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_without_a_connection_lost() {
    let folder = TempDir::new().unwrap();
    let old = certificate(&folder);
    let db = Postgres::with("").await;
    let app = App::start_with(&db, &tls(&folder), ENDPOINTS).await;
    let mut open = connect(app.address(), &old, &[]).await.unwrap();
    over_h1(&mut open).await;

    std::fs::write(folder.path().join("server.crt"), "no certificate").unwrap();
    app.wait_for(1, |e| matches!(e, Event::CertificateRefused { .. }))
        .await;
    let mut still = connect(app.address(), &old, &[]).await.unwrap();
    over_h1(&mut still).await;

    let new = certificate(&folder);
    app.wait_for(1, |e| matches!(e, Event::CertificateRenewed))
        .await;
    over_h1(&mut open).await;
    assert!(connect(app.address(), &old, &[]).await.is_err());
    let mut renewed = connect(app.address(), &new, &[]).await.unwrap();
    over_h1(&mut renewed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_spoken_without_tls_where_that_is_said() {
    let db = Postgres::with("").await;
    let app = App::start_with(&db, "h2c = true", ENDPOINTS).await;
    let stream = TcpStream::connect(app.address()).await.unwrap();
    assert_eq!(over_h2(stream, "/n").await, (200, b"1".to_vec()));
    app.get("/n").await.assert_json(json!(1));
    // One byte at a time, in either version.
    for (bytes, expected) in [
        (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], None),
        (b"POST /n HTTP/1.1\r\n\r\n", Some("HTTP/1.1 405")),
    ] {
        let mut stream = TcpStream::connect(app.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in bytes {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        match expected {
            Some(text) => assert_eq!(&answer, text.as_bytes()),
            // A frame of settings: RFC 9113, 3.4.
            None => assert_eq!(answer[3], 4),
        }
    }
}
