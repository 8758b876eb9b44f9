//! Requests that come again, byte for byte, on a connection: answered without being read again.
//!
//! Who polls says the same each time. What the bytes of a request mean does not change, so where it was
//! a hit it is one again while its entry is fresh; only that is looked up. hyper, the filters and the
//! endpoint see every request for the first time, and each that needs more than a look.
//!
//! It rests on knowing where a request begins, and that hyper owes nothing before it: hyper is handed one
//! head at a time, and the next is looked at when all of the answer is written.

#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::connection::HEAD_TIMEOUT;
use super::exchange::{Again, Exchanges};
use super::gather::Gather;

/// Heads that are known on one connection: as many as a page of panels asks for in turn.
const KNOWN_MAX: usize = 8;

/// The last heads that one is looked for among, to see whether it comes again.
const SKETCHES: usize = 32;

/// The bytes of a head that is worth knowing. Beyond them are cookies.
const HEAD_MAX: usize = 2 * 1024;

/// The bytes of a head whose end is looked for.
const PART_MAX: usize = 8 * 1024;

/// Answers in a row. Then hyper is handed a request, which lets others have their turn after some of them.
const ROW_MAX: usize = 32;

/// hyper does not see that a client is not idle which is answered without it: it is handed a request at
/// least this often, from which on it counts its time.
const UNSEEN_MAX: Duration = Duration::from_secs(10);

/// Load balancers keep connections for 60 s.
const _: () = assert!(UNSEEN_MAX.as_secs() + 60 < HEAD_TIMEOUT.as_secs());

/// The stream of a connection of HTTP/1.1, as hyper reads and writes it.
pub(super) struct Repeats<S: AsyncRead + AsyncWrite + Unpin> {
    stream: Gather<S>,
    exchanges: Arc<Exchanges>,
    state: State,
    /// What was read and not handed to hyper yet.
    ahead: BytesMut,
    /// The beginning of a head, which hyper has.
    begun: Vec<u8>,
    /// How many answers there may still be in this row.
    row: usize,
    /// When hyper was handed the last request, if one is known.
    seen: Instant,
    known: Vec<Known>,
    /// The head of the request that hyper has, if how it is answered is to be learnt.
    learning: Vec<u8>,
    /// Of the last heads that are not known: one that comes for the second time is worth knowing.
    sketches: [u32; SKETCHES],
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
    /// What may become one. hyper gets it as it comes: it may refuse it before it is whole.
    Part,
    /// Neither.
    Other,
}

impl Next {
    /// Of heads alone, where hyper ends them: at the first empty line, whether or not lines end with a
    /// carriage return.
    fn of(bytes: &[u8]) -> Self {
        // Of these there is no content, as a rule; where there is, the service says so.
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
            begun: Vec::new(),
            row: 0,
            seen: Instant::now(),
            known: Vec::new(),
            learning: Vec::new(),
            sketches: [0; SKETCHES],
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
        self.row = ROW_MAX;
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
                return Poll::Ready(Ok(()));
            }
            let mut answered = 0;
            if self.begun.is_empty() {
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

    /// Answers what is ahead as far as it is known. Says whether there was something behind it, for hyper:
    /// that is in the buffer then.
    fn take_ahead(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> io::Result<bool> {
        let mut ahead = std::mem::take(&mut self.ahead);
        if self.begun.is_empty() {
            ahead.advance(self.answer(cx, &ahead)?);
        }
        // Kept only with something in it: a connection that waits takes little.
        if ahead.is_empty() {
            return Ok(false);
        }
        self.ahead = ahead;
        let next = if self.begun.is_empty() {
            Next::of(&self.ahead)
        } else {
            Next::of(&[&self.begun[..], &self.ahead].concat())
        };
        match next {
            Next::Head(length) if length - self.begun.len() <= buffer.remaining() => {
                let mut head = std::mem::take(&mut self.begun);
                let rest = self.ahead.split_to(length - head.len());
                head.extend_from_slice(&rest);
                self.hand(&head);
                buffer.put_slice(&rest);
            }
            Next::Part if self.ahead.len() <= buffer.remaining() => {
                self.begun.extend_from_slice(&self.ahead);
                buffer.put_slice(&std::mem::take(&mut self.ahead));
            }
            Next::Head(_) | Next::Part | Next::Other => self.leave(buffer),
        }
        Ok(true)
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
        while self.row > 0
            && let Some(Known { head, answer }) = known(&read[answered..])
        {
            // Where there is no room, because the client does not read, hyper waits for it.
            let Poll::Ready(held) = self.stream.poll_held(cx)? else {
                break;
            };
            if !answer.answer(received, held) {
                break;
            }
            answered += head.len();
            self.row -= 1;
        }
        Ok(answered)
    }

    /// hyper is handed a request.
    fn hand(&mut self, head: &[u8]) {
        let is_wanted = head.len() <= HEAD_MAX && self.is_worth_knowing(head);
        if is_wanted {
            self.learning.extend_from_slice(head);
        }
        if is_wanted || !self.known.is_empty() {
            self.seen = Instant::now();
        }
        self.state = State::Busy;
        self.exchanges.hand(is_wanted);
    }

    /// Whether a head is among the last that came: most of those that never come again are not learnt.
    fn is_worth_knowing(&mut self, head: &[u8]) -> bool {
        let sketch = sketch(head);
        if self.sketches.contains(&sketch) {
            return true;
        }
        self.sketches[self.sketched % SKETCHES] = sketch;
        self.sketched += 1;
        false
    }

    /// Looks whether hyper has answered the request it had: asked when it has nothing left to write.
    fn settle(&mut self) {
        if !self.exchanges.is_settled() {
            return;
        }
        self.state = State::Idle;
        if self.learning.is_empty() {
            return;
        }
        let head = std::mem::take(&mut self.learning).into_boxed_slice();
        if let Some(answer) = self.exchanges.learnt() {
            self.known.retain(|known| known.head != head);
            // Some of too many stay, whatever the order they come in.
            if self.known.len() == KNOWN_MAX {
                self.known.swap_remove(sketch(&head) as usize % KNOWN_MAX);
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

    /// hyper has nothing left to write when it flushes. When it hears that it is done, it makes up its mind
    /// whether there is a next request; before that it only asks whether the client is there. If there is,
    /// it asks for it at once, because its time begins then (`header_read_timeout`).
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.state == State::Busy {
            self.settle();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Tells heads apart, but for a few: a multiplicative hash.
fn sketch(head: &[u8]) -> u32 {
    let (words, rest) = head.as_chunks();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let hash = words.iter().chain([&last]).fold(0, |hash: u64, word| {
        (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    });
    (hash >> 32) as u32
}
