//! What hyper and a client see of it.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use bolero::check;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::yield_now;
use tokio::time::{advance, timeout};

use super::super::connection::run_h1;
use super::super::date;
use super::next::PARTIAL_MAX;
use super::*;

/// An answer that never comes is a failure, not a test that does not end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who answered how often.
#[derive(Debug, Default)]
struct Answered {
    by_service: AtomicUsize,
    again: AtomicUsize,
}

/// The answer to a path: itself, and more of it where it is `/large`.
fn content(path: &str) -> String {
    path.repeat(if path == "/large" { 1_000 } else { 1 })
}

#[derive(Debug)]
struct Path {
    path: String,
    answered: Arc<Answered>,
}

impl Again for Path {
    fn answer(&self, _: Instant, out: &mut Vec<u8>) -> bool {
        self.answered.again.fetch_add(1, Ordering::Relaxed);
        let content = content(&self.path);
        let mut head = String::from("HTTP/1.1 200 OK\r\n");
        write!(head, "content-length: {}\r\n", content.len()).unwrap();
        out.extend_from_slice(head.as_bytes());
        date::write(SystemTime::now(), out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(content.as_bytes());
        true
    }
}

/// Serves the other end of a connection. If it is told of them, requests that come again are known,
/// but those for `/new`; `/slow` takes a while.
fn serve(stream: DuplexStream, is_told: bool) -> Arc<Answered> {
    let answered = Arc::<Answered>::default();
    let exchanges = Arc::<Exchanges>::default();
    let (by, told) = (Arc::clone(&answered), Arc::clone(&exchanges));
    let service = service_fn(move |request: Request<Incoming>| {
        by.by_service.fetch_add(1, Ordering::Relaxed);
        let has_content = !request.body().is_end_stream();
        let exchange = told.begin(request.version(), has_content);
        let path = request.uri().path().to_owned();
        let is_plain = request.method() == "GET"
            && request.version() == hyper::Version::HTTP_11
            && !request.headers().contains_key(CONNECTION);
        if let Some(learner) = exchange.learner().filter(|_| is_plain && path != "/new") {
            let (path, answered) = (path.clone(), Arc::clone(&by));
            learner.learn(Path { path, answered });
        }
        async move {
            for _ in 0..if path == "/slow" { 10 } else { 0 } {
                yield_now().await;
            }
            let mut response = Response::new(Full::new(Bytes::from(content(&path))));
            if has_content {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response.map(|body| exchange.content(body)))
        }
    });
    let exchanges = is_told.then_some(exchanges);
    tokio::spawn(run_h1(stream, service, exchanges));
    answered
}

async fn read_until(client: &mut DuplexStream, end: &str) -> String {
    let mut said = Vec::new();
    while !said.ends_with(end.as_bytes()) {
        let more = timeout(PATIENCE, client.read_buf(&mut said)).await;
        assert!(more.expect("it comes").unwrap() > 0);
    }
    String::from_utf8(said).unwrap()
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: l\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn what_comes_for_the_third_time_is_answered_without_the_service() {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let answered = serve(server, true);
    for times in 1..=5 {
        client.write_all(GET.as_bytes()).await.unwrap();
        let said = read_until(&mut client, "/a").await;
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
        let again = answered.again.load(Ordering::Relaxed);
        assert_eq!(again, usize::saturating_sub(times, 2));
    }
    // Many at once, with others between them that are not known: in order, and each once.
    let other = GET.replace("/a", "/new");
    let sent = [GET, GET, &other, GET, &other, &other, GET].concat();
    client
        .write_all((sent + &GET.replace("/a", "/z")).as_bytes())
        .await
        .unwrap();
    let said = read_until(&mut client, "/z").await;
    let paths: Vec<_> = said
        .split("\r\n\r\n")
        .skip(1)
        .map(|it| it.split("HTTP").next().unwrap())
        .collect();
    assert_eq!(
        paths,
        ["/a", "/a", "/new", "/a", "/new", "/new", "/a", "/z"]
    );
}

#[tokio::test(start_paused = true)]
async fn hyper_sees_a_request_now_and_then_and_the_connection_stays_open() {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let answered = serve(server, true);
    let minutes = 10;
    for _ in 0..60 * minutes {
        client.write_all(GET.as_bytes()).await.unwrap();
        read_until(&mut client, "/a").await;
        advance(Duration::from_secs(1)).await;
    }
    let by_service = answered.by_service.load(Ordering::Relaxed);
    assert!(
        (5 * minutes..=7 * minutes).contains(&by_service),
        "{by_service}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_answered_when_it_does() {
    let (client, server) = tokio::io::duplex(512);
    let answered = serve(server, true);
    let (mut reads, mut writes) = tokio::io::split(client);
    let write = async {
        for _ in 0..2_000 {
            writes.write_all(GET.as_bytes()).await.unwrap();
        }
        writes
            .write_all(GET.replace("/a", "/z").as_bytes())
            .await
            .unwrap();
    };
    let read = async {
        // As much is sent as there is room for, and no more is taken.
        for _ in 0..1_000 {
            yield_now().await;
        }
        let taken = answered.again.load(Ordering::Relaxed);
        assert!(taken < 400, "{taken}");
        let mut said = Vec::new();
        while !said.ends_with(b"/z") {
            reads.read_buf(&mut said).await.unwrap();
        }
        String::from_utf8(said).unwrap()
    };
    let ((), said) = timeout(PATIENCE, async { tokio::join!(write, read) })
        .await
        .unwrap();
    assert_eq!(said.matches("\r\n\r\n/a").count(), 2_000);
    assert!(answered.again.load(Ordering::Relaxed) > 1_000);
}

/// What clients send, sound and unsound.
fn requests() -> Vec<String> {
    let length = GET.len();
    vec![
        GET.to_owned(),
        GET.replace("/a", "/b"),
        GET.replace("\r\n", "\n"),
        GET.replace("Host: l", "Host: l\r\nAccept: text/csv"),
        GET.replace("/a", "/new"),
        GET.replace("/a", "/slow"),
        GET.replace("/a", "/large"),
        GET.replace("GET", "HEAD"),
        GET.replace("GET", "OPTIONS"),
        GET.replace("1.1", "1.0"),
        GET.replace("Host: l", "Host: l\r\nConnection: close"),
        GET.replace("Host: l", "Host: l\r\nConnection: keep-alive"),
        // What is in the content of a request is no request.
        GET.replace("Host: l", &format!("Host: l\r\nContent-Length: {length}")) + GET,
        GET.replace("GET", "POST")
            .replace("Host: l", &format!("Content-Length: {length}"))
            + GET,
        GET.replace("Host: l", "Transfer-Encoding: chunked") + "0\r\n\r\n",
        GET.replace("/a", "/\0"),
        "\r\n".to_owned(),
        "GET /a HT".to_owned(),
    ]
}

#[test]
fn a_client_is_answered_the_same_whether_or_not_its_requests_are_known() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = AssertUnwindSafe(runtime.unwrap());
    let requests = requests();
    let again = AtomicUsize::new(0);
    check!()
        .with_type::<(Vec<u8>, Vec<u8>)>()
        .for_each(|(asked, cuts)| {
            let mut sent = String::new();
            for asked in asked {
                // Most are of the kinds that can be known.
                let kind = if *asked < 192 { asked % 4 } else { asked - 192 };
                sent += &requests[usize::from(kind) % requests.len()];
            }
            let (known, answered) = runtime.block_on(said_to(sent.as_bytes(), cuts, true));
            let (plain, _) = runtime.block_on(said_to(sent.as_bytes(), &[], false));
            assert!(
                known == plain,
                "{}\n{sent:?} cut at {cuts:?}",
                parting(&known, &plain)
            );
            again.fetch_add(answered.again.load(Ordering::Relaxed), Ordering::Relaxed);
        });
    assert!(again.into_inner() > 0, "some were known");
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_refused_before_it_is_whole() {
    for nonsense in [
        "GET /\r\n",
        "GET / HTTP/3.0\r\n",
        "GET /\0",
        "GET / HTTP/1.1\r\nA\r\n",
    ] {
        for before in ["", GET] {
            let (mut client, server) = tokio::io::duplex(64 * 1024);
            serve(server, true);
            client.write_all(before.repeat(3).as_bytes()).await.unwrap();
            client.write_all(nonsense.as_bytes()).await.unwrap();
            let mut said = String::new();
            let read = timeout(PATIENCE, client.read_to_string(&mut said)).await;
            read.expect("it does not wait for more").unwrap();
            assert!(said.contains("HTTP/1.1 400 "), "{nonsense:?}: {said}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_requests_in_turn_as_many_are_known_as_there_is_room_for() {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let answered = serve(server, true);
    for _ in 0..20 {
        for n in 0..KNOWN_MAX + 1 {
            let path = format!("/{n}");
            let get = GET.replace("/a", &path);
            client.write_all(get.as_bytes()).await.unwrap();
            read_until(&mut client, &path).await;
        }
    }
    let again = answered.again.load(Ordering::Relaxed);
    assert!(again > 20 * KNOWN_MAX / 2, "{again}");
}

/// All that a client gets, without dates, which sends this in pieces and takes its leave.
async fn said_to(sent: &[u8], cuts: &[u8], is_told: bool) -> (String, Arc<Answered>) {
    let (client, server) = tokio::io::duplex(1024);
    let answered = serve(server, is_told);
    let (mut reads, mut writes) = tokio::io::split(client);
    let write = async {
        let (mut rest, mut cuts) = (sent, cuts.iter());
        while !rest.is_empty() {
            let length = cuts.next().map_or(rest.len(), |cut| usize::from(*cut) + 1);
            let piece = rest.split_off(..length.min(rest.len())).unwrap();
            // A server that has refused need not take the rest.
            let _ = writes.write_all(piece).await;
            yield_now().await;
        }
        let last = GET.replace("Host: l", "Host: l\r\nConnection: close");
        let _ = writes.write_all(last.as_bytes()).await;
    };
    let read = async {
        let mut said = String::new();
        let _ = reads.read_to_string(&mut said).await;
        said
    };
    let both = async { tokio::join!(write, read) };
    let ((), said) = timeout(PATIENCE, both).await.expect("it ends");
    let lines = said
        .split("\r\n")
        .filter(|line| !line.starts_with("date: "));
    (lines.collect::<Vec<_>>().join("\r\n"), answered)
}

/// Where two texts part, and what they say there.
fn parting(one: &str, other: &str) -> String {
    let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b);
    let from = same.count().saturating_sub(20);
    let rest = |text: &str| text[from..].chars().take(100).collect::<String>();
    format!("at {from}: {:?}, not {:?}", rest(one), rest(other))
}

#[test]
fn a_head_ends_where_hyper_ends_it() {
    let check = |bytes: &str, next| assert_eq!(Next::of(bytes.as_bytes()), next, "{bytes:?}");
    check(GET, Next::Head(GET.len()));
    check(&(GET.to_owned() + GET), Next::Head(GET.len()));
    check("GET / HTTP/1.1\n\nabc", Next::Head(16));
    check("GET / HTTP/1.1\r\na: b\n\r\n\r\n", Next::Head(23));
    check("GET / HTTP/1.1\r\n\r", Next::Partial);
    check("", Next::Partial);
    check("OPT", Next::Partial);
    check("GETA / HTTP/1.1\r\n\r\n", Next::Other);
    check("\r\nGET / HTTP/1.1\r\n\r\n", Next::Other);
    check(&format!("GET /{}", "a".repeat(PARTIAL_MAX)), Next::Other);
}
