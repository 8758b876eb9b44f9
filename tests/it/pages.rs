//! Larder's own pages: who may see them, what all responses have in common, what is made once for all clients.

use larder::access::key::{digest, hexadecimal};
use larder::observe::Event;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use warp::http::Request;

use crate::support::app::App;
use crate::support::http::{self, Answer, Connection};
use crate::support::postgres::Postgres;
use crate::wire::ENDPOINTS;

const OWN: [&str; 12] = [
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/docs.css",
    "/docs/docs.js",
    "/status",
    "/status.json",
    "/status/history.json",
    "/status/status.css",
    "/status/status.js",
    "/status/uplot.css",
    "/status/uplot.js",
];

/// Sends a request that names these hosts, in its target and in `Host`.
async fn ask(app: &App, target: &str, host: Option<&str>) -> Answer {
    let host = host.map(|host| format!("Host: {host}\r\n"));
    let host = host.unwrap_or_default();
    let version = if host.is_empty() { "1.0" } else { "1.1" };
    let request = format!("GET {target} HTTP/{version}\r\n{host}Connection: close\r\n\r\n");
    http::raw(app.address(), request.as_bytes()).await
}

/// The status over HTTP/2, where the name is in `:authority`.
async fn ask_over_h2(app: &App, target: &str, authority: &str) -> u16 {
    let stream = TcpStream::connect(app.address()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let uri = format!("http://{authority}{target}");
    let request = Request::get(uri).body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    answer.await.unwrap().status().as_u16()
}

/// A foreign web page can have its name resolve to this machine. A browser then lets it read the responses to
/// requests for that name.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_host_sees_no_pages_of_a_server_on_loopback() {
    let db = Postgres::with("").await;
    let app = App::start_with(&db, "h2c = true", ENDPOINTS).await;
    let port = app.address().port();
    let local = [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "larder.localhost:8080",
        "127.0.0.1",
        "127.8.9.10:80",
        "[::1]",
        "[::ffff:127.0.0.1]",
        &format!("localhost:{port}"),
    ];
    let foreign = [
        "rebound.example",
        "REBOUND.example.",
        &format!("rebound.example:{port}"),
        "localhost.example",
        "notlocalhost",
        "10.0.0.1",
        "0.0.0.0",
        "[::2]",
        "127.0.0.1.example",
        "localhost:port",
    ];
    for page in OWN {
        for host in local {
            ask(&app, page, Some(host)).await.assert_status(200);
        }
        for host in foreign {
            let answer = ask(&app, page, Some(host)).await;
            answer.assert_status(421);
            assert_eq!(answer.json()["code"], "LRD-116", "{page} {host}");
        }
    }
    for (target, host, status) in [
        ("http://rebound.example/status.json", Some("localhost"), 421),
        ("http://localhost/status.json", Some("rebound.example"), 421),
        ("http://localhost/status.json", Some("localhost"), 200),
        ("/status%2Ejson", Some("rebound.example"), 421),
        ("/status.json", None, 200),
        ("/n", Some("rebound.example"), 200),
        ("/healthz", Some("10.0.0.1"), 200),
        ("/readyz", Some("10.0.0.1"), 200),
        ("/nothing", Some("rebound.example"), 404),
    ] {
        let answer = ask(&app, target, host).await;
        assert_eq!(answer.status, status, "{target} {host:?}");
    }
    for (authority, status) in [("localhost", 200), ("Rebound.example:80", 421)] {
        assert_eq!(ask_over_h2(&app, "/status.json", authority).await, status);
    }
    assert_eq!(ask_over_h2(&app, "/n", "rebound.example").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_hosts_set_only_health_checks_are_answered_for_others() {
    let db = Postgres::with("").await;
    let server = "h2c = true\nhosts = [\"API.example\", \"[::1]:8080\"]";
    let app = App::start_with(&db, server, ENDPOINTS).await;
    for target in ["/n", "/status.json", "/nothing"] {
        for (host, is_named) in [
            (Some("api.example"), true),
            (Some("api.example.:1"), true),
            (Some("[::1]:8080"), true),
            (Some("[::1]:8081"), false),
            (Some("[::1]"), false),
            (Some("localhost"), false),
            (Some(""), false),
            (None, false),
        ] {
            let answer = ask(&app, target, host).await;
            let is_refused = answer.status == 421;
            assert_eq!(is_refused, !is_named, "{target} {host:?}");
        }
    }
    for target in ["/healthz", "/readyz"] {
        ask(&app, target, Some("10.0.0.1")).await.assert_status(200);
        ask(&app, target, None).await.assert_status(200);
    }
    assert_eq!(ask_over_h2(&app, "/n", "api.example").await, 200);
    assert_eq!(ask_over_h2(&app, "/n", "localhost").await, 421);
    let both = ask(&app, "http://api.example/n", Some("localhost")).await;
    both.assert_status(421);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_forbids_sniffing_and_own_pages_allow_no_other_origin() {
    let db = Postgres::with("").await;
    let endpoints = format!("[server.cors]\norigins = [\"https://a.example\"]\n{ENDPOINTS}");
    let app = App::start(&db, &endpoints).await;
    let others = ["/healthz", "/readyz", "/n", "/n?x=1", "/nothing", "/n.csv"];
    for target in OWN.into_iter().chain(others) {
        let is_own = target.ends_with('z') || OWN.contains(&target);
        for method in ["GET", "HEAD", "OPTIONS", "POST"] {
            for fields in [
                [("Origin", "https://a.example"), ("If-None-Match", "*")],
                [
                    ("Origin", "https://a.example"),
                    ("Accept-Encoding", "*;q=0"),
                ],
            ] {
                let answer = http::request(app.address(), method, target, &fields).await;
                answer.assert_header("x-content-type-options", "nosniff");
                let cors = |(name, _): &(String, _)| name.starts_with("access-control-");
                let has_cors = answer.headers.iter().any(cors);
                assert_eq!(has_cors, !is_own, "{method} {target}");
            }
        }
    }
}

/// Browsers open them without a credential, so they must not depend on anything that needs one.
#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_pages_are_the_same_for_all_servers_and_clients() {
    let db = Postgres::with("").await;
    let open = App::start(&db, ENDPOINTS).await;
    let digest = hexadecimal(&digest("key"));
    let closed = App::start(
        &db,
        &format!(
            "[access]\ndefault = \"deny\"\n[[access.key]]\nname = \"k\"\nsha256 = [\"{digest}\"]\n\
             [[endpoint]]\npath = \"/secret-path\"\nsql = \"SELECT 1 AS secret_column\""
        ),
    )
    .await;
    let data = [
        "/metrics",
        "/openapi.json",
        "/status.json",
        "/status/history.json",
    ];
    for page in OWN.into_iter().filter(|page| !data.contains(page)) {
        let files = [&open, &closed].map(|app| async {
            let answer = app.get(page).await;
            answer.assert_status(200);
            (answer.header("etag").map(str::to_owned), answer.body)
        });
        let [a, b] = files;
        let (a, b) = (a.await, b.await);
        assert_eq!(a, b, "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_rendered_once_for_all_requests_within_a_second() {
    let db = Postgres::with("").await;
    let app = App::start(&db, ENDPOINTS).await;
    // A client that does not read delays no other.
    let mut silent = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(app.address()).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        silent.push(stream);
    }
    let mut connection = Connection::open(app.address()).await;
    let first = connection.get("/metrics").await;
    let mut same = 0;
    // Each rendering counts the requests before it, so only the same rendering is equal.
    loop {
        let next = connection.get("/metrics").await;
        if next.body != first.body {
            break;
        }
        same += 1;
    }
    assert!(same > 0);
    let served = app.count(|e| matches!(e, Event::RequestServed { endpoint: None, .. }));
    assert!(served > same);
    let coded = [("Accept-Encoding", "gzip")];
    let coded = connection.request("GET", "/metrics", &coded).await;
    coded
        .assert_header("content-encoding", "gzip")
        .assert_header("vary", "Accept-Encoding");
    assert!(coded.body.len() < first.body.len() / 4);
}
