//! A credential expires while a connection is kept. The program is shown a clock of the test's, which is set.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use larder::access::key;
use tokio::net::TcpStream;
use warp::http::Request;

use super::clock::WallClock;
use super::serve::{address, wait_for_stderr};
use super::{config, folder};
use crate::support::front::{Cache, Front};
use crate::support::http::{Answer, Connection};
use crate::support::postgres::Postgres;
use crate::support::program::Program;

const ENDPOINT: &str = r#"
    [[endpoint]]
    path = "/closed"
    sql = "SELECT 'secret' AS v"
    shape = "row"
    max_age = "2h"
    stale_while_revalidate = "1h"
    stale_if_error = "3h"
"#;

/// In seconds, from the start of the clock until the key expires.
const VALID: u64 = 3_600;

/// The program, with a key that expires at 07:00 on the day that the clock shows.
fn configuration() -> String {
    let digest = key::hexadecimal(&key::digest("brief-key"));
    config(&format!(
        "[access]\ndefault = \"deny\"\n\
         [[access.key]]\nname = \"brief\"\nsha256 = [\"{digest}\"]\nexpires = 2026-03-10T07:00:00Z\n{ENDPOINT}"
    ))
    .replace("[server]", "[server]\nh2c = true")
}

/// A connection that is kept.
enum Kept {
    Http1(Connection),
    Http2(SendRequest<Bytes>),
}

impl Kept {
    async fn over_h2(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self::Http2(client)
    }

    /// Asks with the key, and perhaps with the tag of an answer.
    async fn ask(&mut self, method: &str, tag: Option<&str>) -> Answer {
        let mut fields = vec![("x-api-key", "brief-key")];
        fields.extend(tag.map(|tag| ("if-none-match", tag)));
        match self {
            Self::Http1(connection) => connection.request(method, "/closed", &fields).await,
            Self::Http2(client) => {
                let mut request = Request::builder()
                    .method(method)
                    .uri("http://localhost/closed");
                for (name, value) in fields {
                    request = request.header(name, value);
                }
                let mut client = client.clone().ready().await.unwrap();
                let (answer, _) = client
                    .send_request(request.body(()).unwrap(), true)
                    .unwrap();
                let (head, mut body) = answer.await.unwrap().into_parts();
                let mut bytes = Vec::new();
                while let Some(part) = body.data().await {
                    bytes.extend_from_slice(&part.unwrap());
                }
                let field = |(name, value): (&warp::http::HeaderName, &warp::http::HeaderValue)| {
                    (name.to_string(), value.to_str().unwrap().to_owned())
                };
                Answer {
                    status: head.status.as_u16(),
                    headers: head.headers.iter().map(field).collect(),
                    body: bytes,
                }
            }
        }
    }
}

/// What a cache may do with the answer, in seconds.
fn directive(answer: &Answer, name: &str) -> u64 {
    let cache_control = answer.header("cache-control").unwrap();
    let mut directives = cache_control.split(", ");
    let found = directives.find_map(|it| it.strip_prefix(name)?.strip_prefix('='));
    found.unwrap().parse().unwrap()
}

fn assert_kept_no_longer_than(answer: &Answer, seconds: u64) {
    let max_age = directive(answer, "max-age");
    for window in ["stale-while-revalidate", "stale-if-error"] {
        assert!(max_age + directive(answer, window) <= seconds, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_expires_on_a_kept_connection_when_the_clock_says_so() {
    let db = Postgres::with("").await;
    let folder = folder(&[("config.toml", &configuration())]);
    let clock = WallClock::at("2026-03-10 06:00:00");
    let program = Program::larder(&["serve"]).within(folder.path());
    let mut serving = clock.seen_by(program).on(&db.patient_url()).start();
    let address = address(&mut serving).await;
    wait_for_stderr(&mut serving, "now ready").await;
    let nginx = Front::of(Cache::Nginx, address).await;
    let mut kept = [
        Kept::Http1(Connection::open(address).await),
        Kept::over_h2(address).await,
        Kept::Http1(Connection::open(nginx.address).await),
    ];
    // nginx has no use for a tag where it may not store the answer, and does not pass it on.
    for (connection, revalidated) in kept.iter_mut().zip([304, 304, 200]) {
        let first = connection.ask("GET", None).await;
        first.assert_status(200);
        // It is valid for half as long as the answer is fresh.
        assert_kept_no_longer_than(&first, VALID);
        assert!(directive(&first, "max-age") > VALID / 2, "{first:?}");
        let tag = first.header("etag").map(str::to_owned);
        for (method, tag, status) in [("GET", tag.as_deref(), revalidated), ("HEAD", None, 200)] {
            let answer = connection.ask(method, tag).await;
            answer.assert_status(status);
            assert_kept_no_longer_than(&answer, VALID);
        }
    }

    clock.set("2026-03-10 06:59:00");
    for connection in &mut kept {
        let last = connection.ask("GET", None).await;
        last.assert_status(200);
        assert_kept_no_longer_than(&last, 60);
    }
    let tag = kept[0]
        .ask("GET", None)
        .await
        .header("etag")
        .map(str::to_owned);

    clock.set("2026-03-10 07:00:00");
    for connection in &mut kept {
        for (method, tag) in [("GET", None), ("GET", tag.as_deref()), ("HEAD", None)] {
            let answer = connection.ask(method, tag).await;
            answer
                .assert_status(401)
                .assert_header("cache-control", "no-store");
            assert_eq!(answer.header("etag"), None);
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.contains("expired"), "{challenge}");
            if method == "GET" {
                assert_eq!(answer.json()["code"], "LRD-202");
            }
        }
    }
}
