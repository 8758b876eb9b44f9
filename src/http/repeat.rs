//! Requests that come again, byte for byte, on a connection: answered without being read again.
//!
//! Who polls says the same each time. What the bytes of a request mean does not change, so where it was
//! a hit it is one again while its entry is fresh; only that is looked up. hyper, the filters and the
//! endpoint see every request for the first time, and each that needs more than a look.
//!
//! It rests on knowing where a request begins and that hyper owes nothing before it: hyper is handed
//! one head at a time, and each is counted until its answer is written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::exchange::{Again, Exchanges};
use super::gather::Gather;

/// Heads that are known on one connection: as many as a page of panels asks for in turn.
const KNOWN_MAX: usize = 8;

/// The bytes of a head that is worth knowing. Beyond them are cookies.
const HEAD_MAX: usize = 2 * 1024;

/// The bytes of a head that are waited for; what is longer goes to hyper as it comes.
const PART_MAX: usize = 8 * 1024;

/// hyper counts the time that a client may stay idle from the last request that it saw: it sees one at
/// least this often.
const UNSEEN_MAX: Duration = Duration::from_secs(10);

/// The stream of a connection of HTTP/1.1, as hyper reads and writes it.
pub(super) struct Repeats<S: AsyncRead + AsyncWrite + Unpin> {
    stream: Gather<S>,
    exchanges: Arc<Exchanges>,
    state: State,
    /// What was read and not handed to hyper yet.
    ahead: BytesMut,
    /// When hyper was handed the last request.
    seen: Instant,
    known: Vec<Known>,
    /// The head of the request that hyper has, if how it is answered is to be learnt.
    learning: Vec<u8>,
    /// Of the last heads that are not known: one that comes for the second time is worth knowing.
    sketches: [u64; KNOWN_MAX],
    /// How many of them there have been.
    sketched: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// hyper waits for the next request.
    Idle,
    /// hyper has a request.
    Busy,
    /// There was something else than heads that follow one another: all is left to hyper, for good.
    Plain,
}

/// A head, and how it is answered.
struct Known {
    head: Box<[u8]>,
    answer: Box<dyn Again>,
}

/// What bytes begin with.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// A whole head of so many bytes.
    Head(usize),
    /// What may become one.
    Part,
    /// Neither.
    Other,
}

impl Next {
    /// Of heads alone, where hyper ends them: at the first empty line, whether or not lines end with a
    /// carriage return.
    fn of(bytes: &[u8]) -> Self {
        // Methods that come without content, if they are answered at all.
        const BEGINNINGS: [&[u8]; 3] = [b"GET ", b"HEAD ", b"OPTIONS "];
        let begins = |beginning: &&[u8]| {
            let length = beginning.len().min(bytes.len());
            beginning[..length] == bytes[..length]
        };
        if !BEGINNINGS.iter().any(begins) {
            return Self::Other;
        }
        let within = &bytes[..bytes.len().min(PART_MAX)];
        for end in memchr::memchr_iter(b'\n', within) {
            match &bytes[end + 1..] {
                [b'\n', ..] => return Self::Head(end + 2),
                [b'\r', b'\n', ..] => return Self::Head(end + 3),
                _ => {}
            }
        }
        if bytes.len() < PART_MAX {
            Self::Part
        } else {
            Self::Other
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Repeats<S> {
    /// Without exchanges, which the service tells of, all is left to hyper.
    pub(super) fn new(stream: S, exchanges: Option<Arc<Exchanges>>) -> Self {
        Self {
            stream: Gather::new(stream),
            state: exchanges.as_ref().map_or(State::Plain, |_| State::Idle),
            exchanges: exchanges.unwrap_or_default(),
            ahead: BytesMut::new(),
            seen: Instant::now(),
            known: Vec::new(),
            learning: Vec::new(),
            sketches: [0; KNOWN_MAX],
            sketched: 0,
        }
    }

    /// Reads, and answers what of it is known, until there is something for hyper or nothing more.
    fn poll_idle(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = buffer.filled().len();
        loop {
            if self.take_ahead(cx, buffer)? {
                return Poll::Ready(Ok(()));
            }
            if self.stream.poll_more(cx, buffer)?.is_pending() {
                // Nobody else is about to send what is answered.
                ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
                return Poll::Pending;
            }
            let read = &buffer.filled()[start..];
            if read.is_empty() {
                // The end. A part of a head is hyper's to judge.
                return self.poll_plain(cx, buffer);
            }
            let mut answered = 0;
            if self.ahead.is_empty() {
                answered = self.answer(cx, read)?;
                if answered == 0 && Next::of(read) == Next::Head(read.len()) {
                    self.hand(read);
                    return Poll::Ready(Ok(()));
                }
            }
            self.ahead.extend_from_slice(&read[answered..]);
            buffer.set_filled(start);
        }
    }

    /// Answers what is ahead as far as it is known. Says whether there is something behind it for hyper:
    /// that is in the buffer then.
    fn take_ahead(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> io::Result<bool> {
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.advance(self.answer(cx, &ahead)?);
        // Kept only with something in it: a connection that waits takes little.
        if ahead.is_empty() {
            return Ok(false);
        }
        let next = Next::of(&ahead);
        self.ahead = ahead;
        match next {
            Next::Head(length) if length <= buffer.remaining() => {
                let head = self.ahead.split_to(length);
                self.hand(&head);
                buffer.put_slice(&head);
                Ok(true)
            }
            Next::Part => Ok(false),
            Next::Head(_) | Next::Other => {
                self.leave(buffer);
                Ok(true)
            }
        }
    }

    /// While hyper has a request it only asks whether the client is still there. What comes meanwhile
    /// waits, unless it is content.
    fn poll_busy(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.exchanges.has_content() {
            return self.poll_plain(cx, buffer);
        }
        if !self.ahead.is_empty() {
            return Poll::Pending;
        }
        let start = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = &buffer.filled()[start..];
        if read.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.ahead.extend_from_slice(read);
        buffer.set_filled(start);
        Poll::Pending
    }

    /// Leaves all that comes to hyper.
    fn poll_plain(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            self.state = State::Plain;
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        self.leave(buffer);
        Poll::Ready(Ok(()))
    }

    /// Leaves what is ahead to hyper, as far as it has room, and all that comes behind it.
    fn leave(&mut self, buffer: &mut ReadBuf<'_>) {
        self.state = State::Plain;
        let length = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead.split_to(length));
    }

    /// Answers those requests at the beginning of `read` that can be, and says how many bytes they were.
    fn answer(&mut self, cx: &mut Context<'_>, read: &[u8]) -> io::Result<usize> {
        let mut answered = 0;
        if self.known.is_empty() {
            return Ok(answered);
        }
        let received = Instant::now();
        if received.saturating_duration_since(self.seen) > UNSEEN_MAX {
            return Ok(answered);
        }
        let known = |rest: &[u8]| {
            self.known
                .iter()
                .find(|known| rest.starts_with(&known.head))
        };
        while let Some(Known { head, answer }) = known(&read[answered..]) {
            // Where there is no room, because the client does not read, hyper waits for it.
            let Poll::Ready(held) = self.stream.poll_held(cx)? else {
                break;
            };
            if !answer.answer(received, held) {
                break;
            }
            answered += head.len();
        }
        Ok(answered)
    }

    /// hyper is handed a request.
    fn hand(&mut self, head: &[u8]) {
        self.state = State::Busy;
        self.seen = Instant::now();
        let is_wanted = head.len() <= HEAD_MAX && self.is_worth_knowing(head);
        if is_wanted {
            self.learning.extend_from_slice(head);
        }
        self.exchanges.hand(is_wanted);
    }

    /// Whether a head is among the last that came: most of those that never come again are not learnt.
    fn is_worth_knowing(&mut self, head: &[u8]) -> bool {
        let sketch = sketch(head);
        if self.sketches.contains(&sketch) {
            return true;
        }
        self.sketches[self.sketched % KNOWN_MAX] = sketch;
        self.sketched += 1;
        false
    }

    /// Looks whether hyper has answered the request it had: asked when it has nothing left to write.
    fn settle(&mut self) {
        let Some(learnt) = self.exchanges.settle() else {
            return;
        };
        self.state = State::Idle;
        let head = std::mem::take(&mut self.learning).into_boxed_slice();
        if let Some(answer) = learnt {
            self.known.retain(|known| known.head != head);
            if self.known.len() == KNOWN_MAX {
                self.known.remove(0);
            }
            self.known.push(Known { head, answer });
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Repeats<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.state {
            State::Idle => self.poll_idle(cx, buffer),
            State::Busy => self.poll_busy(cx, buffer),
            State::Plain => self.poll_plain(cx, buffer),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Repeats<S> {
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
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper has nothing left to write when it flushes; and when it hears that it is done, it makes up its
    /// mind whether there is a next request. Before that it only asks whether the client is there.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.state == State::Busy {
            self.settle();
            // hyper was told that there is nothing to read yet, and does not ask again by itself.
            if self.state == State::Idle && !self.ahead.is_empty() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Tells heads apart, but for a few: a multiplicative hash.
fn sketch(head: &[u8]) -> u64 {
    head.chunks(8).fold(0, |sketch: u64, chunk| {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        (sketch.rotate_left(5) ^ u64::from_le_bytes(bytes)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::fmt::Write as _;
    use std::panic::AssertUnwindSafe;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bolero::check;
    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::body::{Body as _, Incoming};
    use hyper::header::{CONNECTION, HeaderValue};
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::yield_now;
    use tokio::time::{advance, timeout};

    use super::super::connection::h1;
    use super::super::date;
    use super::*;

    /// An answer that never comes is a failure, not a test that does not end.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Who answered how often.
    #[derive(Debug, Default)]
    struct Answered {
        by_service: AtomicUsize,
        again: AtomicUsize,
    }

    /// The answer to a path: itself, and more of it where it is `/large`.
    fn content(path: &str) -> String {
        path.repeat(if path == "/large" { 1_000 } else { 1 })
    }

    #[derive(Debug)]
    struct Path {
        path: String,
        answered: Arc<Answered>,
    }

    impl Again for Path {
        fn answer(&self, received: Instant, out: &mut Vec<u8>) -> bool {
            self.answered.again.fetch_add(1, Ordering::Relaxed);
            let content = content(&self.path);
            let mut head = String::from("HTTP/1.1 200 OK\r\n");
            write!(head, "content-length: {}\r\n", content.len()).unwrap();
            out.extend_from_slice(head.as_bytes());
            date::write(received, out);
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(content.as_bytes());
            true
        }
    }

    /// Serves the other end of a connection. If it is told of them, requests that come again are known,
    /// but those for `/new`; `/slow` takes a while.
    fn serve(stream: DuplexStream, is_told: bool) -> Arc<Answered> {
        let answered = Arc::<Answered>::default();
        let exchanges = Arc::<Exchanges>::default();
        let (by, told) = (Arc::clone(&answered), Arc::clone(&exchanges));
        let service = service_fn(move |request: Request<Incoming>| {
            by.by_service.fetch_add(1, Ordering::Relaxed);
            let has_content = !request.body().is_end_stream();
            let exchange = told.begin(has_content);
            let path = request.uri().path().to_owned();
            let is_plain = request.method() == "GET"
                && request.version() == hyper::Version::HTTP_11
                && !request.headers().contains_key(CONNECTION);
            if let Some(learner) = exchange.learner().filter(|_| is_plain && path != "/new") {
                let (path, answered) = (path.clone(), Arc::clone(&by));
                learner.learn(Path { path, answered });
            }
            async move {
                for _ in 0..if path == "/slow" { 10 } else { 0 } {
                    yield_now().await;
                }
                let mut response = Response::new(Full::new(Bytes::from(content(&path))));
                if has_content {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                Ok::<_, Infallible>(response.map(|body| exchange.content(body)))
            }
        });
        tokio::spawn(h1(stream, service, is_told.then_some(exchanges)));
        answered
    }

    async fn read_until(client: &mut DuplexStream, end: &str) -> String {
        let mut said = Vec::new();
        while !said.ends_with(end.as_bytes()) {
            let more = timeout(PATIENCE, client.read_buf(&mut said)).await;
            assert!(more.expect("it comes").unwrap() > 0);
        }
        String::from_utf8(said).unwrap()
    }

    const GET: &str = "GET /a HTTP/1.1\r\nHost: l\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn what_comes_for_the_third_time_is_answered_without_the_service() {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let answered = serve(server, true);
        for times in 1..=5 {
            client.write_all(GET.as_bytes()).await.unwrap();
            let said = read_until(&mut client, "/a").await;
            assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
            let again = answered.again.load(Ordering::Relaxed);
            assert_eq!(again, usize::saturating_sub(times, 2));
        }
        // Many at once, with others between them that are not known: in order, and each once.
        let other = GET.replace("/a", "/new");
        let sent = [GET, GET, &other, GET, &other, &other, GET].concat();
        client
            .write_all((sent + &GET.replace("/a", "/z")).as_bytes())
            .await
            .unwrap();
        let said = read_until(&mut client, "/z").await;
        let paths: Vec<_> = said
            .split("\r\n\r\n")
            .skip(1)
            .map(|it| it.split("HTTP").next().unwrap())
            .collect();
        assert_eq!(
            paths,
            ["/a", "/a", "/new", "/a", "/new", "/new", "/a", "/z"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn hyper_sees_a_request_now_and_then_and_the_connection_stays_open() {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let answered = serve(server, true);
        let minutes = 10;
        for _ in 0..60 * minutes {
            client.write_all(GET.as_bytes()).await.unwrap();
            read_until(&mut client, "/a").await;
            advance(Duration::from_secs(1)).await;
        }
        let by_service = answered.by_service.load(Ordering::Relaxed);
        assert!(
            (5 * minutes..=7 * minutes).contains(&by_service),
            "{by_service}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_answered_when_it_does() {
        let (client, server) = tokio::io::duplex(512);
        let answered = serve(server, true);
        let (mut reads, mut writes) = tokio::io::split(client);
        let write = async {
            for _ in 0..2_000 {
                writes.write_all(GET.as_bytes()).await.unwrap();
            }
            writes
                .write_all(GET.replace("/a", "/z").as_bytes())
                .await
                .unwrap();
        };
        let read = async {
            // As much is sent as there is room for, and no more is taken.
            for _ in 0..1_000 {
                yield_now().await;
            }
            let taken = answered.again.load(Ordering::Relaxed);
            assert!(taken < 400, "{taken}");
            let mut said = Vec::new();
            while !said.ends_with(b"/z") {
                reads.read_buf(&mut said).await.unwrap();
            }
            String::from_utf8(said).unwrap()
        };
        let ((), said) = timeout(PATIENCE, async { tokio::join!(write, read) })
            .await
            .unwrap();
        assert_eq!(said.matches("\r\n\r\n/a").count(), 2_000);
        assert!(answered.again.load(Ordering::Relaxed) > 1_000);
    }

    /// What clients send, sound and unsound.
    fn requests() -> Vec<String> {
        let length = GET.len();
        vec![
            GET.to_owned(),
            GET.replace("/a", "/b"),
            GET.replace("\r\n", "\n"),
            GET.replace("Host: l", "Host: l\r\nAccept: text/csv"),
            GET.replace("/a", "/new"),
            GET.replace("/a", "/slow"),
            GET.replace("/a", "/large"),
            GET.replace("GET", "HEAD"),
            GET.replace("GET", "OPTIONS"),
            GET.replace("1.1", "1.0"),
            GET.replace("Host: l", "Host: l\r\nConnection: close"),
            GET.replace("Host: l", "Host: l\r\nConnection: keep-alive"),
            // What is in the content of a request is no request.
            GET.replace("Host: l", &format!("Host: l\r\nContent-Length: {length}")) + GET,
            GET.replace("GET", "POST")
                .replace("Host: l", &format!("Content-Length: {length}"))
                + GET,
            GET.replace("Host: l", "Transfer-Encoding: chunked") + "0\r\n\r\n",
            GET.replace("/a", "/\0"),
            "\r\n".to_owned(),
            "GET /a HT".to_owned(),
        ]
    }

    #[test]
    fn a_client_is_answered_the_same_whether_or_not_its_requests_are_known() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let runtime = AssertUnwindSafe(runtime.unwrap());
        let requests = requests();
        let again = AtomicUsize::new(0);
        check!()
            .with_type::<(Vec<u8>, Vec<u8>)>()
            .for_each(|(asked, cuts)| {
                let mut sent = String::new();
                for asked in asked {
                    // Most are of the kinds that can be known.
                    let kind = if *asked < 192 { asked % 4 } else { asked - 192 };
                    sent += &requests[usize::from(kind) % requests.len()];
                }
                let (known, answered) = runtime.block_on(said_to(sent.as_bytes(), cuts, true));
                let (plain, _) = runtime.block_on(said_to(sent.as_bytes(), &[], false));
                assert!(
                    known == plain,
                    "{}\n{sent:?} cut at {cuts:?}",
                    parting(&known, &plain)
                );
                again.fetch_add(answered.again.load(Ordering::Relaxed), Ordering::Relaxed);
            });
        assert!(again.into_inner() > 0, "some were known");
    }

    /// All that a client gets, without dates, which sends this in pieces and takes its leave.
    async fn said_to(sent: &[u8], cuts: &[u8], is_told: bool) -> (String, Arc<Answered>) {
        let (client, server) = tokio::io::duplex(1024);
        let answered = serve(server, is_told);
        let (mut reads, mut writes) = tokio::io::split(client);
        let write = async {
            let (mut rest, mut cuts) = (sent, cuts.iter());
            while !rest.is_empty() {
                let length = cuts.next().map_or(rest.len(), |cut| usize::from(*cut) + 1);
                let piece = rest.split_off(..length.min(rest.len())).unwrap();
                // A server that has refused need not take the rest.
                let _ = writes.write_all(piece).await;
                yield_now().await;
            }
            let last = GET.replace("Host: l", "Host: l\r\nConnection: close");
            let _ = writes.write_all(last.as_bytes()).await;
        };
        let read = async {
            let mut said = String::new();
            let _ = reads.read_to_string(&mut said).await;
            said
        };
        let both = async { tokio::join!(write, read) };
        let ((), said) = timeout(PATIENCE, both).await.expect("it ends");
        let lines = said
            .split("\r\n")
            .filter(|line| !line.starts_with("date: "));
        (lines.collect::<Vec<_>>().join("\r\n"), answered)
    }

    /// Where two texts part, and what they say there.
    fn parting(one: &str, other: &str) -> String {
        let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b);
        let from = same.count().saturating_sub(20);
        let rest = |text: &str| text[from..].chars().take(100).collect::<String>();
        format!("at {from}: {:?}, not {:?}", rest(one), rest(other))
    }

    #[test]
    fn a_head_ends_where_hyper_ends_it() {
        let check = |bytes: &str, next| assert_eq!(Next::of(bytes.as_bytes()), next, "{bytes:?}");
        check(GET, Next::Head(GET.len()));
        check(&(GET.to_owned() + GET), Next::Head(GET.len()));
        check("GET / HTTP/1.1\n\nabc", Next::Head(16));
        check("GET / HTTP/1.1\r\na: b\n\r\n\r\n", Next::Head(23));
        check("GET / HTTP/1.1\r\n\r", Next::Part);
        check("", Next::Part);
        check("OPT", Next::Part);
        check("GETA / HTTP/1.1\r\n\r\n", Next::Other);
        check("\r\nGET / HTTP/1.1\r\n\r\n", Next::Other);
        check(&format!("GET /{}", "a".repeat(PART_MAX)), Next::Other);
    }
}
