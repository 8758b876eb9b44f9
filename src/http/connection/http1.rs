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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::Response;
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::time::{Instant, sleep};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: l\r\n\r\n";

    /// A client of a server that answers `ok` after 20 seconds.
    fn client() -> DuplexStream {
        let (client, server) = tokio::io::duplex(1024);
        let service = service_fn(async |_| {
            sleep(Duration::from_secs(20)).await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
        });
        tokio::spawn(serve(server, service, Arc::default()));
        client
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_and_time_without_a_response_does_not_count() {
        // Requests one after the other, the last one followed by the start of another.
        for (requests, behind) in [(0, ""), (1, ""), (3, ""), (2, "GET /")] {
            let mut client = client();
            let mut received = Vec::new();
            for _ in 0..requests {
                client.write_all(REQUEST).await.unwrap();
                received.clear();
                while !received.ends_with(b"\r\n\r\nok") {
                    assert!(client.read_buf(&mut received).await.unwrap() > 0);
                }
            }
            let answered = Instant::now();
            client.write_all(behind.as_bytes()).await.unwrap();
            client.read_to_end(&mut received).await.unwrap();
            let expected = if behind.is_empty() { 75 } else { 10 };
            assert_eq!(answered.elapsed().as_secs(), expected, "{requests}");
        }
    }
}
