//! What clients hold by not taking it: which answers are on their way, how fast they go, and which are
//! cut off when too much waits.
//!
//! Pending are the bytes of answers that nothing else keeps in memory any more ([`held`]), and what
//! connections have copied that do not go on. An answer that is still in the cache costs nothing more
//! when a thousand clients read it, so it is not pending. Small answers are not followed one by one, for
//! hits would pay for it: of them it is known whose connection stands still.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::encode::held;
use crate::observe::{Event, Observer};

/// A client takes this many bytes of an answer a second, averaged over [`LENIENCY`]: what GPRS has.
/// Kestrel and IIS want 240.
const LEAST_RATE: u64 = 4 * 1024;

/// For how long it may take nothing. nginx allows the same.
const LENIENCY: Duration = Duration::from_secs(60);

/// How often it is looked whether too much waits, while large answers are on their way: in that time no
/// more than some MiB are loaded.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often it is looked who is too slow.
const RATE_EVERY: Duration = Duration::from_secs(1);

/// A connection of HTTP/2 whose frame has not left after this is closed, and at the latest after twice
/// that.
const EPOCH: Duration = Duration::from_secs(30);

/// Who has taken something within this time is cut only if much more than allowed waits.
const FRESH: Duration = Duration::from_millis(250);

/// A connection may hold this part of all that may wait, unless it is one answer.
const PART_OF_ONE: u64 = 4;

/// What a connection has copied that stands still: heads, small answers, records of TLS.
const COPIED: u64 = 32 * 1024;

/// Something that may have to end before its time.
#[derive(Debug, Default)]
pub(super) struct Cut {
    is_cut: AtomicBool,
    waker: AtomicWaker,
}

impl Cut {
    /// Says whether it was not before.
    fn cut(&self) -> bool {
        let is_first = !self.is_cut.swap(true, Ordering::AcqRel);
        self.waker.wake();
        is_first
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// Ready when it is cut.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.is_cut() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// A connection.
#[derive(Debug, Default)]
pub(super) struct Line {
    pending: Arc<Pending>,
    cut: Cut,
    /// Whether the server leaves.
    is_leaving: AtomicBool,
    /// Since when the client takes nothing, in milliseconds since the beginning; 0 while it does.
    stalled: AtomicU64,
    /// Bytes of small answers in frames that have not left, by the epoch in which they were given.
    waiting: [AtomicUsize; 2],
    left: Notify,
}

impl Line {
    /// Serves the connection until it ends, or is cut. What serves it is polled again when the server
    /// leaves.
    pub(super) async fn serve(&self, serving: Pin<&mut impl Future<Output = ()>>) {
        let mut serving = serving;
        let mut knows = false;
        poll_fn(|cx| {
            if serving.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let cut = self.cut.poll(cx);
            if self.is_leaving() && !std::mem::replace(&mut knows, true) {
                cx.waker().wake_by_ref();
            }
            cut
        })
        .await;
    }

    /// Whether the server leaves. It is asked each time that something comes, and so takes no lock.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// The client takes nothing more.
    pub(super) fn stall(&self) {
        let now = self.pending.now();
        self.stalled.store(now.max(1), Ordering::Relaxed);
    }

    /// It does again.
    pub(super) fn go_on(&self) {
        self.stalled.store(0, Ordering::Relaxed);
    }

    fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed) != 0
    }

    /// A large answer sets out.
    pub(super) fn send(self: &Arc<Self>, address: usize, is_stream: bool) -> Arc<Sending> {
        let sending = Arc::new(Sending {
            line: Arc::clone(self),
            address,
            until: AtomicU64::new(self.pending.now() + millis(LENIENCY)),
            taken: AtomicU64::new(self.pending.now()),
            outstanding: AtomicUsize::new(0),
            end: AtomicWaker::new(),
            is_stream,
            cut: Cut::default(),
            cut_at: AtomicU64::new(0),
        });
        let mut sendings = locked(&self.pending.sendings);
        sendings.push(Arc::downgrade(&sending));
        if sendings.len() == 1 {
            self.pending.begun.notify_one();
        }
        sending
    }

    /// A small answer is given to HTTP/2.
    pub(super) fn give(self: &Arc<Self>, length: usize) -> Frame {
        let epoch = self.pending.epoch.load(Ordering::Relaxed) % 2;
        self.waiting[epoch].fetch_add(length, Ordering::Relaxed);
        Frame {
            line: Arc::clone(self),
            epoch,
            length,
        }
    }

    fn waiting(&self) -> usize {
        let [a, b] = &self.waiting;
        a.load(Ordering::Acquire) + b.load(Ordering::Acquire)
    }

    /// Waits until all that was given has left.
    pub(super) async fn all_has_left(&self) {
        loop {
            let mut left = pin!(self.left.notified());
            left.as_mut().enable();
            if self.waiting() == 0 && !self.is_stalled() {
                return;
            }
            // That a client reads again is not told.
            let _ = timeout(LOOK_EVERY, left).await;
        }
    }
}

/// A small answer in a frame of HTTP/2, until it has left.
#[derive(Debug)]
pub(super) struct Frame {
    line: Arc<Line>,
    epoch: usize,
    length: usize,
}

impl Drop for Frame {
    fn drop(&mut self) {
        let waiting = &self.line.waiting[self.epoch];
        if waiting.fetch_sub(self.length, Ordering::AcqRel) == self.length {
            self.line.left.notify_waiters();
        }
    }
}

/// A large answer on its way.
#[derive(Debug)]
pub(super) struct Sending {
    line: Arc<Line>,
    /// Where its bytes are: those who send the same share them.
    address: usize,
    /// When it will have been too slow: milliseconds since the beginning, as all times here.
    until: AtomicU64,
    /// When something of it was last taken.
    taken: AtomicU64,
    /// Bytes that were given and have not left.
    outstanding: AtomicUsize,
    end: AtomicWaker,
    is_stream: bool,
    cut: Cut,
    cut_at: AtomicU64,
}

impl Sending {
    /// More of it is given, because what was given before has been taken.
    pub(super) fn give(self: &Arc<Self>, length: usize) -> Chunk {
        let now = self.line.pending.now();
        let credit = length as u64 * 1_000 / LEAST_RATE;
        let until = self.until.load(Ordering::Relaxed) + credit;
        let until = until.min(now + millis(LENIENCY));
        self.until.store(until, Ordering::Relaxed);
        self.taken.store(now, Ordering::Relaxed);
        self.outstanding.fetch_add(length, Ordering::Relaxed);
        Chunk {
            sending: Arc::clone(self),
            length,
        }
    }

    /// Ready when all that was given has left.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.end.register(cx.waker());
        match self.outstanding.load(Ordering::Acquire) {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// Ready when the stream is to be reset.
    pub(super) fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.cut.poll(cx)
    }

    /// Resets the stream of HTTP/2; of HTTP/1.1 an answer ends with its connection. Says whether that is
    /// new.
    fn cut(&self) -> bool {
        let cut = if self.is_stream {
            &self.cut
        } else {
            &self.line.cut
        };
        let is_first = cut.cut();
        if is_first {
            self.cut_at
                .store(self.line.pending.now(), Ordering::Relaxed);
        }
        is_first
    }

    fn is_cut(&self) -> bool {
        self.cut.is_cut() || self.line.cut.is_cut()
    }
}

/// Part of a large answer, until it has left.
#[derive(Debug)]
pub(super) struct Chunk {
    sending: Arc<Sending>,
    length: usize,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let outstanding = &self.sending.outstanding;
        if outstanding.fetch_sub(self.length, Ordering::AcqRel) == self.length {
            self.sending.end.wake();
        }
    }
}

/// Everything that clients have not taken yet.
#[derive(Debug)]
pub(super) struct Pending {
    /// The most bytes that may wait.
    max: u64,
    beginning: Instant,
    observer: Observer,
    sendings: Mutex<Vec<Weak<Sending>>>,
    lines: Mutex<Vec<Weak<Line>>>,
    /// A first large answer has set out.
    begun: Notify,
    epoch: AtomicUsize,
}

impl Default for Pending {
    fn default() -> Self {
        Self::new(u64::MAX, Observer::new(Vec::new()))
    }
}

impl Pending {
    pub(super) fn new(max: u64, observer: Observer) -> Self {
        Self {
            max,
            beginning: Instant::now(),
            observer,
            sendings: Mutex::default(),
            lines: Mutex::default(),
            begun: Notify::new(),
            epoch: AtomicUsize::new(0),
        }
    }

    /// A connection begins.
    pub(super) fn line(self: &Arc<Self>) -> Arc<Line> {
        let line = Arc::new(Line {
            pending: Arc::clone(self),
            ..Line::default()
        });
        let mut lines = locked(&self.lines);
        // Those that have ended are left out when there is no room for another.
        if lines.len() == lines.capacity() {
            lines.retain(|line| line.strong_count() > 0);
        }
        lines.push(Arc::downgrade(&line));
        line
    }

    /// The server leaves: connections without a request end.
    pub(super) fn leave(&self) {
        for line in alive(&self.lines) {
            line.is_leaving.store(true, Ordering::Release);
            line.cut.waker.wake();
        }
    }

    /// Looks for ever who has to be cut.
    pub(super) async fn look(self: Arc<Self>) {
        let (mut rated, mut epoch) = (self.now(), self.now());
        loop {
            let is_idle = locked(&self.sendings).is_empty();
            let pause = if is_idle { RATE_EVERY } else { LOOK_EVERY };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.begun.notified() => {}
            }
            let now = self.now();
            let sendings = alive(&self.sendings);
            if now - rated >= millis(RATE_EVERY) {
                rated = now;
                self.end_slow(&sendings, now);
            }
            if now - epoch >= millis(EPOCH) {
                epoch = now;
                self.end_epoch();
            }
            self.relieve(&sendings, now);
        }
    }

    /// Cuts who takes too little, and connections on which a stream was reset for that and that still hold
    /// its answer: nothing leaves on them.
    fn end_slow(&self, sendings: &[Arc<Sending>], now: u64) {
        for sending in sendings {
            if sending.until.load(Ordering::Relaxed) < now {
                self.cut(sending);
            }
            let cut_at = sending.cut_at.load(Ordering::Relaxed);
            if cut_at > 0 && cut_at + millis(RATE_EVERY) < now {
                sending.line.cut.cut();
            }
        }
    }

    /// Closes connections with a frame from the epoch before.
    fn end_epoch(&self) {
        let before = (self.epoch.load(Ordering::Relaxed) + 1) % 2;
        for line in alive(&self.lines) {
            if line.waiting[before].load(Ordering::Relaxed) > 0 {
                self.cut_line(&line);
            }
        }
        self.epoch.store(before, Ordering::Relaxed);
    }

    /// Cuts the slowest until no more waits than may.
    fn relieve(&self, sendings: &[Arc<Sending>], now: u64) {
        let mut loose = held::loose();
        if loose > self.max / PART_OF_ONE {
            loose = loose.saturating_sub(self.relieve_large(sendings, loose, now));
        }
        let lines = alive(&self.lines);
        let mut still: Vec<_> = lines.iter().filter(|line| line.is_stalled()).collect();
        if loose + still.len() as u64 * COPIED <= self.max {
            return;
        }
        // What small answers each holds is not known: some at a time, the oldest first.
        still.extend(
            lines
                .iter()
                .filter(|line| !line.is_stalled() && line.waiting() > held::LARGE),
        );
        still.retain(|line| !line.cut.is_cut());
        still.sort_by_key(|line| match line.stalled.load(Ordering::Relaxed) {
            0 => u64::MAX,
            since => since,
        });
        for line in &still[..still.len().div_ceil(16)] {
            self.cut_line(line);
        }
    }

    /// Cuts the slowest large answers that nothing else keeps, and says how much that frees, with what
    /// was cut before.
    fn relieve_large(&self, sendings: &[Arc<Sending>], loose: u64, now: u64) -> u64 {
        let sizes = held::loose_at(sendings.iter().map(|sending| sending.address));
        let sendings: Vec<_> = sendings
            .iter()
            .zip(sizes)
            .map(|(sending, size)| (sending, size as u64))
            .collect();
        let mut slowest: Vec<_> = sendings.into_iter().filter(|(_, size)| *size > 0).collect();
        slowest.sort_by_key(|(sending, _)| sending.until.load(Ordering::Relaxed));
        let mut large = Large::of(&slowest);
        for (sending, size) in slowest {
            let is_fresh = now - sending.taken.load(Ordering::Relaxed) < millis(FRESH);
            let max = if is_fresh {
                self.max.saturating_add(self.max / 4)
            } else {
                self.max
            };
            let (of_line, answers) = large.of_line(sending);
            let is_too_much = loose.saturating_sub(large.freed) > max
                || of_line > max / PART_OF_ONE && answers > 1;
            if is_too_much && !sending.is_cut() {
                self.cut(sending);
                large.leave(sending, size);
            }
        }
        large.freed
    }

    fn cut(&self, sending: &Sending) {
        if sending.cut() {
            self.observer.emit(&Event::SlowClientCut);
        }
    }

    fn cut_line(&self, line: &Line) {
        if line.cut.cut() {
            self.observer.emit(&Event::SlowClientCut);
        }
    }

    /// Milliseconds since the beginning.
    fn now(&self) -> u64 {
        millis(self.beginning.elapsed())
    }
}

/// The large answers that nothing else keeps, without those that are cut.
#[derive(Default)]
struct Large {
    /// Of each answer by its address: its bytes, and how many send it.
    answers: HashMap<usize, (u64, usize)>,
    /// How many send an answer on one connection.
    parts: HashMap<(*const Line, usize), usize>,
    /// Of each connection: the bytes of its answers, and how many they are.
    lines: HashMap<*const Line, (u64, usize)>,
    /// What goes when all that is cut has let go.
    freed: u64,
}

impl Large {
    fn of(sendings: &[(&Arc<Sending>, u64)]) -> Self {
        let mut large = Self::default();
        for &(sending, size) in sendings {
            let answer = large.answers.entry(sending.address).or_insert((size, 0));
            if sending.is_cut() {
                continue;
            }
            answer.1 += 1;
            let line = Arc::as_ptr(&sending.line);
            let part = large.parts.entry((line, sending.address)).or_default();
            *part += 1;
            if *part == 1 {
                let line = large.lines.entry(line).or_default();
                *line = (line.0 + size, line.1 + 1);
            }
        }
        let cut = large.answers.values().filter(|(_, senders)| *senders == 0);
        large.freed = cut.map(|(size, _)| size).sum();
        large
    }

    /// The bytes of the answers on its connection, and how many they are.
    fn of_line(&self, sending: &Sending) -> (u64, usize) {
        let line = Arc::as_ptr(&sending.line);
        self.lines.get(&line).copied().unwrap_or_default()
    }

    /// One is cut now.
    fn leave(&mut self, sending: &Sending, size: u64) {
        if let Some((_, senders)) = self.answers.get_mut(&sending.address) {
            *senders -= 1;
            self.freed += if *senders == 0 { size } else { 0 };
        }
        let line = Arc::as_ptr(&sending.line);
        if let Some(part) = self.parts.get_mut(&(line, sending.address)) {
            *part -= 1;
            if *part == 0
                && let Some(line) = self.lines.get_mut(&line)
            {
                *line = (line.0 - size, line.1 - 1);
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those that have not ended; the others are forgotten.
fn alive<T>(all: &Mutex<Vec<Weak<T>>>) -> Vec<Arc<T>> {
    let mut alive = Vec::new();
    locked(all).retain(|one| one.upgrade().map(|one| alive.push(one)).is_some());
    alive
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pending() -> Arc<Pending> {
        let pending = Arc::<Pending>::default();
        tokio::spawn(Arc::clone(&pending).look());
        pending
    }

    /// After how many seconds a client is cut that takes so many bytes each time, if it is in an hour.
    async fn is_cut_after(bytes: usize, every: Duration) -> Option<u64> {
        let pending = pending();
        let sending = pending.line().send(0, true);
        let begun = Instant::now();
        while begun.elapsed() < 3_600 * SECOND {
            let mut part = Some(sending.give(bytes));
            let next = Instant::now() + every;
            while Instant::now() < next {
                if sending.is_cut() {
                    return Some(begun.elapsed().as_secs());
                }
                sleep(SECOND).await;
            }
            part.take();
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_answer_is_taken_at_a_least_rate() {
        let part = held::LARGE;
        for (bytes, every, is_slow) in [
            (part, 15 * SECOND, false),
            (part, 20 * SECOND, true),
            (part, 100 * SECOND, true),
            (1, SECOND, true),
            (8 * 1024, SECOND, false),
        ] {
            let after = is_cut_after(bytes, every).await;
            assert_eq!(after.is_some(), is_slow, "{bytes} in {every:?}: {after:?}");
        }
        // However much was taken at first, in buffers that nobody reads.
        let after = is_cut_after(10 << 20, 10_000 * SECOND).await;
        assert!((60..=62).contains(&after.unwrap()), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_does_not_leave_ends_its_connection_and_others_do_not() {
        let pending = pending();
        let (stuck, busy) = (pending.line(), pending.line());
        let frame = stuck.give(100);
        let mut other = busy.give(100);
        for _ in 0..65 {
            sleep(SECOND).await;
            other = busy.give(100);
        }
        assert!(stuck.cut.is_cut());
        assert!(!busy.cut.is_cut());
        drop((frame, other));
        assert_eq!((stuck.waiting(), busy.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_when_all_of_it_has_left() {
        let sending = pending().line().send(0, true);
        let mut cx = Context::from_waker(Waker::noop());
        let parts = [sending.give(1), sending.give(2)];
        assert!(sending.poll_end(&mut cx).is_pending());
        drop(parts);
        assert!(sending.poll_end(&mut cx).is_ready());
    }
}
