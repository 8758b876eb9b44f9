//! Answers to clients for which no HTTP connection is opened.

use std::time::SystemTime;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, sink};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::limits::REFUSAL_LINGER;

/// The TLS alert `internal_error`, fatal, as a record: RFC 8446, 5.1 and 6.
pub(super) const INTERNAL_ERROR_ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 80];

pub(super) fn too_many_connections() -> String {
    let text = "Too many connections are open.\n";
    response("503 Service Unavailable", "retry-after: 1\r\n", text)
}

pub(super) fn plain_http_to_tls() -> String {
    let text = "This port expects TLS: use https://\n";
    response("400 Bad Request", "", text)
}

/// A response to any request at all.
fn response(status: &str, field: &str, text: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ndate: {}\r\nconnection: close\r\ncache-control: no-store\r\n{field}\
         content-type: text/plain\r\ncontent-length: {}\r\n\r\n{text}",
        httpdate::fmt_http_date(SystemTime::now()),
        text.len()
    )
}

/// Sends the reason and closes. Without lingering, the kernel would answer what the client still sends with
/// a reset, which can overtake the reason (RFC 9112, 9.6).
pub(super) async fn send(mut stream: TcpStream, reason: &[u8]) {
    let (time, bytes) = REFUSAL_LINGER;
    let sending = async {
        stream.write_all(reason).await?;
        stream.shutdown().await?;
        copy(&mut stream.take(bytes), &mut sink()).await
    };
    let _ = timeout(time, sending).await;
}
