//! Answers to requests that came together leave together.
//!
//! What the kernel takes for a packet is most of what a hit costs, and a client that sends several
//! requests in a row would get one for each. hyper's own `pipeline_flush` holds answers back for as long
//! as there is anything of a next request, be it half a line or nonsense. Here they only wait for hyper
//! to look at what it has read already.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Behind so many bytes nothing more is held back before they are sent.
const HELD_MAX: usize = 16 * 1024;

/// More than this at once is not copied when nothing is held back.
const COPIED_MAX: usize = 4 * 1024;

/// A stream that puts off being flushed while there may be more to answer: until a read has found
/// nothing, or it is flushed again with nothing written in between.
///
/// That the put-off flush comes rests on hyper: each time that it is polled it reads, writes and flushes,
/// and goes round again while there is something to read. A read that finds nothing may be the last of
/// that round, so it asks to be polled once more. What is held back when hyper leaves in the middle is for
/// the connection to send.
pub(super) struct Gather<S> {
    stream: S,
    held: Vec<u8>,
    /// How much of it is sent.
    sent: usize,
    /// Whether it was written to since it was last flushed.
    is_new: bool,
    /// Whether the last read found nothing.
    is_drained: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Gather<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            held: Vec::new(),
            sent: 0,
            is_new: false,
            is_drained: false,
        }
    }

    /// Whether anything is held back.
    pub(super) fn owes(&self) -> bool {
        !self.held.is_empty()
    }

    /// Sends what is held back.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.held.len() {
            let rest = &self.held[self.sent..];
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.sent = 0;
        self.held.clear();
        // A connection that waits for its next request takes little.
        self.held.shrink_to(COPIED_MAX);
        Poll::Ready(Ok(()))
    }

    /// Whether so many bytes more are to be held back; else there is nothing held back before them.
    fn poll_holds(&mut self, cx: &mut Context<'_>, more: usize) -> Poll<io::Result<bool>> {
        if self.held.len() + more > HELD_MAX {
            ready!(self.poll_send(cx))?;
        }
        let holds = more <= COPIED_MAX || !self.held.is_empty();
        self.is_new = holds;
        Poll::Ready(Ok(holds))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let was_drained = std::mem::replace(&mut self.is_drained, read.is_pending());
        // Once: a flush was put off only before, and a client that does not read is no reason to spin.
        if self.is_drained && !was_drained && !self.held.is_empty() {
            cx.waker().wake_by_ref();
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !ready!(self.poll_holds(cx, bytes.len()))? {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if !ready!(self.poll_holds(cx, length))? {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        }
        for slice in slices {
            self.held.extend_from_slice(slice);
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

    use super::super::connection::run_h1;
    use super::*;

    /// An answer that is held back for ever is a failure, not a test that does not end.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A stream that counts what the kernel would be asked to send.
    struct Counted {
        stream: DuplexStream,
        did: Arc<Did>,
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
            self.did.writes.fetch_add(1, Ordering::Relaxed);
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
    struct Did {
        writes: AtomicUsize,
        polls: AtomicUsize,
    }

    /// A client of a server that answers each path with itself so many times, and `/never` never.
    fn client(times: usize) -> (DuplexStream, Arc<Did>) {
        let (client, server) = tokio::io::duplex(1024);
        let did = Arc::<Did>::default();
        let stream = Counted {
            stream: server,
            did: Arc::clone(&did),
        };
        let service = service_fn(move |request: Request<Incoming>| async move {
            let path = request.uri().path().to_owned();
            if path == "/never" {
                std::future::pending::<()>().await;
            }
            let body = Full::new(Bytes::from(path.repeat(times)));
            Ok::<_, Infallible>(Response::new(body))
        });
        let mut connection = Box::pin(run_h1(stream, service, Arc::default()));
        let polled = Arc::clone(&did);
        tokio::spawn(poll_fn(move |cx| {
            polled.polls.fetch_add(1, Ordering::Relaxed);
            connection.as_mut().poll(cx).map(drop)
        }));
        (client, did)
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
    async fn what_came_together_is_answered_together() {
        let (mut client, did) = client(1);
        let paths = ["/a", "/b", "/c", "/d"];
        client.write_all(requests(&paths).as_bytes()).await.unwrap();
        let said = read_until(&mut client, "/d").await;
        assert_eq!(said.matches("200 OK").count(), paths.len());
        assert_eq!(did.writes.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn no_answer_waits_for_a_slow_one_or_for_the_rest_of_a_request() {
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
    async fn nonsense_behind_a_request_takes_nothing_of_its_answer() {
        let (mut client, _) = client(1);
        let sent = requests(&["/a"]) + "n\0nsense\r\n\r\n";
        client.write_all(sent.as_bytes()).await.unwrap();
        let said = read_to_end(client).await;
        let statuses = ["200 OK", "400 Bad Request"].map(|status| said.matches(status).count());
        assert_eq!(statuses, [1, 1], "{said}");
    }

    #[tokio::test]
    async fn what_is_too_much_to_be_held_back_comes_whole_and_in_order() {
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
    async fn whatever_ends_a_connection_what_was_answered_on_it_is_sent() {
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
            // Of one that came with the end of the stream hyper itself says nothing.
            let answers = if behind.is_empty() { 1 } else { 2 };
            assert!(
                said.matches("\r\n\r\n/a").count() >= answers,
                "{behind}: {said}"
            );
        }
    }

    /// More than the connection takes at once: its client reads when all of it is answered.
    #[tokio::test(start_paused = true)]
    async fn it_is_sent_to_a_client_that_reads_late_too() {
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
    async fn who_does_not_read_is_not_looked_at_again_and_again() {
        for pairs in 1..=20 {
            let (mut client, did) = client(300);
            for _ in 0..pairs {
                let pair = requests(&["/a", "/b"]);
                client.write_all(pair.as_bytes()).await.unwrap();
                yield_now().await;
            }
            // What can be done is done, and the client still holds the connection.
            for _ in 0..100 {
                yield_now().await;
            }
            let before = did.polls.load(Ordering::Relaxed);
            for _ in 0..100 {
                yield_now().await;
            }
            let polls = did.polls.load(Ordering::Relaxed) - before;
            assert_eq!(polls, 0, "after {pairs} pairs");
            drop(client);
        }
    }
}
