//! One connection: which protocol it speaks, and what serves it.

pub(super) mod http1; // an HTTP/1.1 connection
pub(super) mod request_tracker; // whether a request is being answered
pub(super) mod response_body; // bodies on their way, large ones part by part
pub(super) mod tls; // the certificate, also when it is renewed

mod cork; // responses to pipelined requests leave in one write
mod h2_streams; // the streams of an HTTP/2 connection, each of which can be reset by itself
mod head_timeout; // how long the head of a request may take
mod http2; // an HTTP/2 connection
mod lingering_close; // closes without a reset that would overtake the last response
mod refusal; // answers to clients that no connection of HTTP is opened for
mod send_timeout; // ends connections whose clients take nothing

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::limits::HANDSHAKE_TIMEOUT;
use super::slow_clients::outbound::Outbound;
use crate::observe::{CacheStatus, Event, Observer};
use lingering_close::LingeringClose;
use request_tracker::RequestTracker;
use send_timeout::SendTimeout;

/// The start of an HTTP/2 connection (RFC 9113, 3.4), and of no request of HTTP/1.1.
const H2_PREFACE: &[u8] = b"PRI ";

/// The type of a TLS record that holds a handshake message: RFC 8446, 5.1.
const HANDSHAKE_RECORD: u8 = 22;

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

/// The protocols that connections can speak.
#[derive(Clone)]
pub(super) struct Protocols {
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) h2c: bool,
    pub(super) observer: Observer,
    pub(super) shutdown: CancellationToken,
}

impl Protocols {
    /// Answers requests until the client or the server closes the connection. That a client hangs up, or
    /// speaks something else, is not reported. The server waits for the end while `watcher` is held.
    pub(super) async fn serve(
        &self,
        stream: TcpStream,
        service: impl ConnectionService,
        requests: Arc<RequestTracker>,
        watcher: Watcher,
    ) {
        let Some(tls) = &self.tls else {
            let is_h2 = if self.h2c {
                let Some(begins) = self.handshake(begins_with_preface(&stream)).await else {
                    return;
                };
                begins == Ok(true)
            } else {
                false
            };
            let stream = patient(stream, requests.outbound());
            return if is_h2 {
                self.serve_h2(stream, service, requests, watcher).await;
            } else {
                self.serve_h1(stream, service, requests, watcher).await;
            };
        };
        let accepting = accept_tls(tls, stream, requests.outbound());
        let Some(Ok(Some(stream))) = self.handshake(accepting).await else {
            return;
        };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.serve_h2(stream, service, requests, watcher).await;
        } else {
            self.serve_h1(stream, service, requests, watcher).await;
        }
    }

    /// Closes a connection beyond `max_connections`, with a reason in the protocol that its client expects.
    pub(super) async fn refuse(&self, stream: TcpStream) {
        if self.tls.is_some() {
            return refusal::send(stream, refusal::INTERNAL_ERROR_ALERT).await;
        }
        refusal::send(stream, refusal::too_many_connections().as_bytes()).await;
        self.report(503);
    }

    /// Waits for something that precedes the first request: `None` if the server shuts down meanwhile.
    async fn handshake<T>(&self, step: impl Future<Output = T>) -> Option<Result<T, Elapsed>> {
        let step = timeout(HANDSHAKE_TIMEOUT, step);
        self.shutdown.run_until_cancelled(step).await
    }

    async fn serve_h1(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        service: impl ConnectionService,
        requests: Arc<RequestTracker>,
        _watcher: Watcher,
    ) {
        match http1::serve(stream, service, requests).await {
            // hyper has answered these itself, except for HTTP/2.
            Err(error) if error.is_parse_too_large() => self.report(431),
            Err(error) if error.is_parse() && !error.is_parse_version_h2() => self.report(400),
            Ok(()) | Err(_) => {}
        }
    }

    async fn serve_h2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        service: impl ConnectionService,
        requests: Arc<RequestTracker>,
        _watcher: Watcher,
    ) {
        http2::serve(stream, service, requests.outbound(), &self.shutdown).await;
    }

    /// Reports a response that no service was involved in.
    fn report(&self, code: u16) {
        self.observer.emit(&Event::RequestServed {
            endpoint: None,
            client: None,
            cache: CacheStatus::None,
            code,
            problem: None,
            elapsed: Duration::ZERO,
            age: None,
            stale_if_error: false,
        });
    }
}

/// A stream that is patient with its client, up to a limit.
fn patient(stream: TcpStream, outbound: &Arc<Outbound>) -> LingeringClose<SendTimeout<TcpStream>> {
    LingeringClose::new(SendTimeout::new(stream, Arc::clone(outbound)))
}

/// The plaintext stream, once the client and the server agree on TLS.
async fn accept_tls(
    tls: &TlsAcceptor,
    stream: TcpStream,
    outbound: &Arc<Outbound>,
) -> Option<TlsStream<LingeringClose<SendTimeout<TcpStream>>>> {
    let mut first = [0];
    if stream.peek(&mut first).await.ok()? == 0 {
        return None;
    }
    if first[0] != HANDSHAKE_RECORD {
        refusal::send(stream, refusal::plain_http_to_tls().as_bytes()).await;
        return None;
    }
    tls.accept(patient(stream, outbound)).await.ok()
}

/// Whether a client without TLS speaks HTTP/2. What it has sent stays unread.
async fn begins_with_preface(stream: &TcpStream) -> bool {
    let mut start = [0; H2_PREFACE.len()];
    loop {
        match stream.peek(&mut start).await {
            Ok(n) if n == H2_PREFACE.len() => return start == H2_PREFACE,
            Ok(n) if n > 0 && H2_PREFACE.starts_with(&start[..n]) => {}
            _ => return false,
        }
        // Peeking cannot wait for more bytes than were there before.
        sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use hyper::service::service_fn;
    use hyper_util::server::graceful::GracefulShutdown;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::{Instant, sleep};
    use warp::Reply as _;

    use super::*;
    use crate::http::limits::H2_PING;

    #[tokio::test(start_paused = true)]
    async fn an_idle_http2_connection_ends_and_its_last_response_does_not() {
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
            // Half of the time is more than a connection may be idle.
            sleep(slow / 2).await;
            let ended = client.ready().await.err().unwrap();
            assert_eq!(ended.reason(), Some(h2::Reason::NO_ERROR));
            assert_eq!(answer.await.unwrap().status(), 200);
            connection.await.unwrap().unwrap();
        };
        let began = Instant::now();
        tokio::join!(
            protocols.serve_h2(server, service, Arc::default(), draining.watcher()),
            asking
        );
        assert!(began.elapsed() < slow + H2_PING.0, "{:?}", began.elapsed());
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
