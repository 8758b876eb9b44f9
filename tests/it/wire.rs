//! What hostile and slow clients get, and that other clients do not notice them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use larder::observe::Event;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::app::App;
use crate::support::http::{self, Connection};
use crate::support::postgres::Postgres;

/// A tiny answer, and one that no buffer holds.
pub(crate) const ENDPOINTS: &str = r#"
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

/// A request with a chunked body, up to its first chunk.
const CHUNKED: &str = "GET /n HTTP/1.1\r\nHost: l\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Sends all bytes that the server takes, and reads until it closes the connection.
async fn converse(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut reads, mut writes) = stream.split();
    let write = async {
        // A server that has refused a request need not take the rest.
        let _ = writes.write_all(bytes).await;
        let _ = writes.shutdown().await;
    };
    let read = async {
        let mut answer = Vec::new();
        // A reset after the refusal is an end too.
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
        ("a TLS client hello", hello, &[400]),
        (
            "HTTP/2 without h2c",
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
            format!("GET /{} HTTP/1.1\r\nHost: l\r\n\r\n", "a".repeat(10 << 20)).into_bytes(),
            &[414, 431],
        ),
        (
            "an unknown version",
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
            "a length and chunks",
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
async fn a_refusal_gives_a_reason_and_is_counted() {
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
        (format!("{CHUNKED}1\r\na\r\n0\r\n\r\n"), 413, "LRD-113"),
        (
            CHUNKED.replace("Transfer", "Expect: 100-continue\r\nTransfer"),
            413,
            "LRD-113",
        ),
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
        ("GET /n HTTP/1.1\r\n\r\n".to_owned(), 400, "LRD-114"),
        ("GET http://l/n HTTP/1.1\r\n\r\n".to_owned(), 400, "LRD-114"),
        (
            "GET /n HTTP/1.1\r\nHost: l\r\nHost: l\r\n\r\n".to_owned(),
            400,
            "LRD-114",
        ),
        (
            "GET /n HTTP/1.1\r\nHost: l/x\r\n\r\n".to_owned(),
            400,
            "LRD-114",
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
        (&format!("{CHUNKED}0\r\n\r\n"), 200),
        (
            &format!("{CHUNKED}0\r\n\r\n").replace("GET", "OPTIONS"),
            204,
        ),
        ("GET /n HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 200),
        ("GET /n HTTP/1.1\r\nHost:\r\n\r\n", 200),
        ("GET /n HTTP/1.0\r\n\r\n", 200),
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
async fn pipelined_requests_are_answered_in_order() {
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

/// RFC 9112, 11.2: a request smuggled in a body is not answered.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_behind_a_body_is_taken_for_a_request() {
    let db = Postgres::with("").await;
    let app = App::start(&db, ENDPOINTS).await;
    let next = "GET /n HTTP/1.1\r\nHost: l\r\n\r\n";
    for (request, status) in [
        (
            "GET /n HTTP/1.1\r\nHost: l\r\nContent-Length: 3\r\n\r\nabc",
            413,
        ),
        (
            "POST /n HTTP/1.1\r\nHost: l\r\nContent-Length: 3\r\n\r\nabc",
            405,
        ),
        (
            "POST /n HTTP/1.1\r\nHost: l\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
             0\r\n\r\n",
            405,
        ),
        (
            "POST /m HTTP/1.1\r\nHost: l\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
            404,
        ),
        (&format!("{CHUNKED}0\r\n\r\n"), 200),
        (&format!("{CHUNKED}0\r\nx: y\r\n\r\n"), 200),
    ] {
        let mut connection = Connection::open(app.address()).await;
        connection.send(format!("{request}{next}").as_bytes()).await;
        connection
            .answer("GET")
            .await
            .assert_status(status)
            .assert_header("connection", "close");
        assert!(connection.is_closed().await, "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_chunked_body_is_accepted_at_its_end() {
    let db = Postgres::with("").await;
    let app = App::start(&db, ENDPOINTS).await;
    for method in ["GET", "HEAD"] {
        let mut connection = Connection::open(app.address()).await;
        let head = CHUNKED.replace("GET", method);
        for part in [&head, "0\r", "\n\r\n"] {
            connection.send(part.as_bytes()).await;
            tokio::task::yield_now().await;
        }
        let answer = connection.answer(method).await;
        answer
            .assert_status(200)
            .assert_header("content-length", "1");
    }
    // The body is cut off before its end.
    let broken = converse(app.address(), CHUNKED.as_bytes()).await;
    assert!(broken.starts_with(b"HTTP/1.1 413 "), "{broken:?}");
    app.get("/n").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_requests_are_counted_by_their_status() {
    let db = Postgres::with("").await;
    let app = App::start(&db, ENDPOINTS).await;
    let long = format!(
        "GET /n HTTP/1.1\r\nHost: l\r\na: {}\r\n\r\n",
        "b".repeat(1 << 17)
    );
    for (bytes, status) in [("nonsense\r\n\r\n", 400), (&long, 431)] {
        let refused = |e: &Event| matches!(e, Event::RequestServed { code, .. } if *code == status);
        let before = app.count(refused);
        let answer = converse(app.address(), bytes.as_bytes()).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
        app.wait_for(before + 1, refused).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_beyond_max_connections_get_503_with_retry_after() {
    let db = Postgres::with("").await;
    let app = App::start_with(&db, "max_connections = 1", ENDPOINTS).await;
    let closed = |e: &Event| matches!(e, Event::ConnectionClosed);
    let opened = app.count(|e: &Event| matches!(e, Event::ConnectionOpened));
    app.wait_for(opened, closed).await;
    let mut first = Connection::open(app.address()).await;
    first.get("/n").await.assert_status(200);
    for _ in 0..3 {
        let refused = app.get("/n").await;
        refused.assert_status(503).assert_header("retry-after", "1");
    }
    first.get("/n").await.assert_status(200);
    let refused = |e: &Event| matches!(e, Event::RequestServed { code: 503, .. });
    app.wait_for(3, refused).await;
    drop(first);
    app.wait_for(opened + 1, closed).await;
    app.get("/n").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_slow_clients_do_not_affect_others() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(16_384), hard).unwrap();
    let db = Postgres::with("").await;
    let app = App::start(&db, ENDPOINTS).await;
    app.get("/large").await.assert_status(200);
    let before = memory();
    let slow = (0..2_000).map(|n| {
        let address = app.address();
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // Half of them never end their request, the others never read the response.
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
    // Four megabytes for each of a thousand clients would be four gigabytes: they share one answer.
    let grown = memory().saturating_sub(before);
    assert!(grown < 512 << 20, "{grown} bytes more");
    drop(held);
    connection.get("/n").await.assert_json(json!(1));
}

/// The resident memory of this process, server included, in bytes.
pub(crate) fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = line.and_then(|line| line.split_whitespace().next());
    size.unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_at_shutdown_are_answered() {
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

/// Sends a request, and returns whether its response arrives complete.
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
