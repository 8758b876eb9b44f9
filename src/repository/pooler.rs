//! Connection poolers between Larder and Postgres. A pooler that gives each client its own session works like
//! Postgres itself. A pooler that assigns a session per transaction does not: prepared statements, LISTEN and
//! cancellation belong to a session, and what Larder leaves in it would affect other applications. Such a
//! pooler is recognised before anything is left behind.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{CancelToken, Client, Error, SimpleQueryMessage};

use super::connection::Connected;
use crate::mutex::lock;

/// How long a pooler that assigns whole sessions is not checked again: each check takes a second connection.
const TRUSTED_FOR: Duration = Duration::from_secs(60);

/// How often two connections are compared. Poolers assign the session that was used last, or the one that was
/// used least recently; with either, the second comparison shows it at the latest.
const COMPARISONS: usize = 3;

const BACKEND_PID: &str = "SELECT pg_catalog.pg_backend_pid()";

/// What is known about a pooler at one url.
#[derive(Debug, Default)]
pub(super) struct Pooler {
    found_whole_sessions_at: Mutex<Option<Instant>>,
}

impl Pooler {
    /// Whether this connection shares its session with others. `another` makes a second connection to the same
    /// address, for which it gets up to `limit`.
    ///
    /// # Errors
    /// The connection was lost.
    pub(super) async fn shares_sessions(
        &self,
        client: &Client,
        limit: Duration,
        another: impl Future<Output = Result<Connected, Error>>,
    ) -> Result<bool, Error> {
        // Postgres announces the process that serves a connection; every pooler announces another number.
        let pid = backend_pid(client).await?;
        if pid.is_some() && pid == announced_pid(&client.cancel_token()) {
            return Ok(false);
        }
        if self.is_trusted() {
            return Ok(false);
        }
        // There may be no room for a second connection, or the pool may make it wait for this one to leave. Then
        // sessions are not shared, or it is not known whether they are.
        let other = tokio::time::timeout(limit, async {
            let other = another.await?;
            backend_pid(&other.client).await?;
            Ok::<_, Error>(other)
        });
        let shares = match other.await {
            Ok(Ok(other)) => compare(client, &other.client).await?,
            Ok(Err(_)) | Err(_) => false,
        };
        if !shares {
            *self.lock() = Some(Instant::now());
        }
        Ok(shares)
    }

    fn is_trusted(&self) -> bool {
        self.lock().is_some_and(|at| at.elapsed() < TRUSTED_FOR)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        lock(&self.found_whole_sessions_at)
    }
}

/// Whether the two connections are served by the same process, or one of them by several.
async fn compare(one: &Client, other: &Client) -> Result<bool, Error> {
    let first = backend_pid(one).await?;
    for _ in 0..COMPARISONS {
        // An open transaction keeps its session. A pooler that assigns sessions per statement refuses it.
        match other.batch_execute("BEGIN").await {
            Ok(()) => {}
            Err(error) if error.as_db_error().is_some() => return Ok(true),
            Err(error) => return Err(error),
        }
        // If there is only one session, the first connection must not have to wait for it.
        let shares = backend_pid(other).await? == first || backend_pid(one).await? != first;
        // Closing the connection within a transaction would close the session.
        other.batch_execute("ROLLBACK").await?;
        if shares {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The process that serves the connection now.
async fn backend_pid(client: &Client) -> Result<Option<i32>, Error> {
    // A simple query: a prepared statement would stay behind.
    let answer = client.simple_query(BACKEND_PID).await?;
    Ok(answer.iter().find_map(|message| {
        let SimpleQueryMessage::Row(row) = message else {
            return None;
        };
        row.get(0)?.parse().ok()
    }))
}

/// The process that was announced when the connection was made. tokio-postgres does not expose it, but writes it
/// into a cancel request: length, code, process and secret key, four bytes each.
fn announced_pid(token: &CancelToken) -> Option<i32> {
    let mut written = Vec::new();
    let sent = token.cancel_query_raw(Tape(&mut written), NoHandshake);
    sent.now_or_never()?.ok()?;
    let request = written.last_chunk::<16>()?;
    let pid = request[8..12].try_into().ok()?;
    Some(i32::from_be_bytes(pid))
}

/// Records what is written, and agrees to a request for TLS.
struct Tape<'a>(&'a mut Vec<u8>);

impl AsyncRead for Tape<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        read: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        read.put_slice(b"S");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tape<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.get_mut().0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Tape<'_> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// A TLS handshake that does nothing.
struct NoHandshake;

impl<'a> TlsConnect<Tape<'a>> for NoHandshake {
    type Stream = Tape<'a>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Tape<'a>, Self::Error>>;

    fn connect(self, tape: Tape<'a>) -> Self::Future {
        std::future::ready(Ok(tape))
    }
}
