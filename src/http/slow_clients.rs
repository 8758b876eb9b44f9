//! Slow clients: what they keep in memory by not taking it, and which of them are cut.
//!
//! Pending are the bytes of responses that only clients still keep in memory ([`pending`]), and what stalled
//! connections have copied. A response that is still in the cache costs nothing more when a thousand
//! clients read it, so it is not pending. Small responses are not followed one by one, because hits would
//! pay for it: it is only known which connections stall.

mod cut; // a signal that ends a connection or a stream
pub(super) mod outbound; // the outbound side of a connection
pub(super) mod partial_head; // a head that is not complete
mod totals; // what transfers add up to
pub(super) mod transfer; // a large response on its way

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::limits::H2_FRAME_EPOCH;
use crate::encode::pending;
use crate::mutex::lock;
use crate::observe::{Event, Observer};
use outbound::Outbound;
use totals::Totals;
use transfer::Transfer;

/// How often pending bytes are compared with `max_pending` while large responses are on their way: no more
/// than some MiB are loaded in between.
const WATCH_EVERY: Duration = Duration::from_millis(50);

/// How often transfers are checked for being too slow.
const RATE_EVERY: Duration = Duration::from_secs(1);

/// A client that took something within this time is cut only if much more than allowed is pending.
const RECENTLY: Duration = Duration::from_millis(250);

/// A connection may hold one of this many parts of all that may be pending, or a single response.
const SHARES: u64 = 4;

/// What a stalled connection has copied: heads, small responses, TLS records.
const COPIED: u64 = 32 * 1024;

/// Watches all connections and transfers, and cuts the slowest.
#[derive(Debug)]
pub(super) struct SlowClients {
    /// The most bytes that may be pending.
    pending_max: u64,
    started: Instant,
    observer: Observer,
    transfers: Mutex<Vec<Weak<Transfer>>>,
    connections: Mutex<Vec<Weak<Outbound>>>,
    /// The first of the transfers has begun.
    first_began: Notify,
    epoch: AtomicUsize,
    /// Bytes of heads that are not complete, on all connections.
    partial_heads: AtomicU64,
}

impl Default for SlowClients {
    fn default() -> Self {
        Self::new(u64::MAX, Observer::new(Vec::new()))
    }
}

impl SlowClients {
    pub(super) fn new(pending_max: u64, observer: Observer) -> Self {
        Self {
            pending_max,
            started: Instant::now(),
            observer,
            transfers: Mutex::default(),
            connections: Mutex::default(),
            first_began: Notify::new(),
            epoch: AtomicUsize::new(0),
            partial_heads: AtomicU64::new(0),
        }
    }

    /// The outbound side of a new connection.
    pub(super) fn outbound(self: &Arc<Self>) -> Arc<Outbound> {
        let outbound = Arc::new(Outbound::new(Arc::clone(self)));
        let mut connections = lock(&self.connections);
        // Those that have ended are dropped when there is no room for another.
        if connections.len() == connections.capacity() {
            connections.retain(|connection| connection.strong_count() > 0);
        }
        connections.push(Arc::downgrade(&outbound));
        outbound
    }

    fn watch_transfer(&self, transfer: &Arc<Transfer>) {
        let mut transfers = lock(&self.transfers);
        transfers.push(Arc::downgrade(transfer));
        if transfers.len() == 1 {
            self.first_began.notify_one();
        }
    }

    /// The server shuts down: connections without a request end.
    pub(super) fn shut_down(&self) {
        for connection in alive(&self.connections) {
            connection.shut_down();
        }
    }

    /// Cuts slow clients, for ever.
    pub(super) async fn watch(self: Arc<Self>) {
        let (mut rated, mut epoch) = (self.now(), self.now());
        loop {
            let is_idle = lock(&self.transfers).is_empty();
            let pause = if is_idle { RATE_EVERY } else { WATCH_EVERY };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.first_began.notified() => {}
            }
            let now = self.now();
            let transfers = alive(&self.transfers);
            if now - rated >= millis(RATE_EVERY) {
                rated = now;
                self.cut_slow(&transfers, now);
            }
            if now - epoch >= millis(H2_FRAME_EPOCH) {
                epoch = now;
                self.end_epoch();
            }
            self.relieve(&transfers, now);
        }
    }

    /// Cuts transfers that are too slow, and connections that still hold a response a while after its stream
    /// was reset: nothing is sent on them.
    fn cut_slow(&self, transfers: &[Arc<Transfer>], now: u64) {
        for transfer in transfers {
            if transfer.deadline() < now {
                self.cut_transfer(transfer);
            }
            let is_held = |cut_at| cut_at + millis(RATE_EVERY) < now;
            if transfer.cut_at().is_some_and(is_held) {
                transfer.outbound.cut.cut();
            }
        }
    }

    /// Cuts connections with a frame from the epoch before this one.
    fn end_epoch(&self) {
        let next = self.epoch() + 1;
        for connection in alive(&self.connections) {
            if connection.has_unsent_of(next) {
                self.cut_connection(&connection);
            }
        }
        self.epoch.store(next % 2, Ordering::Relaxed);
    }

    /// Cuts the slowest until no more is pending than may be.
    fn relieve(&self, transfers: &[Arc<Transfer>], now: u64) {
        let mut pending = pending::total();
        if pending > self.pending_max / SHARES {
            pending = pending.saturating_sub(self.relieve_transfers(transfers, pending, now));
        }
        let connections = alive(&self.connections);
        let is_stalled = |connection: &&Arc<Outbound>| connection.stalled_since().is_some();
        let mut slowest: Vec<_> = connections.iter().filter(is_stalled).collect();
        if pending + slowest.len() as u64 * COPIED <= self.pending_max {
            return;
        }
        // It is not known how much each holds in small responses: some are cut at a time, the longest stalled
        // first.
        slowest.extend(
            connections.iter().filter(|connection| {
                !is_stalled(connection) && connection.unsent() > pending::LARGE
            }),
        );
        slowest.retain(|connection| !connection.cut.is_cut());
        slowest.sort_by_key(|connection| connection.stalled_since().unwrap_or(u64::MAX));
        for connection in &slowest[..slowest.len().div_ceil(16)] {
            self.cut_connection(connection);
        }
    }

    /// Cuts the slowest transfers of responses that only clients keep, and returns how many bytes that
    /// frees, with those of transfers that were cut before.
    fn relieve_transfers(&self, transfers: &[Arc<Transfer>], pending: u64, now: u64) -> u64 {
        let sizes = pending::sizes_at(transfers.iter().map(|transfer| transfer.address));
        let mut slowest: Vec<_> = transfers
            .iter()
            .zip(sizes)
            .map(|(transfer, size)| (transfer, size as u64))
            .filter(|(_, size)| *size > 0)
            .collect();
        slowest.sort_by_key(|(transfer, _)| transfer.deadline());
        let mut totals = Totals::new(&slowest);
        for (transfer, size) in slowest {
            let took_recently = now - transfer.taken() < millis(RECENTLY);
            let max = if took_recently {
                self.pending_max.saturating_add(self.pending_max / 4)
            } else {
                self.pending_max
            };
            let (of_connection, responses) = totals.of_connection(transfer);
            let is_too_much = pending.saturating_sub(totals.freed) > max
                || of_connection > max / SHARES && responses > 1;
            if is_too_much && !transfer.is_cut() {
                self.cut_transfer(transfer);
                totals.remove(transfer, size);
            }
        }
        totals.freed
    }

    fn cut_transfer(&self, transfer: &Transfer) {
        if transfer.cut() {
            self.observer.emit(&Event::SlowClientCut);
        }
    }

    fn cut_connection(&self, connection: &Outbound) {
        if connection.cut.cut() {
            self.observer.emit(&Event::SlowClientCut);
        }
    }

    fn epoch(&self) -> usize {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        millis(self.started.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Those that have not ended; the others are forgotten.
fn alive<T>(all: &Mutex<Vec<Weak<T>>>) -> Vec<Arc<T>> {
    let mut alive = Vec::new();
    lock(all).retain(|one| one.upgrade().map(|one| alive.push(one)).is_some());
    alive
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::transfer::Unit;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn slow_clients() -> Arc<SlowClients> {
        let clients = Arc::<SlowClients>::default();
        tokio::spawn(Arc::clone(&clients).watch());
        clients
    }

    /// After how many seconds a client is cut that takes `bytes` each time, if it is within an hour.
    async fn cut_after(bytes: usize, every: Duration) -> Option<u64> {
        let transfer = Transfer::begin(&slow_clients().outbound(), 0, Unit::Stream);
        let begun = Instant::now();
        while begun.elapsed() < 3_600 * SECOND {
            let mut part = Some(transfer.chunk(bytes));
            let next = Instant::now() + every;
            while Instant::now() < next {
                if transfer.is_cut() {
                    return Some(begun.elapsed().as_secs());
                }
                sleep(SECOND).await;
            }
            part.take();
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_response_has_a_minimum_rate() {
        let part = pending::LARGE;
        for (bytes, every, is_slow) in [
            (part, 15 * SECOND, false),
            (part, 20 * SECOND, true),
            (part, 100 * SECOND, true),
            (1, SECOND, true),
            (8 * 1024, SECOND, false),
        ] {
            let after = cut_after(bytes, every).await;
            assert_eq!(after.is_some(), is_slow, "{bytes} in {every:?}: {after:?}");
        }
        // However much was taken at first, into buffers that are never read.
        let after = cut_after(10 << 20, 10_000 * SECOND).await;
        assert!((60..=62).contains(&after.unwrap()), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_connection_whose_frame_is_not_sent_is_cut() {
        let clients = slow_clients();
        let (stuck, busy) = (clients.outbound(), clients.outbound());
        let frame = stuck.frame(100);
        let mut other = busy.frame(100);
        for _ in 0..65 {
            sleep(SECOND).await;
            other = busy.frame(100);
        }
        assert!(stuck.cut.is_cut());
        assert!(!busy.cut.is_cut());
        drop((frame, other));
        assert_eq!((stuck.unsent(), busy.unsent()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_is_over_when_all_of_it_is_sent() {
        let transfer = Transfer::begin(&slow_clients().outbound(), 0, Unit::Stream);
        let mut cx = Context::from_waker(Waker::noop());
        let parts = [transfer.chunk(1), transfer.chunk(2)];
        assert!(transfer.poll_sent(&mut cx).is_pending());
        drop(parts);
        assert!(transfer.poll_sent(&mut cx).is_ready());
    }
}
