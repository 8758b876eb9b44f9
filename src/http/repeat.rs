//! Requests that come again, byte for byte, on a connection: answered without being read again.
//!
//! Who polls says the same each time. What the bytes of a request mean does not change, so where it was
//! answered by a fresh entry it is again, as long as that is fresh; only that is looked up. hyper, the
//! filters and the endpoint see a request twice before it is known, then one in ten seconds, and
//! whatever needs more than a look.
//!
//! It rests on knowing where a request begins, and that hyper owes nothing before it: hyper is handed one
//! head at a time, and the next is looked at when all of the answer is written.

mod next;
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

use super::connection::IDLE_TIMEOUT;
use super::exchange::{Again, Exchanges};
use super::gather::Gather;
use next::Next;

/// Heads that are known on one connection: as many as a page of panels asks for in turn.
const KNOWN_MAX: usize = 8;

/// Of so many last heads a fingerprint is kept, to see whether one comes again.
const FINGERPRINTS: usize = 32;

/// The bytes of a head that is worth knowing. Beyond them are cookies.
const HEAD_MAX: usize = 2 * 1024;

/// Answers at once, before others have their turn.
const BURST_MAX: usize = 32;

/// hyper takes a client for idle that is answered without it: it is handed a request at least this often.
const UNSEEN_MAX: Duration = Duration::from_secs(10);

/// Load balancers keep connections for 60 s.
const _: () = assert!(UNSEEN_MAX.as_secs() + 60 < IDLE_TIMEOUT.as_secs());

/// The stream of a connection of HTTP/1.1, as hyper reads and writes it.
pub(super) struct Repeats<S: AsyncRead + AsyncWrite + Unpin> {
    stream: Gather<S>,
    exchanges: Arc<Exchanges>,
    state: State,
    /// What was read and not handed to hyper yet. It has no waker: hyper reads whenever it has answered.
    buffered: BytesMut,
    /// The beginning of a head, which hyper has.
    begun: Vec<u8>,
    /// When hyper was handed the last request, where any are known.
    seen: Instant,
    known: Vec<Repeat>,
    /// The head of the request that hyper has, if how it is answered is to be learnt.
    learning: Vec<u8>,
    /// Of the last heads that are not known: one that comes for the second time is worth knowing.
    fingerprints: [u32; FINGERPRINTS],
    /// How many of them there have been.
    fingerprinted: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// hyper waits for the next request.
    Idle,
    /// hyper has a request.
    Busy,
    /// There was something else than heads that follow one another: all is left to hyper, for good.
    PassThrough,
}

/// A head, and how it is answered.
struct Repeat {
    head: Box<[u8]>,
    answer: Box<dyn Again>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Repeats<S> {
    /// Without exchanges, which the service tells of, all is left to hyper.
    pub(super) fn new(stream: S, exchanges: Option<Arc<Exchanges>>) -> Self {
        Self {
            stream: Gather::new(stream),
            state: exchanges
                .as_ref()
                .map_or(State::PassThrough, |_| State::Idle),
            exchanges: exchanges.unwrap_or_default(),
            buffered: BytesMut::new(),
            begun: Vec::new(),
            seen: Instant::now(),
            known: Vec::new(),
            learning: Vec::new(),
            fingerprints: [0; FINGERPRINTS],
            fingerprinted: 0,
        }
    }

    /// Whether there are answers that were not sent yet.
    pub(super) fn owes(&self) -> bool {
        self.stream.owes()
    }

    /// Reads, and answers what of it is known, until there is something for hyper or nothing more.
    fn poll_idle(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = buffer.filled().len();
        let mut burst = BURST_MAX;
        loop {
            if burst == 0 {
                // hyper flushes whenever it has read.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !self.buffered.is_empty() {
                if self.answer_buffered(cx, &mut burst)? {
                    continue;
                }
                self.hand_buffered(buffer);
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
                answered = self.answer(cx, read, &mut burst)?;
                if answered == 0 && Next::of(read) == Next::Head(read.len()) {
                    self.hand(read);
                    return Poll::Ready(Ok(()));
                }
            }
            self.buffered.extend_from_slice(&read[answered..]);
            buffer.set_filled(start);
        }
    }

    /// Answers what is buffered as far as it is known. Says whether there was anything.
    fn answer_buffered(&mut self, cx: &mut Context<'_>, burst: &mut usize) -> io::Result<bool> {
        if !self.begun.is_empty() {
            return Ok(false);
        }
        let mut buffered = std::mem::take(&mut self.buffered);
        let answered = self.answer(cx, &buffered, burst)?;
        buffered.advance(answered);
        // Kept only with something in it: a connection that waits takes little.
        if !buffered.is_empty() {
            self.buffered = buffered;
        }
        Ok(answered > 0)
    }

    /// Hands to hyper what is buffered up to the end of a head.
    fn hand_buffered(&mut self, buffer: &mut ReadBuf<'_>) {
        let next = if self.begun.is_empty() {
            Next::of(&self.buffered)
        } else {
            Next::of(&[&self.begun[..], &self.buffered].concat())
        };
        match next {
            Next::Head(length) if length - self.begun.len() <= buffer.remaining() => {
                let mut head = std::mem::take(&mut self.begun);
                let rest = self.buffered.split_to(length - head.len());
                head.extend_from_slice(&rest);
                self.hand(&head);
                buffer.put_slice(&rest);
            }
            Next::Partial if self.buffered.len() <= buffer.remaining() => {
                self.begun.extend_from_slice(&self.buffered);
                buffer.put_slice(&std::mem::take(&mut self.buffered));
            }
            Next::Head(_) | Next::Partial | Next::Other => self.leave(buffer),
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
            return self.poll_pass_through(cx, buffer);
        }
        if !self.buffered.is_empty() {
            return Poll::Pending;
        }
        let start = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = &buffer.filled()[start..];
        if read.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.buffered.extend_from_slice(read);
        buffer.set_filled(start);
        Poll::Pending
    }

    /// Leaves all that comes to hyper.
    fn poll_pass_through(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.buffered.is_empty() {
            self.state = State::PassThrough;
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        self.leave(buffer);
        Poll::Ready(Ok(()))
    }

    /// Leaves what is buffered to hyper, as far as it has room, and all that comes behind it.
    fn leave(&mut self, buffer: &mut ReadBuf<'_>) {
        self.state = State::PassThrough;
        self.begun = Vec::new();
        let length = self.buffered.len().min(buffer.remaining());
        buffer.put_slice(&self.buffered.split_to(length));
    }

    /// Answers those requests at the beginning of `read` that can be, and says how many bytes they were.
    fn answer(
        &mut self,
        cx: &mut Context<'_>,
        read: &[u8],
        burst: &mut usize,
    ) -> io::Result<usize> {
        let mut answered = 0;
        if self.known.is_empty() {
            return Ok(answered);
        }
        let received = Instant::now();
        if received.saturating_duration_since(self.seen) > UNSEEN_MAX {
            return Ok(answered);
        }
        while *burst > 0
            && let Some(at) = self.position(&read[answered..])
        {
            // Where there is no room, because the client does not read, hyper waits for it.
            let Poll::Ready(held) = self.stream.poll_held(cx)? else {
                break;
            };
            let Repeat { head, answer } = &self.known[at];
            if !answer.answer(received, held) {
                self.known.swap_remove(at);
                break;
            }
            answered += head.len();
            *burst -= 1;
        }
        Ok(answered)
    }

    /// Where the request is that bytes begin with, if it is known.
    fn position(&self, bytes: &[u8]) -> Option<usize> {
        let begins = |repeat: &Repeat| bytes.starts_with(&repeat.head);
        self.known.iter().position(begins)
    }

    /// hyper is handed a request.
    fn hand(&mut self, head: &[u8]) {
        let is_wanted =
            head.len() <= HEAD_MAX && self.position(head).is_none() && self.is_worth_knowing(head);
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
        let fingerprint = fingerprint(head);
        if self.fingerprints.contains(&fingerprint) {
            return true;
        }
        self.fingerprints[self.fingerprinted % FINGERPRINTS] = fingerprint;
        self.fingerprinted += 1;
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
            // Some of too many stay, whatever the order they come in.
            if self.known.len() == KNOWN_MAX {
                self.known
                    .swap_remove(fingerprint(&head) as usize % KNOWN_MAX);
            }
            self.known.push(Repeat { head, answer });
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
            State::PassThrough => self.poll_pass_through(cx, buffer),
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
fn fingerprint(head: &[u8]) -> u32 {
    let (words, rest) = head.as_chunks();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let hash = words.iter().chain([&last]).fold(0, |hash: u64, word| {
        (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    });
    (hash >> 32) as u32
}
