//! What the stream of a connection and the service that answers its requests tell one another.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// How a request was answered, for when it comes again.
pub(super) trait Again: std::fmt::Debug + Send {
    /// Writes the whole answer behind what is there. If it can not be the same answer without more than
    /// a look, nothing is written, and it is `false`.
    fn answer(&self, received: Instant, out: &mut Vec<u8>) -> bool;
}

/// The requests of one connection of HTTP/1.1, where one is answered after the other.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// Whether hyper was handed a request and has not taken all of its answer.
    is_busy: bool,
    /// Whether a request has content: what comes behind its head is not another.
    has_content: bool,
    /// Whether it is to be learnt how the next one is answered.
    is_wanted: bool,
    learnt: Option<Box<dyn Again>>,
}

impl Exchanges {
    /// For the stream: hyper is handed a request, and may be how it is answered is to be learnt.
    pub(super) fn hand(&self, is_wanted: bool) {
        let mut told = self.told();
        told.is_busy = true;
        told.is_wanted = is_wanted;
    }

    /// For the stream: whether it has been answered; and then, what was learnt.
    pub(super) fn settle(&self) -> Option<Option<Box<dyn Again>>> {
        let mut told = self.told();
        (!told.is_busy && !told.has_content).then(|| told.learnt.take())
    }

    /// For the stream: whether what comes now is content.
    pub(super) fn has_content(&self) -> bool {
        self.told().has_content
    }

    /// For the service: a request has come.
    pub(super) fn begin(self: &Arc<Self>, has_content: bool) -> Exchange {
        let mut told = self.told();
        told.has_content |= has_content;
        Exchange {
            exchanges: Arc::clone(self),
            is_wanted: std::mem::take(&mut told.is_wanted),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told
            .lock()
            .expect("nothing panics while it holds the lock")
    }
}

/// One request, until hyper has taken all of its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    exchanges: Arc<Exchanges>,
    is_wanted: bool,
}

impl Exchange {
    /// Who learns how it is answered, if anybody wants to know.
    pub(super) fn learner(&self) -> Option<Learner> {
        self.is_wanted.then(|| Learner(Arc::clone(&self.exchanges)))
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
        self.exchanges.told().is_busy = false;
    }
}

/// Learns how a request is answered.
#[derive(Debug)]
pub(super) struct Learner(Arc<Exchanges>);

impl Learner {
    pub(super) fn learn(&self, answer: impl Again + 'static) {
        self.0.told().learnt = Some(Box::new(answer));
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
