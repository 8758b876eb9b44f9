//! A connection that is patient, and no more than that.
//!
//! A client that is refused in the middle of a request is still sending it; closing then would make
//! the kernel answer with a reset, and the refusal would be lost on its way (RFC 9112, 9.6). So what it
//! still sends is read and dropped for a while. And a client that takes nothing of its answer for too
//! long is given up, because it holds a slot and the answer's bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::pending::Line;

/// How long, and how much, a refused client may go on sending.
const LIMIT: (Duration, usize) = (Duration::from_secs(2), 16 * 1024 * 1024);

/// How long a client may take nothing of its answer.
const STALL_MAX: Duration = Duration::from_secs(60);

/// A stream whose shutdown waits for its peer to stop sending, if it is sending, and whose writes fail
/// when the peer does not read.
pub(super) struct Patient<S> {
    stream: S,
    line: Arc<Line>,
    stalled: Option<Pin<Box<Sleep>>>,
    closing: Closing,
}

enum Closing {
    /// Not yet.
    No,
    /// Our half is closed; whether the peer is sending is not known yet.
    Ours,
    /// The peer is sending.
    Draining {
        until: Pin<Box<Sleep>>,
        dropped: usize,
    },
}

impl<S: AsyncRead + AsyncWrite + Unpin> Patient<S> {
    pub(super) fn new(stream: S, line: Arc<Line>) -> Self {
        Self {
            stream,
            line,
            stalled: None,
            closing: Closing::No,
        }
    }

    /// A write as it went, or an error once none has gone on for too long.
    fn patient(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            if self.stalled.take().is_some() {
                self.line.go_on();
            }
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| {
            self.line.stall();
            Box::pin(tokio::time::sleep(STALL_MAX))
        });
        let over = stalled.as_mut().poll(cx);
        over.map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads and drops; how much, or zero at the end.
    fn poll_drop(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [0; 16 * 1024];
        let mut buffer = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.patient(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.patient(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if matches!(this.closing, Closing::No) {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.closing = Closing::Ours;
        }
        loop {
            let read = this.poll_drop(cx);
            match (&mut this.closing, read) {
                (_, Poll::Ready(Ok(0) | Err(_))) => return Poll::Ready(Ok(())),
                (Closing::No | Closing::Ours, Poll::Pending) => return Poll::Ready(Ok(())),
                (Closing::No | Closing::Ours, Poll::Ready(Ok(dropped))) => {
                    let until = Box::pin(tokio::time::sleep(LIMIT.0));
                    this.closing = Closing::Draining { until, dropped };
                }
                (Closing::Draining { until, .. }, Poll::Pending) => {
                    return until.as_mut().poll(cx).map(Ok);
                }
                (Closing::Draining { dropped, .. }, Poll::Ready(Ok(more))) => {
                    *dropped += more;
                    if *dropped > LIMIT.1 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}
