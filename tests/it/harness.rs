//! What the tests stand on does what it says.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::http::{self, Connection};
use crate::support::postgres::{Postgres, with_search_path};

async fn number(postgres: &Postgres, sql: &str) -> i64 {
    postgres
        .client()
        .await
        .query_one(sql, &[])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn each_test_sees_its_own_tables() {
    let one = Postgres::with("CREATE TABLE n AS SELECT 1::int8 AS v").await;
    let other = Postgres::with("CREATE TABLE n AS SELECT 2::int8 AS v").await;
    assert_eq!(number(&one, "SELECT v FROM n").await, 1);
    assert_eq!(number(&other, "SELECT v FROM n").await, 2);
}

#[tokio::test]
async fn a_schema_lives_as_long_as_its_test() {
    let witness = Postgres::with("").await;
    let postgres = Postgres::with("CREATE TABLE n (v int)").await;
    let client = postgres.client().await;
    let schema: String = client
        .query_one("SELECT current_schema()::text", &[])
        .await
        .unwrap()
        .get(0);
    let count = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'");
    let _sweeping = Postgres::with("").await;
    assert_eq!(number(&witness, &count).await, 1);
    drop(postgres);
    assert_eq!(number(&witness, &count).await, 0);
}

#[tokio::test]
async fn leftovers_of_killed_tests_are_removed() {
    let witness = Postgres::with("").await;
    let name = format!("larder_test_killed_{}", std::process::id());
    witness
        .execute(&format!(
            "CREATE SCHEMA {name}; CREATE TABLE {name}.n (v int)"
        ))
        .await;
    let _next = Postgres::with("").await;
    let client = witness.client().await;
    // Another test may be sweeping at this moment; it holds the lock until it is done.
    client
        .batch_execute(&format!("SELECT pg_advisory_lock(hashtext('{name}'))"))
        .await
        .unwrap();
    let count = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{name}'");
    let left: i64 = client.query_one(&count, &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn an_own_server_can_be_stopped_and_started() {
    let postgres = Postgres::own().await;
    postgres
        .execute("CREATE TABLE n AS SELECT 1::int8 AS v")
        .await;
    let client = postgres.client().await;
    postgres.stop().await;
    assert!(client.simple_query("SELECT").await.is_err());
    assert!(
        tokio_postgres::connect(postgres.url(), tokio_postgres::NoTls)
            .await
            .is_err()
    );
    postgres.start_again().await;
    assert_eq!(number(&postgres, "SELECT v FROM n").await, 1);
    let calls = "SELECT calls FROM pg_stat_statements WHERE query = 'SELECT v FROM n'";
    assert_eq!(number(&postgres, calls).await, 1);
    postgres.crash().await;
    postgres.start_again().await;
    assert_eq!(number(&postgres, "SELECT v FROM n").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_does_not_affect_postgres() {
    let shared = Postgres::with("CREATE TABLE n AS SELECT 1::int8 AS v").await;
    assert_eq!(number(&shared, "SELECT v FROM n").await, 1);
    let own = Postgres::own().await;
    own.stop().await;
    own.start_again().await;
}

#[test]
fn the_search_path_is_added_to_a_url_of_any_form() {
    for (url, expected) in [
        ("postgres://h/d", "postgres://h/d?options=-csearch_path%3Ds"),
        (
            "postgresql://h/d?a=b",
            "postgresql://h/d?a=b&options=-csearch_path%3Ds",
        ),
        ("host=h dbname=d", "host=h dbname=d options=-csearch_path=s"),
    ] {
        assert_eq!(with_search_path(url, "s"), expected);
    }
}

/// A server that accepts one connection, reads a request and sends the bytes, whatever was asked, and
/// nothing after them.
async fn sending(answer: &'static str) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        // Unread requests would make the close a reset, which may overtake the answer.
        stream.read_to_end(&mut request).await.unwrap();
    });
    address
}

#[tokio::test]
async fn an_answer_is_read_by_its_length() {
    let address = sending(
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nCache-Status: larder; hit; ttl=7\r\n\r\n[2823]rest",
    );
    let answer = http::get(address.await, "/count").await;
    answer
        .assert_status(200)
        .assert_header("content-length", "6")
        .assert_cache("hit")
        .assert_json(json!([2823]));
}

#[tokio::test]
async fn an_answer_is_read_by_its_chunks() {
    let address = sending(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n[282\r\n2\r\n3]\r\n0\r\n\r\n",
    );
    assert_eq!(http::get(address.await, "/count").await.text(), "[2823]");
}

#[tokio::test]
async fn an_answer_is_read_to_the_end_of_its_connection() {
    let address = sending("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nno");
    assert_eq!(
        http::raw(address.await, b"nonsense\r\n\r\n")
            .await
            .assert_status(400)
            .text(),
        "no"
    );
}

#[tokio::test]
async fn answers_on_one_connection_are_separated_and_head_has_no_body() {
    let address = sending(
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n\
         HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    );
    let mut connection = Connection::open(address.await).await;
    assert!(
        connection
            .request("HEAD", "/count", &[("accept", "*/*")])
            .await
            .body
            .is_empty()
    );
    assert!(
        connection
            .get("/count")
            .await
            .assert_status(304)
            .body
            .is_empty()
    );
    connection.get("/count").await.assert_json(json!([]));
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn cache_status_is_read_in_the_metrics_words() {
    for (header, cache) in [
        ("Cache-Status: larder; hit; ttl=7", "hit"),
        ("Cache-Status: larder; hit; ttl=-3; detail=stale", "stale"),
        ("Cache-Status: larder; fwd=miss; stored", "miss"),
        ("Cache-Status: larder; fwd=miss; collapsed", "coalesced"),
        ("X: y", "none"),
    ] {
        let text = format!("HTTP/1.1 204 No Content\r\n{header}\r\n\r\n");
        let address = sending(text.leak()).await;
        http::request(address, "GET", "/", &[])
            .await
            .assert_cache(cache);
    }
}
