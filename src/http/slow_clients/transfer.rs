//! A large response on its way to a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use super::cut::Cut;
use super::millis;
use super::outbound::Outbound;
use crate::http::limits::{SEND_RATE_MIN, SEND_TIMEOUT};

/// What ends when a transfer is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Unit {
    /// An HTTP/2 stream.
    Stream,
    /// An HTTP/1.1 connection.
    Connection,
}

/// A large response on its way. All moments are milliseconds of the clients' clock.
#[derive(Debug)]
pub(in crate::http) struct Transfer {
    pub(super) outbound: Arc<Outbound>,
    /// Where the bytes are: transfers of the same response share them.
    pub(super) address: usize,
    /// When the client will have been too slow.
    deadline: AtomicU64,
    /// When the client last took something.
    taken: AtomicU64,
    /// Bytes that were handed out and are not sent.
    unsent: AtomicUsize,
    sent: AtomicWaker,
    unit: Unit,
    cut: Cut,
    /// 0 unless it is cut.
    cut_at: AtomicU64,
}

impl Transfer {
    pub(in crate::http) fn begin(
        outbound: &Arc<Outbound>,
        address: usize,
        unit: Unit,
    ) -> Arc<Self> {
        let clients = &outbound.clients;
        let now = clients.now();
        let transfer = Arc::new(Self {
            outbound: Arc::clone(outbound),
            address,
            deadline: AtomicU64::new(now + millis(SEND_TIMEOUT)),
            taken: AtomicU64::new(now),
            unsent: AtomicUsize::new(0),
            sent: AtomicWaker::new(),
            unit,
            cut: Cut::default(),
            cut_at: AtomicU64::new(0),
        });
        clients.watch_transfer(&transfer);
        transfer
    }

    /// Hands out the next bytes, because the client has taken those before.
    pub(in crate::http) fn chunk(self: &Arc<Self>, length: usize) -> Chunk {
        let now = self.outbound.clients.now();
        let credit = length as u64 * 1_000 / SEND_RATE_MIN;
        let deadline = self.deadline.load(Ordering::Relaxed) + credit;
        let deadline = deadline.min(now + millis(SEND_TIMEOUT));
        self.deadline.store(deadline, Ordering::Relaxed);
        self.taken.store(now, Ordering::Relaxed);
        self.unsent.fetch_add(length, Ordering::Relaxed);
        Chunk {
            transfer: Arc::clone(self),
            length,
        }
    }

    /// Ready when all that was handed out is sent.
    pub(in crate::http) fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.sent.register(cx.waker());
        match self.unsent.load(Ordering::Acquire) {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// Ready when the stream is to be reset.
    pub(in crate::http) fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.cut.poll(cx)
    }

    pub(super) fn deadline(&self) -> u64 {
        self.deadline.load(Ordering::Relaxed)
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// When it was cut, if it was.
    pub(super) fn cut_at(&self) -> Option<u64> {
        let at = self.cut_at.load(Ordering::Relaxed);
        (at != 0).then_some(at)
    }

    /// Resets the HTTP/2 stream, or ends the HTTP/1.1 connection. Returns whether it was not cut before.
    pub(super) fn cut(&self) -> bool {
        let is_first = match self.unit {
            Unit::Stream => self.cut.cut(),
            Unit::Connection => self.outbound.cut.cut(),
        };
        if is_first {
            let now = self.outbound.clients.now();
            self.cut_at.store(now, Ordering::Relaxed);
        }
        is_first
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.is_cut() || self.outbound.cut.is_cut()
    }
}

/// Part of a large response, until it is sent.
#[derive(Debug)]
pub(in crate::http) struct Chunk {
    transfer: Arc<Transfer>,
    length: usize,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let unsent = &self.transfer.unsent;
        if unsent.fetch_sub(self.length, Ordering::AcqRel) == self.length {
            self.transfer.sent.wake();
        }
    }
}
