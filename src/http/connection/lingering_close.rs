//! Closes a connection without losing its last response.
//!
//! A client that is refused in the middle of a request is still sending it. If the server closed at once,
//! the kernel would answer with a reset, and the refusal would be lost on its way (RFC 9112, 9.6). So what
//! the client still sends is read and dropped for a while.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::http::limits::CLOSE_LINGER;

/// A stream whose shutdown waits for the client to stop sending, if it is sending.
pub(super) struct LingeringClose<S> {
    stream: S,
    closing: Closing,
}

enum Closing {
    /// Both halves are open.
    No,
    /// Our half is closed; whether the client is sending is not known yet.
    HalfClosed,
    /// The client is sending.
    Draining {
        until: Pin<Box<Sleep>>,
        dropped: usize,
    },
}

impl<S: AsyncRead + AsyncWrite + Unpin> LingeringClose<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            closing: Closing::No,
        }
    }

    /// Reads and drops; returns how much, zero at the end.
    fn poll_drop(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [0; 16 * 1024];
        let mut buffer = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LingeringClose<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LingeringClose<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
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
            this.closing = Closing::HalfClosed;
        }
        let (time, bytes_max) = CLOSE_LINGER;
        loop {
            let read = this.poll_drop(cx);
            match (&mut this.closing, read) {
                (_, Poll::Ready(Ok(0) | Err(_))) => return Poll::Ready(Ok(())),
                (Closing::No | Closing::HalfClosed, Poll::Pending) => return Poll::Ready(Ok(())),
                (Closing::No | Closing::HalfClosed, Poll::Ready(Ok(dropped))) => {
                    let until = Box::pin(sleep(time));
                    this.closing = Closing::Draining { until, dropped };
                }
                (Closing::Draining { until, .. }, Poll::Pending) => {
                    return until.as_mut().poll(cx).map(Ok);
                }
                (Closing::Draining { dropped, .. }, Poll::Ready(Ok(more))) => {
                    *dropped += more;
                    if *dropped > bytes_max {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}
