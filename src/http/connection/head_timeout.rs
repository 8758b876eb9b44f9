//! Limits how long the head of a request may take, from its first byte to its last, and how much memory all
//! incomplete heads may take.
//!
//! hyper has one timeout for being idle and for the head that follows. A client may be idle for long. A
//! client that begins a request and does not complete it takes up a connection for nothing.

mod progress; // where heads begin and end

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::request_tracker::RequestTracker;
use crate::http::limits::HEAD_TIMEOUT;
use crate::http::slow_clients::outbound::Outbound;
use crate::http::slow_clients::partial_head::PartialHead;
use progress::{H1Heads, H2Heads, Progress};

/// A stream whose reads fail once the head of a request takes longer than [`HEAD_TIMEOUT`], or incomplete heads
/// take too much memory.
pub(super) struct HeadTimeout<S> {
    stream: S,
    protocol: Protocol,
    /// While a head is incomplete.
    deadline: Option<Pin<Box<Sleep>>>,
    partial: PartialHead,
}

enum Protocol {
    H1(H1Heads, Arc<RequestTracker>),
    H2(H2Heads),
}

impl<S> HeadTimeout<S> {
    /// For an HTTP/1.1 connection.
    pub(super) fn h1(stream: S, requests: Arc<RequestTracker>) -> Self {
        Self {
            partial: PartialHead::new(Arc::clone(requests.outbound())),
            stream,
            protocol: Protocol::H1(H1Heads::default(), requests),
            deadline: None,
        }
    }

    /// For an HTTP/2 connection. Its preface and settings have the same time, from now on.
    pub(super) fn h2(stream: S, outbound: Arc<Outbound>) -> Self {
        Self {
            partial: PartialHead::new(outbound),
            stream,
            protocol: Protocol::H2(H2Heads::default()),
            deadline: Some(Box::pin(sleep(HEAD_TIMEOUT))),
        }
    }

    fn follow(&mut self, read: &[u8]) -> io::Result<()> {
        let progress = match &mut self.protocol {
            Protocol::H1(heads, _) => heads.read(read),
            Protocol::H2(heads) => heads.read(read),
        };
        match progress {
            Progress::Complete => {
                self.deadline = None;
                self.partial.clear();
                return Ok(());
            }
            Progress::Partial if self.deadline.is_some() => {}
            Progress::Partial => self.deadline = Some(Box::pin(sleep(HEAD_TIMEOUT))),
            Progress::Begun => {
                self.deadline = Some(Box::pin(sleep(HEAD_TIMEOUT)));
                self.partial.clear();
            }
        }
        if self.partial.extend(read.len()) {
            Ok(())
        } else {
            Err(io::ErrorKind::QuotaExceeded.into())
        }
    }

    /// Fails after the deadline, unless a request is being answered: the next head waits for it.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(deadline) = &mut self.deadline else {
            return Poll::Pending;
        };
        ready!(deadline.as_mut().poll(cx));
        if let Protocol::H1(_, requests) = &self.protocol
            && requests.is_busy()
        {
            deadline.as_mut().reset(Instant::now() + HEAD_TIMEOUT);
            ready!(deadline.as_mut().poll(cx));
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = buffer.filled().len();
        if Pin::new(&mut self.stream)
            .poll_read(cx, buffer)?
            .is_pending()
        {
            return self.poll_deadline(cx);
        }
        Poll::Ready(self.follow(&buffer.filled()[start..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeadTimeout<S> {
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
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::http::slow_clients::SlowClients;
    use crate::observe::Observer;

    const SECOND: Duration = Duration::from_secs(1);

    /// Sends the parts a second apart, and returns after how many seconds reading fails, if it does within
    /// a hundred.
    async fn fails_after(
        parts: &[&[u8]],
        timeout: impl FnOnce(DuplexStream) -> HeadTimeout<DuplexStream>,
    ) -> Option<u64> {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let mut stream = timeout(server);
        let begun = Instant::now();
        let reading = async {
            while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
            begun.elapsed().as_secs()
        };
        let writing = async {
            for part in parts {
                client.write_all(part).await.unwrap();
                sleep(SECOND).await;
            }
            sleep(100 * SECOND).await;
        };
        tokio::select! {
            seconds = reading => Some(seconds),
            () = writing => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_http1_head_has_ten_seconds_from_its_first_byte() {
        let whole = &b"GET / HTTP/1.1\r\nHost: l\r\n\r\n"[..];
        let slow: Vec<&[u8]> = whole.chunks(1).collect();
        let quick: Vec<&[u8]> = whole.chunks(4).collect();
        let cases: [(&[&[u8]], Option<u64>); _] = [
            (&[], None),
            (&[whole], None),
            (&[b"GET / HTTP/1.1\n\n"], None),
            (&quick, None),
            (&slow, Some(10)),
            (&[b"\r\n"], Some(10)),
            (&[b"G"], Some(10)),
            (&[whole, whole, b"GET"], Some(12)),
            (&[b"GET / HTTP/1.1\r\nHost: l\r\n\r\nGET"], Some(10)),
            (&[b"GET / HTTP/1.1\r", b"\n\r", b"\nGET /"], Some(12)),
            (
                &[b"GET / HTTP/1.1\r\nHost: l", b"\r\n", b"a: b", b"\r\nc: d"],
                Some(10),
            ),
        ];
        for (parts, expected) in cases {
            let failed = fails_after(parts, |stream| HeadTimeout::h1(stream, Arc::default())).await;
            assert_eq!(failed, expected, "{parts:?}");
        }
        // Each of these heads takes less than the limit, all together take more.
        let overlapping: Vec<&[u8]> = [&b"\r\nHost: l\r\n\r\nGET / HTTP/1.1"[..]; 30].to_vec();
        let parts = [&[&b"GET / HTTP/1.1"[..]], &overlapping[..], &[b"\r\n\r\n"]].concat();
        assert_eq!(
            fails_after(&parts, |stream| HeadTimeout::h1(stream, Arc::default())).await,
            None
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_behind_a_running_request_has_more_time() {
        let requests = Arc::<RequestTracker>::default();
        let running = requests.begin(warp::http::Version::HTTP_11);
        tokio::spawn(async move {
            sleep(25 * SECOND).await;
            drop(running);
        });
        let stream = |stream| HeadTimeout::h1(stream, requests);
        assert_eq!(fails_after(&[b"GET /"], stream).await, Some(30));
    }

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.resize(9 + usize::from(length), 0);
        frame
    }

    #[tokio::test(start_paused = true)]
    async fn an_http2_head_has_ten_seconds_and_so_have_the_preface_and_the_settings() {
        let begun = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 6)].concat();
        let begun = begun.as_slice();
        let headers = |flags| frame(1, flags, 20);
        let (half, whole) = (headers(0), headers(4));
        let (more, end) = (frame(9, 0, 20), frame(9, 4, 20));
        let data = frame(0, 0, 200);
        let cases: [(&[&[u8]], Option<u64>); _] = [
            (&[], Some(10)),
            (&[b"PRI * HTTP/2.0"], Some(10)),
            (&[&begun[..24]], Some(10)),
            (&[&begun[..30], &begun[30..]], None),
            (&[begun], None),
            (&[begun, &whole, &whole], None),
            (&[begun, &half], Some(11)),
            (&[begun, &half, &more, &more, &more], Some(11)),
            (&[begun, &half, &more, &end], None),
            (&[begun, &whole[..4]], Some(11)),
            (
                &[begun, &whole[..20], &[&whole[20..], &whole[..20]].concat()],
                Some(12),
            ),
            // A body is not a head; the response ends it.
            (&[begun, &data[..100]], None),
        ];
        for (parts, expected) in cases {
            assert_eq!(
                fails_after(parts, |stream| HeadTimeout::h2(stream, Arc::default())).await,
                expected,
                "{parts:?}"
            );
        }
    }

    #[tokio::test]
    async fn long_heads_may_not_take_more_than_a_share_of_what_may_be_pending() {
        let clients = Arc::new(SlowClients::new(128 * 1024, Observer::new(Vec::new())));
        let connect = || {
            let (client, server) = tokio::io::duplex(64 * 1024);
            let requests = Arc::new(RequestTracker::new(clients.outbound()));
            (client, HeadTimeout::h1(server, requests))
        };
        let (long, short) = (vec![b'x'; 12 * 1024], [b'x'; 1024]);
        let mut buffer = vec![0; 16 * 1024];
        let mut held = Vec::new();
        for is_kept in [true, true, false, false] {
            let (mut client, mut stream) = connect();
            client.write_all(&long).await.unwrap();
            assert_eq!(stream.read(&mut buffer).await.is_ok(), is_kept);
            if is_kept {
                held.push((client, stream));
            }
        }
        // Short heads are always read, and long ones again when there is room.
        let (mut client, mut stream) = connect();
        client.write_all(&short).await.unwrap();
        assert!(stream.read(&mut buffer).await.is_ok());
        let (client, stream) = &mut held[0];
        client.write_all(b"\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut buffer).await.is_ok(), "it is complete");
        let (mut client, mut stream) = connect();
        client.write_all(&long).await.unwrap();
        assert!(stream.read(&mut buffer).await.is_ok());
    }
}
