//! What the stream of a connection and the service that answers its requests tell one another.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// Why the lock is never poisoned.
const UNPOISONED: &str = "nothing panics while it holds the lock";

/// How a request was answered, for when it comes again.
pub(super) trait Again: std::fmt::Debug + Send {
    /// Writes the whole answer behind what is there. If it can not be the same answer without more than
    /// a look, nothing is written, and it is `false`.
    fn answer(&self, received: Instant, out: &mut Vec<u8>) -> bool;
}

/// The requests of one connection of HTTP/1.1, where one is answered after the other: both sides are one
/// task, so that nothing here is ever waited for.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    /// Whether hyper was handed a request and has not taken all of its answer.
    is_busy: AtomicBool,
    /// Whether a request has content: what comes behind its head is not another.
    has_content: AtomicBool,
    /// Whether it is to be learnt how the next one is answered.
    is_wanted: AtomicBool,
    learnt: Mutex<Option<Box<dyn Again>>>,
}

impl Exchanges {
    /// For the stream: hyper is handed a request. It may be wanted to learn how it is answered.
    pub(super) fn hand(&self, is_wanted: bool) {
        self.is_busy.store(true, Ordering::Relaxed);
        self.is_wanted.store(is_wanted, Ordering::Relaxed);
    }

    /// For the stream: whether hyper has taken the answer, and there can be another request.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_busy.load(Ordering::Relaxed) && !self.has_content()
    }

    /// For the stream: what was learnt, if it was to be.
    pub(super) fn learnt(&self) -> Option<Box<dyn Again>> {
        self.learnt.lock().expect(UNPOISONED).take()
    }

    /// For the stream: whether what comes now is content.
    pub(super) fn has_content(&self) -> bool {
        self.has_content.load(Ordering::Relaxed)
    }

    /// For the service: a request has come.
    pub(super) fn begin(self: &Arc<Self>, has_content: bool) -> Exchange {
        if has_content {
            self.has_content.store(true, Ordering::Relaxed);
        }
        Exchange {
            exchanges: Arc::clone(self),
        }
    }
}

/// One request, until hyper has taken all of its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    exchanges: Arc<Exchanges>,
}

impl Exchange {
    /// Who learns how it is answered, if anybody wants to know.
    pub(super) fn learner(&self) -> Option<Learner> {
        let is_wanted = self.exchanges.is_wanted.load(Ordering::Relaxed);
        is_wanted.then(|| Learner(Arc::clone(&self.exchanges)))
    }

    /// The content of its answer.
    pub(super) fn content<B>(self, body: B) -> Content<B> {
        Content {
            body,
            _exchange: self,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.exchanges.is_busy.store(false, Ordering::Relaxed);
    }
}

/// Learns how a request is answered.
#[derive(Debug)]
pub(super) struct Learner(Arc<Exchanges>);

impl Learner {
    pub(super) fn learn(&self, answer: impl Again + 'static) {
        *self.0.learnt.lock().expect(UNPOISONED) = Some(Box::new(answer));
    }
}

/// Content which ends its exchange when hyper lets go of it: once all of it is in hyper's buffer.
#[derive(Debug)]
pub(super) struct Content<B> {
    body: B,
    _exchange: Exchange,
}

impl<B: Body + Unpin> Body for Content<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
