//! Corks responses, so that those to pipelined requests leave in one write.
//!
//! Most of a hit's cost is what the kernel does for a packet, and a client that pipelines requests would
//! get a packet for each. hyper's own `pipeline_flush` holds responses back as long as there is anything of
//! a next request, be it half a line or nonsense. Here they wait only until hyper has looked at what it
//! has already read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Once this many bytes are corked, they are sent before more.
const CORKED_MAX: usize = 16 * 1024;

/// A write of more bytes is not copied while nothing is corked.
const COPIED_MAX: usize = 4 * 1024;

/// A stream that defers a flush while there may be more requests: until a read finds nothing, or until it
/// is flushed again with nothing written in between.
///
/// This relies on hyper: each time that it is polled it reads, writes and flushes, and starts over while
/// there is something to read. A read that finds nothing may be the last of a round, so it asks to be
/// polled once more. If hyper ends in the middle, the connection has to send what is still corked.
pub(super) struct Cork<S> {
    stream: S,
    corked: Vec<u8>,
    /// How many of these bytes are sent.
    sent: usize,
    /// Whether bytes were corked since the last flush.
    is_new: bool,
    /// Whether the last read found nothing.
    is_drained: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Cork<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            corked: Vec::new(),
            sent: 0,
            is_new: false,
            is_drained: false,
        }
    }

    /// Whether anything is corked.
    pub(super) fn is_corked(&self) -> bool {
        !self.corked.is_empty()
    }

    /// Sends what is corked.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.corked.len() {
            let rest = &self.corked[self.sent..];
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.sent = 0;
        self.corked.clear();
        // An idle connection takes little memory.
        self.corked.shrink_to(COPIED_MAX);
        Poll::Ready(Ok(()))
    }

    /// Whether `more` bytes are to be corked. If not, nothing is corked before them.
    fn poll_corks(&mut self, cx: &mut Context<'_>, more: usize) -> Poll<io::Result<bool>> {
        if self.corked.len() + more > CORKED_MAX {
            ready!(self.poll_send(cx))?;
        }
        let corks = more <= COPIED_MAX || !self.corked.is_empty();
        self.is_new = corks;
        Poll::Ready(Ok(corks))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Cork<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let was_drained = std::mem::replace(&mut self.is_drained, read.is_pending());
        // Once: a flush can only have been deferred before, and a client that does not read must not make it spin.
        if self.is_drained && !was_drained && !self.corked.is_empty() {
            cx.waker().wake_by_ref();
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Cork<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !ready!(self.poll_corks(cx, bytes.len()))? {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        self.corked.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if !ready!(self.poll_corks(cx, length))? {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        }
        for slice in slices {
            self.corked.extend_from_slice(slice);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.is_new) && !self.is_drained {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::super::http1;
    use super::*;

    /// A response that stays corked fails the test, instead of letting it run for ever.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A stream that counts writes.
    struct Counted {
        stream: DuplexStream,
        counts: Arc<Counts>,
    }

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.counts.writes.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.stream).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    /// What the server did.
    #[derive(Debug, Default)]
    struct Counts {
        writes: AtomicUsize,
        polls: AtomicUsize,
    }

    /// A client of a server that answers each path with itself, `times` times, and `/never` never.
    fn client(times: usize) -> (DuplexStream, Arc<Counts>) {
        let (client, server) = tokio::io::duplex(1024);
        let counts = Arc::<Counts>::default();
        let stream = Counted {
            stream: server,
            counts: Arc::clone(&counts),
        };
        let service = service_fn(move |request: Request<Incoming>| async move {
            let path = request.uri().path().to_owned();
            if path == "/never" {
                std::future::pending::<()>().await;
            }
            let body = Full::new(Bytes::from(path.repeat(times)));
            Ok::<_, Infallible>(Response::new(body))
        });
        let mut connection = Box::pin(http1::serve(stream, service, Arc::default()));
        let polled = Arc::clone(&counts);
        tokio::spawn(poll_fn(move |cx| {
            polled.polls.fetch_add(1, Ordering::Relaxed);
            connection.as_mut().poll(cx).map(drop)
        }));
        (client, counts)
    }

    async fn read_until(client: &mut (impl AsyncRead + Unpin), end: &str) -> String {
        let mut said = Vec::new();
        while !said.ends_with(end.as_bytes()) {
            let more = timeout(PATIENCE, client.read_buf(&mut said)).await;
            let said = || String::from_utf8_lossy(&said);
            let more = more.unwrap_or_else(|_| panic!("no more comes behind {}", said()));
            assert!(more.unwrap() > 0, "{}", said());
        }
        String::from_utf8(said).unwrap()
    }

    async fn read_to_end(mut client: DuplexStream) -> String {
        let mut said = String::new();
        let read = timeout(PATIENCE, client.read_to_string(&mut said)).await;
        read.expect("it ends").unwrap();
        said
    }

    fn requests(paths: &[&str]) -> String {
        let request = |path| format!("GET {path} HTTP/1.1\r\nHost: l\r\n\r\n");
        paths.iter().map(request).collect()
    }

    #[tokio::test]
    async fn responses_to_pipelined_requests_leave_in_one_write() {
        let (mut client, counts) = client(1);
        let paths = ["/a", "/b", "/c", "/d"];
        client.write_all(requests(&paths).as_bytes()).await.unwrap();
        let said = read_until(&mut client, "/d").await;
        assert_eq!(said.matches("200 OK").count(), paths.len());
        assert_eq!(counts.writes.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn no_response_waits_for_a_slow_one_or_for_the_rest_of_a_request() {
        for behind in [
            "GET /never HTTP/1.1\r\nHost: l\r\n\r\n",
            "GET /b HT",
            "\r\n",
        ] {
            let (mut client, _) = client(1);
            let sent = requests(&["/a"]) + behind;
            client.write_all(sent.as_bytes()).await.unwrap();
            read_until(&mut client, "/a").await;
        }
    }

    #[tokio::test]
    async fn nonsense_behind_a_request_does_not_lose_its_response() {
        let (mut client, _) = client(1);
        let sent = requests(&["/a"]) + "n\0nsense\r\n\r\n";
        client.write_all(sent.as_bytes()).await.unwrap();
        let said = read_to_end(client).await;
        let statuses = ["200 OK", "400 Bad Request"].map(|status| said.matches(status).count());
        assert_eq!(statuses, [1, 1], "{said}");
    }

    #[tokio::test]
    async fn responses_too_large_to_cork_arrive_complete_and_in_order() {
        for times in [1, 700, 3_000, 20_000] {
            let (client, _) = client(times);
            let paths = ["/a", "/b", "/c", "/d", "/e"];
            let (mut reads, mut writes) = tokio::io::split(client);
            let sent = requests(&paths);
            let send = async { writes.write_all(sent.as_bytes()).await.unwrap() };
            let end = "/e".repeat(times);
            let ((), said) = tokio::join!(send, read_until(&mut reads, &end));
            let mut rest = &*said;
            for path in paths {
                let at = rest.find(&path.repeat(times));
                rest = &rest[at.unwrap()..];
            }
        }
    }

    #[tokio::test]
    async fn corked_responses_are_sent_whatever_ends_the_connection() {
        for (behind, hangs_up) in [
            ("", true),
            ("GET /b", true),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false),
            ("CONNECT db:5432 HTTP/1.1\r\nHost: db\r\n\r\n", true),
            (
                "GET /b HTTP/1.1\r\nHost: l\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
                true,
            ),
            (
                "GET /b HTTP/1.1\r\nHost: l\r\nConnection: close\r\n\r\n",
                false,
            ),
            ("GET /b HTTP/1.0\r\n\r\n", false),
        ] {
            let (mut client, _) = client(1);
            let sent = requests(&["/a", "/a"]) + behind;
            client.write_all(sent.as_bytes()).await.unwrap();
            if hangs_up {
                client.shutdown().await.unwrap();
            }
            let said = read_to_end(client).await;
            // hyper itself does not answer a request that came with the end of the stream.
            let answers = if behind.is_empty() { 1 } else { 2 };
            assert!(
                said.matches("\r\n\r\n/a").count() >= answers,
                "{behind}: {said}"
            );
        }
    }

    /// More than the connection takes at once: the client reads only after all requests are answered.
    #[tokio::test(start_paused = true)]
    async fn corked_responses_reach_a_client_that_reads_late() {
        for behind in ["GET /b", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let (mut client, _) = client(1_000);
            let sent = requests(&["/a", "/a", "/a", "/a", "/a"]) + behind;
            client.write_all(sent.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            for _ in 0..100 {
                yield_now().await;
            }
            let said = read_to_end(client).await;
            assert_eq!(said.matches("/a").count(), 5_000, "{behind}");
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_makes_nothing_spin() {
        for pairs in 1..=20 {
            let (mut client, counts) = client(300);
            for _ in 0..pairs {
                let pair = requests(&["/a", "/b"]);
                client.write_all(pair.as_bytes()).await.unwrap();
                yield_now().await;
            }
            // Everything that can be done is done, and the client still holds the connection.
            for _ in 0..100 {
                yield_now().await;
            }
            let before = counts.polls.load(Ordering::Relaxed);
            for _ in 0..100 {
                yield_now().await;
            }
            let polls = counts.polls.load(Ordering::Relaxed) - before;
            assert_eq!(polls, 0, "after {pairs} pairs");
            drop(client);
        }
    }
}
