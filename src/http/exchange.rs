//! What the stream of a connection and the service that answers its requests tell one another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use warp::http::Version;

use super::content::Content;
use super::pending::Line;

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
    /// Whether there has been a request at all.
    is_used: AtomicBool,
    line: Arc<Line>,
}

impl Exchanges {
    pub(super) fn on(line: Arc<Line>) -> Self {
        Self {
            line,
            ..Self::default()
        }
    }

    /// For the stream: hyper is handed a request. It may be wanted to learn how it is answered.
    pub(super) fn hand(&self, is_wanted: bool) {
        self.is_busy.store(true, Ordering::Relaxed);
        self.is_wanted.store(is_wanted, Ordering::Relaxed);
    }

    /// For the stream: whether hyper has taken the answer, and there can be another request.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_busy() && !self.has_content()
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
    pub(super) fn begin(self: &Arc<Self>, version: Version, has_content: bool) -> Exchange {
        self.is_used.store(true, Ordering::Relaxed);
        self.is_busy.store(true, Ordering::Relaxed);
        if has_content {
            self.has_content.store(true, Ordering::Relaxed);
        }
        Exchange {
            exchanges: Arc::clone(self),
            is_h2: version == Version::HTTP_2,
        }
    }

    /// Whether a request has come since the connection began.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Relaxed)
    }

    /// What the connection has of others to do with.
    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }
}

/// One request, until hyper has taken all of its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    exchanges: Arc<Exchanges>,
    is_h2: bool,
}

impl Exchange {
    /// Who learns how it is answered, if anybody wants to know.
    pub(super) fn learner(&self) -> Option<Learner> {
        let is_wanted = self.exchanges.is_wanted.load(Ordering::Relaxed);
        is_wanted.then(|| Learner(Arc::clone(&self.exchanges)))
    }

    /// The content of its answer.
    pub(super) fn content<B>(self, body: B) -> Content<B> {
        Content::new(body, self)
    }

    /// The connection that it is on.
    pub(super) fn line(&self) -> &Arc<Line> {
        &self.exchanges.line
    }

    /// Whether others may be answered at the same time.
    pub(super) fn is_h2(&self) -> bool {
        self.is_h2
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
