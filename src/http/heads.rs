//! How long the head of a request may take, from its first byte to its last.
//!
//! hyper has one time for the wait for a request and for the request itself. A client may wait for long
//! between requests; one that has begun and does not go on holds a connection for nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::connection::request_tracker::RequestTracker;

/// How long a head may take. Heads are a packet or two; Apache allows 20 s at first.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream whose reads fail once the head of a request takes too long.
pub(super) struct Heads<S> {
    stream: S,
    protocol: Protocol,
    /// While a head has begun that has not ended.
    late: Option<Pin<Box<Sleep>>>,
}

enum Protocol {
    H1 {
        /// The last bytes that were read.
        tail: [u8; 3],
        requests: Arc<RequestTracker>,
    },
    H2(Frames),
}

impl<S> Heads<S> {
    /// For an HTTP/1.1 connection.
    pub(super) fn h1(stream: S, requests: Arc<RequestTracker>) -> Self {
        let tail = [0; 3];
        Self {
            stream,
            protocol: Protocol::H1 { tail, requests },
            late: None,
        }
    }

    /// For a connection of HTTP/2, which begins with a preface and settings: from now on.
    pub(super) fn h2(stream: S) -> Self {
        Self {
            stream,
            protocol: Protocol::H2(Frames::default()),
            late: Some(Box::pin(sleep(HEAD_TIMEOUT))),
        }
    }

    fn note(&mut self, read: &[u8]) {
        let progress = match &mut self.protocol {
            Protocol::H1 { tail, .. } => Progress::of_h1(tail, read),
            Protocol::H2(frames) => frames.read(read),
        };
        match progress {
            Progress::Whole => self.late = None,
            Progress::Within if self.late.is_some() => {}
            Progress::Within | Progress::Begun => self.late = Some(Box::pin(sleep(HEAD_TIMEOUT))),
        }
    }

    /// Fails once it is late, unless a request is being answered: then what comes behind it waits.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(late) = &mut self.late else {
            return Poll::Pending;
        };
        ready!(late.as_mut().poll(cx));
        if let Protocol::H1 { requests, .. } = &self.protocol
            && requests.is_busy()
        {
            late.as_mut().reset(Instant::now() + HEAD_TIMEOUT);
            ready!(late.as_mut().poll(cx));
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Where what was read ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Behind a head.
    Whole,
    /// Within the head that had begun before, or the first.
    Within,
    /// Within a head that began in what was read.
    Begun,
}

impl Progress {
    /// Requests follow one another, each a head: behind content nothing is taken for a request. They end
    /// with an empty line.
    fn of_h1(tail: &mut [u8; 3], read: &[u8]) -> Self {
        let mut end = *tail;
        match read.last_chunk() {
            Some(last) => end = *last,
            None => {
                end.rotate_left(read.len());
                end[3 - read.len()..].copy_from_slice(read);
            }
        }
        let before = std::mem::replace(tail, end);
        if end == *b"\n\r\n" || end.ends_with(b"\n\n") {
            return Self::Whole;
        }
        let all = [&before, read].concat();
        let mut lines = memchr::memchr_iter(b'\n', &all);
        let is_empty =
            |at: usize| all[at + 1..].starts_with(b"\n") || all[at + 1..].starts_with(b"\r\n");
        // An empty line that was there before has been seen.
        if lines.any(|at| is_empty(at) && at + 2 >= before.len()) {
            Self::Begun
        } else {
            Self::Within
        }
    }
}

/// What is read of HTTP/2: a preface, then frames (RFC 9113, 3.4 and 4.1).
#[derive(Debug, Default)]
struct Frames {
    /// How much of the preface was read.
    preface: usize,
    header: [u8; Self::HEADER],
    /// How much of the frame's header was read.
    read: usize,
    /// How much of its payload was not.
    rest: usize,
    /// Whether the client's settings have come, which are the first frame.
    is_settled: bool,
    /// Whether a head goes on in the next frame.
    is_continued: bool,
}

impl Frames {
    const PREFACE: usize = 24;
    const HEADER: usize = 9;
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const CONTINUATION: u8 = 9;
    const END_HEADERS: u8 = 4;

    fn read(&mut self, mut bytes: &[u8]) -> Progress {
        let mut was_whole = false;
        while !bytes.is_empty() {
            if self.preface < Self::PREFACE {
                let length = bytes.len().min(Self::PREFACE - self.preface);
                self.preface += length;
                bytes = &bytes[length..];
                continue;
            }
            if self.read < Self::HEADER {
                self.header[self.read] = bytes[0];
                self.read += 1;
                bytes = &bytes[1..];
                if self.read == Self::HEADER {
                    self.begin();
                }
            } else {
                let length = bytes.len().min(self.rest);
                self.rest -= length;
                bytes = &bytes[length..];
            }
            if self.read == Self::HEADER && self.rest == 0 {
                self.read = 0;
                self.is_settled = true;
                was_whole |= !self.is_continued;
            }
        }
        let is_head = match self.read {
            0 => self.is_continued,
            Self::HEADER => self.is_continued || self.header[3] != Self::DATA,
            _ => true,
        };
        if self.is_settled && !is_head {
            Progress::Whole
        } else if was_whole {
            Progress::Begun
        } else {
            Progress::Within
        }
    }

    /// The header of a frame has been read.
    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        self.rest = u32::from_be_bytes([0, a, b, c]) as usize;
        if kind == Self::HEADERS || kind == Self::CONTINUATION {
            self.is_continued = flags & Self::END_HEADERS == 0;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heads<S> {
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
            return self.poll_late(cx);
        }
        self.note(&buffer.filled()[start..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heads<S> {
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Sends the parts a second apart, and says after how many seconds the other end fails, if it does
    /// within a hundred.
    async fn fails_after(
        parts: &[&[u8]],
        heads: impl FnOnce(DuplexStream) -> Heads<DuplexStream>,
    ) -> Option<u64> {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let mut heads = heads(server);
        let begun = Instant::now();
        let reading = async {
            while heads.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
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
    async fn a_head_of_http_1_has_ten_seconds_from_its_first_byte() {
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
            let failed = fails_after(parts, |stream| Heads::h1(stream, Arc::default())).await;
            assert_eq!(failed, expected, "{parts:?}");
        }
        // Each of these takes its time, and none too much.
        let overlapping: Vec<&[u8]> = [&b"\r\nHost: l\r\n\r\nGET / HTTP/1.1"[..]; 30].to_vec();
        let parts = [&[&b"GET / HTTP/1.1"[..]], &overlapping[..], &[b"\r\n\r\n"]].concat();
        assert_eq!(
            fails_after(&parts, |stream| Heads::h1(stream, Arc::default())).await,
            None
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_behind_a_request_waits_until_it_is_answered() {
        let requests = Arc::<RequestTracker>::default();
        let running = requests.begin(warp::http::Version::HTTP_11);
        tokio::spawn(async move {
            sleep(25 * SECOND).await;
            drop(running);
        });
        let heads = |stream| Heads::h1(stream, requests);
        assert_eq!(fails_after(&[b"GET /"], heads).await, Some(30));
    }

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.resize(9 + usize::from(length), 0);
        frame
    }

    #[tokio::test(start_paused = true)]
    async fn so_has_one_of_http_2_and_so_have_its_preface_and_its_settings() {
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
            // Content is nobody's: the answer ends it.
            (&[begun, &data[..100]], None),
        ];
        for (parts, expected) in cases {
            assert_eq!(fails_after(parts, Heads::h2).await, expected, "{parts:?}");
        }
    }
}
