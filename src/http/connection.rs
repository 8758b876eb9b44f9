//! One connection: which protocol it speaks, and within which limits.

use std::convert::Infallible;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::patient::Patient;

/// A request's head must be there this long after the last answer: it bounds both slow senders and
/// idle connections. nginx allows 60 s for the one and 75 s for the other; with the longer, neither
/// pollers of one minute nor load balancers with their usual 60 s find a connection just closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a client may take to agree on TLS, or to show what it speaks. nginx allows 60 s; ten are
/// plenty for three messages.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The bytes of a request's head. Apache and nginx allow 8 KiB per line; this leaves room for long
/// arguments and cookies.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The fields of a request's head: hyper's default.
const HEAD_FIELDS_MAX: usize = 100;

/// Requests that run at once on one connection of HTTP/2: RFC 9113, 6.5.2, recommends no fewer.
const STREAMS_MAX: u32 = 100;

/// What of an answer is taken from memory to be sent on each of them.
const SEND_BUFFER: usize = 64 * 1024;

/// How often a silent client of HTTP/2 is asked whether it is there, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// What HTTP/2 begins with (RFC 9113, 3.4): no other method begins so.
const PREFACE: &[u8] = b"PRI ";

/// The type of a TLS record with a handshake in it: RFC 8446, 5.1.
const HANDSHAKE_RECORD: u8 = 22;

/// What a client gets that speaks HTTP where TLS is spoken.
const TLS_WANTED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
    cache-control: no-store\r\ncontent-type: text/plain\r\ncontent-length: 40\r\n\r\n\
    This port speaks TLS: ask with https://\n";

/// What connections speak.
#[derive(Clone)]
pub(super) struct Protocols {
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) h2c: bool,
}

impl Protocols {
    /// Answers requests until the client leaves, or `watcher` says that the server does. That a client
    /// hangs up, or speaks something else, is its own affair.
    pub(super) async fn serve<S>(&self, stream: TcpStream, service: S, watcher: Watcher)
    where
        S: Service<Request<Incoming>, Response = warp::reply::Response, Error = Infallible>,
        S: Send + 'static,
        S::Future: Send + 'static,
    {
        let Some(tls) = &self.tls else {
            let is_h2 = self.h2c && begins_with_preface(&stream).await;
            return converse(Patient::new(stream), is_h2, service, watcher).await;
        };
        let mut first = [0];
        match timeout(HANDSHAKE_TIMEOUT, stream.peek(&mut first)).await {
            Ok(Ok(1)) if first[0] == HANDSHAKE_RECORD => {}
            Ok(Ok(1)) => return refuse(stream, TLS_WANTED).await,
            _ => return,
        }
        let handshake = tls.accept(Patient::new(stream));
        if let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, handshake).await {
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            converse(stream, is_h2, service, watcher).await;
        }
    }
}

/// Whether a client without TLS speaks HTTP/2. What it sends is left where it is.
async fn begins_with_preface(stream: &TcpStream) -> bool {
    let look = async {
        let mut seen = [0; PREFACE.len()];
        loop {
            match stream.peek(&mut seen).await {
                Ok(n) if n > 0 && PREFACE.starts_with(&seen[..n]) => {
                    if n == PREFACE.len() {
                        return true;
                    }
                }
                _ => return false,
            }
            // Nothing says when there is more of it than there was.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(HANDSHAKE_TIMEOUT, look).await.unwrap_or(false)
}

async fn converse<S>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    is_h2: bool,
    service: S,
    watcher: Watcher,
) where
    S: Service<Request<Incoming>, Response = warp::reply::Response, Error = Infallible>,
    S: Send + 'static,
    S::Future: Send + 'static,
{
    let stream = TokioIo::new(stream);
    if is_h2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .serve_connection(stream, service);
        let _ = watcher.watch(connection).await;
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .max_headers(HEAD_FIELDS_MAX)
            .serve_connection(stream, service);
        let _ = watcher.watch(connection).await;
    }
}

/// Says why and hangs up. Best effort: who does not read it sees the connection close.
pub(super) async fn refuse(mut stream: TcpStream, why: &[u8]) {
    let _ = timeout(Duration::from_secs(1), stream.write_all(why)).await;
}
