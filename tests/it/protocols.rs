//! What clients and the server agree on before the first request: TLS and its certificate, the version of HTTP.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use larder::observe::Event;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use warp::http::{Method, Request, Response};

use crate::support::app::App;
use crate::support::gate::{GATED, Gate};
use crate::support::http;
use crate::support::postgres::Postgres;
use crate::wire::ENDPOINTS;

/// A certificate for `localhost` and its key, as PEM files.
pub(crate) fn certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("server.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("server.crt"), made.cert.pem()).unwrap();
    made.cert.der().clone()
}

pub(crate) fn tls(folder: &Path) -> String {
    let path = |name| folder.join(name).display().to_string();
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

/// Sends a `GET` over HTTP/2, and returns the status and the body.
async fn over_h2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> (u16, Vec<u8>) {
    let (head, body) = ask_over_h2(stream, Method::GET, path).await.into_parts();
    (head.status.as_u16(), body)
}

async fn ask_over_h2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: Method,
    path: &str,
) -> Response<Vec<u8>> {
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .body(())
        .unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let (head, mut body) = answer.await.unwrap().into_parts();
    let mut bytes = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        bytes.extend_from_slice(&part);
    }
    Response::from_parts(head, bytes)
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
    let root = certificate(folder.path());
    let db = Postgres::with("").await;
    let app = App::start_with(&db, &tls(folder.path()), ENDPOINTS).await;
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
    assert!(plain.text().contains("https://"), "{}", plain.text());
    assert!(plain.header("date").is_some());
    let mut half = TcpStream::connect(app.address()).await.unwrap();
    half.write_all(b"\x16\x03\x01\x02\x00").await.unwrap();
    drop(half);
    let mut stream = connect(app.address(), &root, &[]).await.unwrap();
    assert!(over_h1(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_used_and_no_connection_is_lost() {
    let folder = TempDir::new().unwrap();
    let old = certificate(folder.path());
    let db = Postgres::with("").await;
    let app = App::start_with(&db, &tls(folder.path()), ENDPOINTS).await;
    let mut open = connect(app.address(), &old, &[]).await.unwrap();
    over_h1(&mut open).await;

    std::fs::write(folder.path().join("server.crt"), "no certificate").unwrap();
    app.wait_for(1, |e| matches!(e, Event::CertificateRefused { .. }))
        .await;
    let mut still = connect(app.address(), &old, &[]).await.unwrap();
    over_h1(&mut still).await;

    let new = certificate(folder.path());
    app.wait_for(1, |e| matches!(e, Event::CertificateRenewed))
        .await;
    over_h1(&mut open).await;
    assert!(connect(app.address(), &old, &[]).await.is_err());
    let mut renewed = connect(app.address(), &new, &[]).await.unwrap();
    over_h1(&mut renewed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_without_tls_needs_h2c() {
    let db = Postgres::with("").await;
    let app = App::start_with(&db, "h2c = true", ENDPOINTS).await;
    let stream = TcpStream::connect(app.address()).await.unwrap();
    assert_eq!(over_h2(stream, "/n").await, (200, b"1".to_vec()));
    app.get("/n").await.assert_json(json!(1));
    // One byte at a time, in either version.
    for (bytes, expected) in [
        (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], None),
        (b"POST /n HTTP/1.1\r\nHost: l\r\n\r\n", Some("HTTP/1.1 405")),
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
            // A SETTINGS frame: RFC 9113, 3.4.
            None => assert_eq!(answer[3], 4),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_http2_is_refused_and_an_empty_one_accepted() {
    let db = Postgres::with("").await;
    let app = App::start_with(&db, "h2c = true", ENDPOINTS).await;
    for (parts, status) in [
        (&[""][..], 200),
        (&["", "", ""], 200),
        (&["a"], 413),
        (&["", "a"], 413),
    ] {
        let stream = TcpStream::connect(app.address()).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = Request::get("http://localhost/n").body(()).unwrap();
        let (answer, mut content) = client.send_request(request, false).unwrap();
        for (at, part) in parts.iter().enumerate() {
            let is_end = at + 1 == parts.len();
            content.send_data((*part).into(), is_end).unwrap();
        }
        assert_eq!(answer.await.unwrap().status(), status, "{parts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_to_head_has_no_body_in_either_version() {
    let db = Postgres::with("").await;
    let app = App::start_with(&db, "h2c = true", ENDPOINTS).await;
    for (path, status) in [
        ("/n", 200),
        ("/large", 200),
        ("/missing", 404),
        ("/docs", 200),
    ] {
        let over_h2 = async |method| {
            let stream = TcpStream::connect(app.address()).await.unwrap();
            ask_over_h2(stream, method, path).await
        };
        let (whole, head) = (over_h2(Method::GET).await, over_h2(Method::HEAD).await);
        let h1 = http::request(app.address(), "HEAD", path, &[]).await;
        assert_eq!(head.status(), status);
        assert!(head.body().is_empty() && h1.body.is_empty(), "{path}");
        for name in ["content-length", "content-type", "etag"] {
            let field = |of: &Response<_>| of.headers().get(name).cloned();
            assert_eq!(field(&head), field(&whole), "{path} {name}");
            let h1 = h1.header(name).map(str::as_bytes);
            assert_eq!(field(&head).as_ref().map(|it| it.as_bytes()), h1, "{path}");
        }
        let length = whole.body().len().to_string();
        assert_eq!(head.headers()["content-length"], *length, "{path}");
    }
}

fn renewed(event: &Event) -> bool {
    matches!(event, Event::CertificateRenewed)
}

/// Kubernetes replaces a secret like this: the names stay, and a symbolic link between them points elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_behind_a_symbolic_link_is_renewed_with_the_link() {
    let folder = TempDir::new().unwrap();
    let within = |name: &str| folder.path().join(name);
    let roots = ["old", "new"].map(|name| {
        std::fs::create_dir(within(name)).unwrap();
        certificate(&within(name))
    });
    symlink("old", within("data")).unwrap();
    for name in ["server.crt", "server.key"] {
        symlink(Path::new("data").join(name), within(name)).unwrap();
    }
    let db = Postgres::with("").await;
    let app = App::start_with(&db, &tls(folder.path()), ENDPOINTS).await;
    let mut open = connect(app.address(), &roots[0], &[]).await.unwrap();
    over_h1(&mut open).await;
    symlink("new", within("next")).unwrap();
    std::fs::rename(within("next"), within("data")).unwrap();
    app.wait_for(1, renewed).await;
    over_h1(&mut connect(app.address(), &roots[1], &[]).await.unwrap()).await;
    over_h1(&mut open).await;

    // To a missing target, and back to the certificate in use.
    for (to, reported) in [
        (
            "nowhere",
            (|e| matches!(e, Event::CertificateRefused { .. })) as fn(&_) -> _,
        ),
        ("new", |e| matches!(e, Event::CertificateRestored)),
    ] {
        symlink(to, within("next")).unwrap();
        std::fs::rename(within("next"), within("data")).unwrap();
        app.wait_for(1, reported).await;
    }
    over_h1(&mut connect(app.address(), &roots[1], &[]).await.unwrap()).await;
    assert_eq!(app.count(renewed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_out_of_date_is_reported_and_used() {
    let folder = TempDir::new().unwrap();
    let outdated = || {
        let signing_key = rcgen::KeyPair::generate().unwrap();
        let mut wanted = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        wanted.not_after = rcgen::date_time_ymd(2021, 3, 4);
        let made = wanted.self_signed(&signing_key).unwrap();
        let within = |name: &str| folder.path().join(name);
        std::fs::write(within("server.crt"), made.pem()).unwrap();
        std::fs::write(within("server.key"), signing_key.serialize_pem()).unwrap();
        made
    };
    outdated();
    let db = Postgres::with("").await;
    let app = App::start_with(&db, &tls(folder.path()), ENDPOINTS).await;
    let is_reported = |e: &Event| matches!(e, Event::CertificateOutOfDate { cause } if cause.contains("Thu, 04 Mar 2021"));
    app.wait_for(1, is_reported).await;
    // The renewed certificate is out of date too, and that is reported.
    let made = outdated();
    app.wait_for(2, is_reported).await;
    assert_eq!(app.count(renewed), 1);
    assert!(connect(app.address(), made.der(), &[]).await.is_err());
    let sound = certificate(folder.path());
    app.wait_for(2, renewed).await;
    over_h1(&mut connect(app.address(), &sound, &[]).await.unwrap()).await;
    assert_eq!(app.count(is_reported), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_clients_beyond_max_connections_get_an_alert() {
    let folder = TempDir::new().unwrap();
    let root = certificate(folder.path());
    let db = Postgres::with("").await;
    let server = format!("max_connections = 1\n{}", tls(folder.path()));
    let app = App::start_with(&db, &server, ENDPOINTS).await;
    let mut first = connect(app.address(), &root, &[]).await.unwrap();
    over_h1(&mut first).await;
    let refused = connect(app.address(), &root, &[]).await.unwrap_err();
    assert!(refused.to_string().contains("InternalError"), "{refused}");
    over_h1(&mut first).await;
}

/// A silent connection, and one in the middle of a handshake, has no request that has to end.
#[tokio::test(flavor = "multi_thread")]
async fn connections_without_a_request_do_not_delay_the_shutdown() {
    let folder = TempDir::new().unwrap();
    certificate(folder.path());
    let db = Postgres::with("").await;
    for server in [&tls(folder.path()), "h2c = true"] {
        let server = format!("shutdown_timeout = \"5s\"\n{server}");
        let app = App::start_with(&db, &server, ENDPOINTS).await;
        let opened = |e: &Event| matches!(e, Event::ConnectionOpened);
        let before = app.count(opened);
        let mut held = Vec::new();
        let begun: &[&[u8]] = if server.contains("h2c") {
            &[
                b"",
                b"PRI",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
                b"\r\n",
                b"GET /n HTTP/1.1\r\nHost",
                b"GET /n HTTP/1.1\r\nHost: l\r\n",
            ]
        } else {
            &[b"", b"\x16\x03\x01\x02\x00"]
        };
        for begun in begun {
            let mut stream = TcpStream::connect(app.address()).await.unwrap();
            stream.write_all(begun).await.unwrap();
            held.push(stream);
        }
        app.wait_for(before + held.len(), opened).await;
        // The same holds for one that had a response, and is silent or has begun another request.
        if server.contains("h2c") {
            let mut connection = http::Connection::open(app.address()).await;
            connection.get("/n").await.assert_status(200);
            connection.send(b"GET /n HT").await;
            let stream = TcpStream::connect(app.address()).await.unwrap();
            assert_eq!(over_h2(stream, "/n").await.0, 200);
            assert!(app.stop().await, "{server}");
            assert!(connection.is_closed().await);
        } else {
            assert!(app.stop().await, "{server}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_clients_get_goaway_and_their_responses() {
    let db = Postgres::with("").await;
    let app = App::start_with(&db, "h2c = true", GATED).await;
    let stream = TcpStream::connect(app.address()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let gate = Gate::close(&db).await;
    let ask = |path: &str| {
        let uri = format!("http://localhost{path}");
        Request::get(uri).body(()).unwrap()
    };
    let (running, _) = client.send_request(ask("/gated/1"), true).unwrap();
    gate.wait_for_queries(1).await;
    let stopping = tokio::spawn(app.stop());
    // Until the client gets GOAWAY, it may send more requests. They are refused, or answered like the first.
    let goaway = loop {
        match client.ready().await {
            Ok(ready) => client = ready,
            Err(error) => break error,
        }
        tokio::task::yield_now().await;
    };
    assert!(goaway.is_go_away(), "{goaway}");
    assert_eq!(goaway.reason(), Some(h2::Reason::NO_ERROR));
    gate.open().await;
    assert_eq!(running.await.unwrap().status(), 200);
    assert!(stopping.await.unwrap());
    connection.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_have_the_same_limits_in_both_versions() {
    let db = Postgres::with("").await;
    let app = App::start_with(&db, "h2c = true", ENDPOINTS).await;
    let stream = TcpStream::connect(app.address()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for (fields, expected) in [(100, 200), (101, 431)] {
        let mut request = Request::get("http://localhost/n");
        for n in 0..fields {
            request = request.header(format!("x-{n}"), "1");
        }
        client = client.ready().await.unwrap();
        let request = request.body(()).unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        let mut answer = answer.await.unwrap();
        assert_eq!(answer.status(), expected);
        let body = answer.body_mut().data().await.unwrap().unwrap();
        let says_why = String::from_utf8_lossy(&body).contains("LRD-115");
        assert_eq!(says_why, expected == 431);
    }
}
