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

/// So many bytes are held back at most.
const HELD_MAX: usize = 16 * 1024;

/// More than this at once is not copied when nothing is held back.
const COPIED_MAX: usize = 4 * 1024;

/// A stream that puts off being flushed while there may be more to answer: until a read has found
/// nothing, or it is flushed again with nothing written in between. Whoever polls a connection of
/// hyper's has it flushed, and before it waits for a handler, flushed again.
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
        self.is_drained = read.is_pending();
        if self.is_drained && !self.held.is_empty() {
            // A flush follows now, if none would have.
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    /// A stream that counts what the kernel would be asked to send.
    struct Counted {
        stream: DuplexStream,
        writes: Arc<AtomicUsize>,
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
            self.writes.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.stream).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    /// A client of a server that answers each path with itself so many times, and `/never` never.
    fn client(times: usize) -> (DuplexStream, Arc<AtomicUsize>) {
        let (client, server) = tokio::io::duplex(1024);
        let writes = Arc::new(AtomicUsize::new(0));
        let stream = Counted {
            stream: server,
            writes: Arc::clone(&writes),
        };
        let service = service_fn(move |request: Request<Incoming>| async move {
            let path = request.uri().path().to_owned();
            if path == "/never" {
                std::future::pending::<()>().await;
            }
            let body = Full::new(Bytes::from(path.repeat(times)));
            Ok::<_, Infallible>(Response::new(body))
        });
        let stream = TokioIo::new(Gather::new(stream));
        let connection = http1::Builder::new().serve_connection(stream, service);
        tokio::spawn(async { connection.await.ok() });
        (client, writes)
    }

    async fn read_until(client: &mut DuplexStream, end: &str) -> String {
        let mut said = Vec::new();
        while !said.ends_with(end.as_bytes()) {
            let more = client.read_buf(&mut said).await.unwrap();
            assert!(more > 0, "{}", String::from_utf8_lossy(&said));
        }
        String::from_utf8(said).unwrap()
    }

    fn requests(paths: &[&str]) -> String {
        let request = |path| format!("GET {path} HTTP/1.1\r\nHost: l\r\n\r\n");
        paths.iter().map(request).collect()
    }

    #[tokio::test]
    async fn what_came_together_is_answered_together() {
        let (mut client, writes) = client(1);
        let paths = ["/a", "/b", "/c", "/d"];
        client.write_all(requests(&paths).as_bytes()).await.unwrap();
        let said = read_until(&mut client, "/d").await;
        assert_eq!(said.matches("200 OK").count(), paths.len());
        assert_eq!(writes.load(Ordering::Relaxed), 1);
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
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
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
            let read = async {
                let mut said = Vec::new();
                while !said.ends_with("/e".repeat(times).as_bytes()) {
                    assert!(reads.read_buf(&mut said).await.unwrap() > 0);
                }
                String::from_utf8(said).unwrap()
            };
            let ((), said) = tokio::join!(send, read);
            let mut rest = &*said;
            for path in paths {
                let at = rest.find(&path.repeat(times));
                rest = &rest[at.unwrap()..];
            }
        }
    }
}
