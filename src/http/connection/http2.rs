//! An HTTP/2 connection, served by hyper within our limits.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::ConnectionService;
use super::h2_streams::H2Streams;
use super::head_timeout::HeadTimeout;
use crate::http::limits::{
    H2_GOODBYE, H2_LAST_RESPONSES_TIMEOUT, H2_PING, H2_RECEIVE_WINDOW, H2_RESETS_MAX,
    H2_SEND_BUFFER, H2_STREAMS_MAX, HEAD_BYTES_MAX, IDLE_TIMEOUT,
};
use crate::http::slow_clients::outbound::Outbound;

/// Serves a connection until it is idle for too long, the client closes it, or the server shuts down. The
/// server's own reasons end it with GOAWAY, after the responses to earlier requests.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: impl ConnectionService,
    outbound: &Arc<Outbound>,
    shutdown: &CancellationToken,
) {
    let is_used = Arc::new(AtomicBool::new(false));
    let used = Arc::clone(&is_used);
    let service = service_fn(move |request| {
        used.store(true, Ordering::Relaxed);
        service.call(request)
    });
    let streams = H2Streams::new(Arc::clone(outbound));
    let connection = http2::Builder::new(streams.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_send_buf_size(H2_SEND_BUFFER)
        .initial_stream_window_size(H2_RECEIVE_WINDOW)
        .max_pending_accept_reset_streams(H2_RESETS_MAX.0)
        .max_local_error_reset_streams(H2_RESETS_MAX.1)
        .keep_alive_interval(H2_PING.0)
        .keep_alive_timeout(H2_PING.1)
        .serve_connection(
            TokioIo::new(HeadTimeout::h2(stream, Arc::clone(outbound))),
            service,
        );
    let mut connection = pin!(connection);
    let idle = async {
        loop {
            sleep(IDLE_TIMEOUT).await;
            if !is_used.swap(false, Ordering::Relaxed) {
                return;
            }
        }
    };
    tokio::select! {
        _ = &mut connection => {}
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // A silent client would keep the server waiting for its acknowledgement.
            let all_is_sent = async {
                streams.end().await;
                sleep(H2_GOODBYE).await;
            };
            tokio::select! {
                _ = connection => {}
                () = all_is_sent => {}
            }
        }
        () = idle => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(H2_LAST_RESPONSES_TIMEOUT, connection).await;
        }
    }
}
