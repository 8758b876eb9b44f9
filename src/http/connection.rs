//! One connection: which protocol it speaks, and within which limits.

pub(super) mod request_tracker; // whether a request is being answered

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink};
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::gather::Gather;
use super::heads::Heads;
use super::patient::Patient;
use super::streams::Streams;
use crate::observe::{CacheStatus, Event, Observer};
use request_tracker::RequestTracker;

/// How long a connection may be idle before its next request. nginx allows 75 s too: neither clients that
/// poll once a minute nor load balancers with their usual 60 s find a connection just closed. A request
/// that has begun has less time: see [`Heads`].
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a client may take to agree on TLS, or to show what it speaks. nginx allows 60 s; ten are
/// plenty for three messages.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The bytes of a request's head. Apache and nginx allow 8 KiB per line; this leaves room for long
/// arguments and cookies.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The fields of a request's head: hyper's default, and Apache's.
pub(super) const HEAD_FIELDS_MAX: usize = 100;

/// Requests that run at once on one connection of HTTP/2: RFC 9113, 6.5.2, recommends no fewer.
const STREAMS_MAX: u32 = 100;

/// What of an answer is taken from memory to be sent on each of them.
const SEND_BUFFER: usize = 64 * 1024;

/// What a client may send on each of them before anybody has read it: the least that RFC 9113, 6.9.2,
/// allows to begin with, because nobody will.
const RECEIVE_WINDOW: u32 = 65_535;

/// Requests that a client of HTTP/2 may take back before they are looked at, and those that may be
/// refused for errors of its own, until it is hung up on: CVE-2023-44487, CVE-2025-8671. The defaults of
/// hyper and h2, which are no promise of theirs.
const RESETS_MAX: (usize, usize) = (20, 1024);

/// How often a silent client of HTTP/2 is asked whether it is there, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// How long the answers on a connection of HTTP/2 may take once there is nothing more to come on it.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// How long a client of HTTP/2 that has all its answers may take to agree that the server leaves: its
/// last requests may still be on their way. A quarter of a second is a round trip around the world.
const GOODBYE: Duration = Duration::from_millis(250);

/// How long the answers may take that were held back when hyper left.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long, and how much, a client that is refused may go on sending. Hanging up on it would have the
/// kernel answer with a reset, which can overtake the refusal (RFC 9112, 9.6).
const LINGER: (Duration, u64) = (Duration::from_secs(1), 1024 * 1024);

/// What HTTP/2 begins with (RFC 9113, 3.4): no other method begins so.
const PREFACE: &[u8] = b"PRI ";

/// The type of a TLS record with a handshake in it: RFC 8446, 5.1.
const HANDSHAKE_RECORD: u8 = 22;

/// `internal_error`, fatal, as a TLS record: RFC 8446, 5.1 and 6.
const FULL_ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 80];

/// What answers the requests of a connection.
pub(super) trait ConnectionService
where
    Self: Service<Request<Incoming>, Response = Response<Self::Content>, Error = Infallible>,
    Self: Service<Request<Incoming>, Future: Send + 'static> + Send + 'static,
{
    type Content: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static;
}

impl<S, B> ConnectionService for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    type Content = B;
}

/// What connections speak.
#[derive(Clone)]
pub(super) struct Protocols {
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) h2c: bool,
    pub(super) observer: Observer,
    pub(super) shutdown: CancellationToken,
}

impl Protocols {
    /// Answers requests until the client leaves, or `watcher` says that the server does. That a client
    /// hangs up, or speaks something else, is its own affair.
    pub(super) async fn serve(
        &self,
        stream: TcpStream,
        service: impl ConnectionService,
        requests: Arc<RequestTracker>,
        watcher: Watcher,
    ) {
        let Some(tls) = &self.tls else {
            let is_h2 = if self.h2c {
                let Some(seen) = self.soon(begins_with_preface(&stream)).await else {
                    return;
                };
                seen == Ok(true)
            } else {
                false
            };
            return if is_h2 {
                let stream = Patient::new(stream, Arc::clone(requests.line()));
                self.over_h2(stream, service, requests, watcher).await;
            } else {
                let stream = Patient::new(stream, Arc::clone(requests.line()));
                self.over_h1(stream, service, requests, watcher).await;
            };
        };
        let Some(Ok(Some(stream))) = self.soon(agree(tls, stream, &requests)).await else {
            return;
        };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.over_h2(stream, service, requests, watcher).await;
        } else {
            self.over_h1(stream, service, requests, watcher).await;
        }
    }

    /// Hangs up on a client for which there is no connection left, with a reason that it understands.
    pub(super) async fn refuse(&self, stream: TcpStream) {
        if self.tls.is_some() {
            return refuse(stream, FULL_ALERT).await;
        }
        let text = "Too many clients are connected.\n";
        refuse(
            stream,
            refusal("503 Service Unavailable", "retry-after: 1\r\n", text).as_bytes(),
        )
        .await;
        self.observe(503);
    }

    /// What comes of something that is no request yet, or that it took too long; nothing if the server
    /// leaves meanwhile.
    async fn soon<T>(&self, coming: impl Future<Output = T>) -> Option<Result<T, Elapsed>> {
        let within = timeout(HANDSHAKE_TIMEOUT, coming);
        self.shutdown.run_until_cancelled(within).await
    }

    /// `_watcher` makes the server wait for the end, as in [`Protocols::over_h2`].
    async fn over_h1(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        service: impl ConnectionService,
        requests: Arc<RequestTracker>,
        _watcher: Watcher,
    ) {
        match run_h1(stream, service, requests).await {
            // hyper has answered these itself; but to what is HTTP/2 it does not.
            Err(error) if error.is_parse_too_large() => self.observe(431),
            Err(error) if error.is_parse() && !error.is_parse_version_h2() => self.observe(400),
            Ok(()) | Err(_) => {}
        }
    }

    async fn over_h2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        service: impl ConnectionService,
        requests: Arc<RequestTracker>,
        _watcher: Watcher,
    ) {
        let is_used = Arc::new(AtomicBool::new(false));
        let used = Arc::clone(&is_used);
        let service = service_fn(move |request| {
            used.store(true, Ordering::Relaxed);
            service.call(request)
        });
        let streams = Streams::new(Arc::clone(requests.line()));
        let connection = http2::Builder::new(streams.clone())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(RECEIVE_WINDOW)
            .max_pending_accept_reset_streams(RESETS_MAX.0)
            .max_local_error_reset_streams(RESETS_MAX.1)
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .serve_connection(TokioIo::new(Heads::h2(stream)), service);
        let mut connection = pin!(connection);
        let quiet = async {
            loop {
                sleep(IDLE_TIMEOUT).await;
                if !is_used.swap(false, Ordering::Relaxed) {
                    return;
                }
            }
        };
        // Each way out ends with GOAWAY, and what was asked before it is answered.
        tokio::select! {
            _ = &mut connection => {}
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                // Whoever is silent would keep the server waiting for its word.
                let all_is_said = async {
                    streams.end().await;
                    sleep(GOODBYE).await;
                };
                tokio::select! {
                    _ = connection => {}
                    () = all_is_said => {}
                }
            }
            () = quiet => {
                connection.as_mut().graceful_shutdown();
                let _ = timeout(LAST_ANSWERS_TIMEOUT, connection).await;
            }
        }
    }

    /// Tells of an answer that no route had a part in.
    fn observe(&self, code: u16) {
        self.observer.emit(&Event::RequestServed {
            endpoint: None,
            cache: CacheStatus::None,
            code,
            elapsed: Duration::ZERO,
            age: None,
            stale_if_error: false,
        });
    }
}

/// Serves a connection of HTTP/1.1 to its end. When the server leaves, one that has asked for nothing ends at once,
/// another with its answer.
pub(super) async fn run_h1<T, S>(
    stream: T,
    service: S,
    requests: Arc<RequestTracker>,
) -> hyper::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming>,
    S::ResBody: 'static,
    <S::ResBody as Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connection = h1(stream, service, requests.clone());
    let mut is_leaving = false;
    let ended = poll_fn(|cx| {
        if !is_leaving && requests.line().is_leaving() {
            if !requests.is_used() {
                return Poll::Ready(Ok(()));
            }
            is_leaving = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(cx)
    })
    .await;
    // What is no HTTP/1.1 hyper leaves without a word, and without a look at what is held back.
    let mut stream = connection.into_parts().io.into_inner();
    if stream.owes() {
        let _ = timeout(LAST_WORDS_TIMEOUT, stream.shutdown()).await;
    }
    ended
}

/// An HTTP/1.1 connection within our limits.
fn h1<T, S>(
    stream: T,
    service: S,
    requests: Arc<RequestTracker>,
) -> http1::Connection<TokioIo<Gather<Heads<T>>>, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming>,
    S::ResBody: 'static,
    <S::ResBody as Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = Gather::new(Heads::h1(stream, requests));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX)
        .serve_connection(TokioIo::new(stream), service)
}

/// The stream within, once the client and the server agree on TLS.
async fn agree(
    tls: &TlsAcceptor,
    stream: TcpStream,
    requests: &RequestTracker,
) -> Option<TlsStream<Patient<TcpStream>>> {
    let mut first = [0];
    if stream.peek(&mut first).await.ok()? == 0 {
        return None;
    }
    if first[0] != HANDSHAKE_RECORD {
        let text = "This port speaks TLS: ask with https://\n";
        refuse(stream, refusal("400 Bad Request", "", text).as_bytes()).await;
        return None;
    }
    let stream = Patient::new(stream, Arc::clone(requests.line()));
    tls.accept(stream).await.ok()
}

/// Whether a client without TLS speaks HTTP/2. What it sends is left where it is.
async fn begins_with_preface(stream: &TcpStream) -> bool {
    let mut seen = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut seen).await {
            Ok(n) if n == PREFACE.len() => return seen == PREFACE,
            Ok(n) if n > 0 && PREFACE.starts_with(&seen[..n]) => {}
            _ => return false,
        }
        // Nothing says when there is more of it than there was.
        sleep(Duration::from_millis(5)).await;
    }
}

/// An answer to whatever was asked, on a stream that is no connection of HTTP yet.
fn refusal(status: &str, field: &str, text: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ndate: {}\r\nconnection: close\r\ncache-control: no-store\r\n{field}\
         content-type: text/plain\r\ncontent-length: {}\r\n\r\n{text}",
        httpdate::fmt_http_date(SystemTime::now()),
        text.len()
    )
}

/// Says why and hangs up. Best effort: who does not read it sees the connection close.
async fn refuse(mut stream: TcpStream, why: &[u8]) {
    let say = async {
        stream.write_all(why).await?;
        stream.shutdown().await?;
        copy(&mut stream.take(LINGER.1), &mut sink()).await
    };
    let _ = timeout(LINGER.0, say).await;
}

#[cfg(test)]
mod tests {
    use hyper_util::server::graceful::GracefulShutdown;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio::time::Instant;
    use warp::Reply as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_of_http_2_ends_when_nothing_is_asked_on_it_any_more() {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let protocols = Protocols {
            tls: None,
            h2c: true,
            observer: Observer::new(Vec::new()),
            shutdown: CancellationToken::new(),
        };
        let slow = Duration::from_secs(600);
        let service = service_fn(move |_| async move {
            sleep(slow).await;
            Ok::<_, Infallible>(warp::reply().into_response())
        });
        let draining = GracefulShutdown::new();
        let asking = async {
            let (client, connection) = h2::client::handshake(client).await.unwrap();
            let connection = tokio::spawn(connection);
            let mut client = client.ready().await.unwrap();
            let request = Request::get("http://l/").body(()).unwrap();
            let (answer, _) = client.send_request(request, true).unwrap();
            // Half of the time is enough for the server to be weary.
            sleep(slow / 2).await;
            let ended = client.ready().await.err().unwrap();
            assert_eq!(ended.reason(), Some(h2::Reason::NO_ERROR));
            assert_eq!(answer.await.unwrap().status(), 200);
            connection.await.unwrap().unwrap();
        };
        let began = Instant::now();
        tokio::join!(
            protocols.over_h2(server, service, Arc::default(), draining.watcher()),
            asking
        );
        assert!(began.elapsed() < slow + PING.0, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_ten_seconds_to_agree_on_tls() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let protocols = Protocols {
            tls: Some(TlsAcceptor::from(Arc::new(config))),
            h2c: false,
            observer: Observer::new(Vec::new()),
            shutdown: CancellationToken::new(),
        };
        let draining = GracefulShutdown::new();
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        // Nothing, the type of a record that holds a handshake, and a record that never ends.
        for sent in [&[][..], &[22], &[22, 3, 1, 1, 0, 1]] {
            let address = listener.local_addr().unwrap();
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(sent).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let began = Instant::now();
            let service = service_fn(async |_| Ok::<_, Infallible>(warp::reply().into_response()));
            protocols
                .serve(stream, service, Arc::default(), draining.watcher())
                .await;
            assert_eq!(began.elapsed().as_secs(), 10, "after {sent:?}");
            assert_eq!(client.read(&mut [0]).await.unwrap_or(0), 0, "it is closed");
        }
    }
}
