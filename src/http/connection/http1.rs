//! An HTTP/1.1 connection, served by hyper within our limits.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::cork::Cork;
use super::head_timeout::HeadTimeout;
use super::request_tracker::RequestTracker;
use crate::http::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, IDLE_TIMEOUT, LAST_FLUSH_TIMEOUT};

/// Serves a connection to its end. When the server shuts down, a connection without a request ends at
/// once, any other after its response.
pub(in crate::http) async fn serve<T, S>(
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
    let stream = Cork::new(HeadTimeout::h1(stream, Arc::clone(&requests)));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut is_closing = false;
    let ended = poll_fn(|cx| {
        if !is_closing && requests.outbound().is_shutting_down() {
            if !requests.is_used() {
                return Poll::Ready(Ok(()));
            }
            is_closing = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(cx)
    })
    .await;
    // hyper drops a connection that does not speak HTTP/1.1 without flushing it.
    let mut stream = connection.into_parts().io.into_inner();
    if stream.is_corked() {
        let _ = timeout(LAST_FLUSH_TIMEOUT, stream.shutdown()).await;
    }
    ended
}
