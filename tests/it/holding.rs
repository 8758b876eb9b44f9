//! Clients that ask for much and take little: what of it they can hold.

use larder::encode::pending;
use larder::observe::Event;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use warp::http::Request;

use crate::support::app::App;
use crate::support::http::Connection;
use crate::support::postgres::Postgres;

/// Answers of which two fit in the cache, and not many more in what may wait.
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

/// What may wait, and what is loaded between two looks.
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
async fn connections_that_read_nothing_hold_no_more_than_may_wait() {
    let db = Postgres::with("").await;
    let app = App::start_with(&db, SERVER, ENDPOINTS).await;
    let mut held = Vec::new();
    for n in 0..CLIENTS {
        let mut stream = TcpStream::connect(app.address()).await.unwrap();
        let request = format!("GET /large/{n} HTTP/1.1\r\nHost: l\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        // The beginning of the answer has come, and nothing is read of it.
        stream.readable().await.unwrap();
        held.push(stream);
    }
    // Twenty hold 80 MB; two of those are kept, and four may wait.
    app.wait_for(10, is_cut).await;
    wait_until_relieved().await;
    assert!(app.count(is_cut) < CLIENTS, "all were cut");
    let mut connection = Connection::open(app.address()).await;
    let whole = connection.get("/large/100").await;
    whole.assert_status(200);
    assert!(whole.body.len() > 4_000_000);
    connection.get("/n").await.assert_status(200);
}

/// Large as it is, all of them share one, which is kept anyway.
#[tokio::test(flavor = "multi_thread")]
async fn many_that_read_slowly_what_is_kept_anyway_hold_nothing() {
    let db = Postgres::with("").await;
    let app = App::start_with(&db, SERVER, ENDPOINTS).await;
    let mut held = Vec::new();
    for _ in 0..CLIENTS {
        let mut connection = Connection::open(app.address()).await;
        let request = b"GET /large/1 HTTP/1.1\r\nHost: l\r\n\r\n";
        connection.send(request).await;
        held.push(connection);
    }
    // Meanwhile others have theirs.
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
async fn nor_do_the_streams_of_one_connection_and_its_others_go_on() {
    let db = Postgres::with("").await;
    let app = App::start_with(&db, SERVER, ENDPOINTS).await;
    let stream = TcpStream::connect(app.address()).await.unwrap();
    // A window of a thousand bytes per stream, so that none blocks another.
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
    // The slowest are those that came first.
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
