//! The outbound side of a connection: whether its client takes what it is sent.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::cut::Cut;
use super::{SlowClients, WATCH_EVERY};

/// The outbound side of a connection.
#[derive(Debug, Default)]
pub(in crate::http) struct Outbound {
    pub(super) clients: Arc<SlowClients>,
    pub(super) cut: Cut,
    is_shutting_down: AtomicBool,
    /// Since when the client has taken nothing, in milliseconds of the clients' clock; 0 while it does.
    stalled_since: AtomicU64,
    /// Bytes of small bodies in HTTP/2 frames that are not sent, by the epoch in which they were queued.
    unsent: [AtomicUsize; 2],
    sent: Notify,
}

impl Outbound {
    pub(super) fn new(clients: Arc<SlowClients>) -> Self {
        Self {
            clients,
            ..Self::default()
        }
    }

    /// Polls `serving` until it ends, or the connection is cut. It is polled again when the server shuts
    /// down.
    pub(in crate::http) async fn serve(&self, serving: Pin<&mut impl Future<Output = ()>>) {
        let mut serving = serving;
        let mut is_notified = false;
        poll_fn(|cx| {
            if serving.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let cut = self.cut.poll(cx);
            if self.is_shutting_down() && !std::mem::replace(&mut is_notified, true) {
                cx.waker().wake_by_ref();
            }
            cut
        })
        .await;
    }

    /// Whether the server shuts down. Read on every poll of the connection, and so without a lock.
    pub(in crate::http) fn is_shutting_down(&self) -> bool {
        self.is_shutting_down.load(Ordering::Acquire)
    }

    /// The server shuts down.
    pub(super) fn shut_down(&self) {
        self.is_shutting_down.store(true, Ordering::Release);
        self.cut.wake();
    }

    /// The client takes nothing any more.
    pub(in crate::http) fn stalled(&self) {
        let now = self.clients.now();
        self.stalled_since.store(now.max(1), Ordering::Relaxed);
    }

    /// The client takes something again.
    pub(in crate::http) fn resumed(&self) {
        self.stalled_since.store(0, Ordering::Relaxed);
    }

    /// Since when the client has taken nothing, if it takes nothing.
    pub(super) fn stalled_since(&self) -> Option<u64> {
        let since = self.stalled_since.load(Ordering::Relaxed);
        (since != 0).then_some(since)
    }

    /// Tracks a small body that is handed to HTTP/2.
    pub(in crate::http) fn frame(self: &Arc<Self>, length: usize) -> H2Frame {
        let epoch = self.clients.epoch() % 2;
        self.unsent[epoch].fetch_add(length, Ordering::Relaxed);
        H2Frame {
            outbound: Arc::clone(self),
            epoch,
            length,
        }
    }

    /// Bytes in frames that are not sent.
    pub(super) fn unsent(&self) -> usize {
        self.unsent
            .iter()
            .map(|it| it.load(Ordering::Acquire))
            .sum()
    }

    /// Whether a frame of this epoch, or of one two before, is not sent.
    pub(super) fn has_unsent_of(&self, epoch: usize) -> bool {
        self.unsent[epoch % 2].load(Ordering::Relaxed) > 0
    }

    /// Waits until every frame is sent.
    pub(in crate::http) async fn all_sent(&self) {
        loop {
            let mut sent = pin!(self.sent.notified());
            sent.as_mut().enable();
            if self.unsent() == 0 && self.stalled_since().is_none() {
                return;
            }
            // There is no notification of a client that reads again.
            let _ = timeout(WATCH_EVERY, sent).await;
        }
    }
}

/// A small body in an HTTP/2 frame, until it is sent.
#[derive(Debug)]
pub(in crate::http) struct H2Frame {
    outbound: Arc<Outbound>,
    epoch: usize,
    length: usize,
}

impl Drop for H2Frame {
    fn drop(&mut self) {
        let unsent = &self.outbound.unsent[self.epoch];
        if unsent.fetch_sub(self.length, Ordering::AcqRel) == self.length {
            self.outbound.sent.notify_waiters();
        }
    }
}
