//! Clients that request much and read little: how much memory they can hold.

use larder::encode::pending;
use larder::observe::Event;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use warp::http::Request;

use crate::support::app::App;
use crate::support::http::Connection;
use crate::support::postgres::Postgres;

/// Answers of which two fit into the cache, and few more into `max_pending`.
const ENDPOINTS: &str = r#"
    [cache]
    max_size = "9MiB"
    [defaults]
    max_bytes = "5MiB"
    [[endpoint]]
    path = "/large/{n}"
    sql = "SELECT :n::int AS n, repeat('x', 4000000) AS x"
    max_age = "1h"
    [[endpoint]]
    path = "/n"
    sql = "SELECT 1 AS n"
    shape = "value"
    max_age = "1h"
"#;

const SERVER: &str = "max_pending = \"16MiB\"\nh2c = true";

/// `max_pending`, and what is loaded between two checks.
const HELD_MAX: u64 = (16 + 16) << 20;

const CLIENTS: usize = 20;

fn is_cut(event: &Event) -> bool {
    matches!(event, Event::SlowClientCut)
}

async fn wait_until_relieved() {
    while pending::total() > HELD_MAX {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_read_nothing_hold_no_more_than_max_pending() {
    let db = Postgres::with("").await;
    let app = App::start_with(&db, SERVER, ENDPOINTS).await;
    let mut held = Vec::new();
    for n in 0..CLIENTS {
        let mut stream = TcpStream::connect(app.address()).await.unwrap();
        let request = format!("GET /large/{n} HTTP/1.1\r\nHost: l\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        // The start of the response has arrived, and stays unread.
        stream.readable().await.unwrap();
        held.push(stream);
    }
    // Twenty answers are 80 MB; two of them are in the cache, and four may be pending.
    app.wait_for(10, is_cut).await;
    wait_until_relieved().await;
    assert!(app.count(is_cut) < CLIENTS, "all were cut");
    let mut connection = Connection::open(app.address()).await;
    let whole = connection.get("/large/100").await;
    whole.assert_status(200);
    assert!(whole.body.len() > 4_000_000);
    connection.get("/n").await.assert_status(200);
}

/// The answer is large, but all of them share it with the cache.
#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_of_a_cached_answer_hold_nothing() {
    let db = Postgres::with("").await;
    let app = App::start_with(&db, SERVER, ENDPOINTS).await;
    let mut held = Vec::new();
    for _ in 0..CLIENTS {
        let mut connection = Connection::open(app.address()).await;
        let request = b"GET /large/1 HTTP/1.1\r\nHost: l\r\n\r\n";
        connection.send(request).await;
        held.push(connection);
    }
    // Other clients get their responses meanwhile.
    let mut connection = Connection::open(app.address()).await;
    for n in 2..5 {
        let whole = connection.get(&format!("/large/{n}")).await;
        assert!(whole.body.len() > 4_000_000);
    }
    for connection in &mut held {
        let whole = connection.answer("GET").await;
        assert!(whole.body.len() > 4_000_000);
    }
    assert_eq!(app.count(is_cut), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_read_nothing_are_reset_and_others_on_the_connection_go_on() {
    let db = Postgres::with("").await;
    let app = App::start_with(&db, SERVER, ENDPOINTS).await;
    let stream = TcpStream::connect(app.address()).await.unwrap();
    // A window of a thousand bytes per stream, so that no stream blocks another.
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(1_000)
        .initial_connection_window_size(1 << 30)
        .handshake::<_, bytes::Bytes>(stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let mut bodies = Vec::new();
    for n in 0..CLIENTS {
        let request = Request::get(format!("http://l/large/{n}"));
        let (answer, _) = client
            .send_request(request.body(()).unwrap(), true)
            .unwrap();
        client = client.ready().await.unwrap();
        bodies.push(answer.await.unwrap().into_body());
    }
    app.wait_for(10, is_cut).await;
    wait_until_relieved().await;
    let request = Request::get("http://l/n").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    assert!(app.count(is_cut) < CLIENTS, "all were cut");
    // The slowest are the first.
    let body = &mut bodies[0];
    let ended = loop {
        match body.data().await {
            Some(Ok(part)) => assert!(part.len() <= 1_000),
            Some(Err(error)) => break error,
            None => panic!("it ends as if it were whole"),
        }
    };
    assert_eq!(ended.reason(), Some(h2::Reason::CANCEL));
}
