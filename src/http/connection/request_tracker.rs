//! Whether a connection is answering a request, and whether it has ever had one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use warp::http::Version;

use crate::http::slow_clients::outbound::Outbound;

/// The requests of one connection. Its stream and its service run in one task on HTTP/1.1, so plain
/// loads and stores suffice.
#[derive(Debug, Default)]
pub(in crate::http) struct RequestTracker {
    /// Whether hyper has not yet taken all of the response to the last request.
    is_busy: AtomicBool,
    /// Whether there has been a request at all.
    is_used: AtomicBool,
    outbound: Arc<Outbound>,
}

impl RequestTracker {
    pub(in crate::http) fn new(outbound: Arc<Outbound>) -> Self {
        Self {
            outbound,
            ..Self::default()
        }
    }

    /// Tracks a request that has arrived.
    pub(in crate::http) fn begin(self: &Arc<Self>, version: Version) -> RequestGuard {
        self.is_used.store(true, Ordering::Relaxed);
        self.is_busy.store(true, Ordering::Relaxed);
        RequestGuard {
            tracker: Arc::clone(self),
            is_h2: version == Version::HTTP_2,
        }
    }

    /// Whether a request has arrived since the connection began.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Whether a request is being answered. Means nothing on HTTP/2, where several can be.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Relaxed)
    }

    /// The connection's outbound side.
    pub(super) fn outbound(&self) -> &Arc<Outbound> {
        &self.outbound
    }
}

/// One request, until hyper has taken all of its response.
#[derive(Debug)]
pub(in crate::http) struct RequestGuard {
    tracker: Arc<RequestTracker>,
    is_h2: bool,
}

impl RequestGuard {
    /// The outbound side of the connection that the request arrived on.
    pub(super) fn outbound(&self) -> &Arc<Outbound> {
        &self.tracker.outbound
    }

    /// Whether it arrived over HTTP/2.
    pub(super) fn is_h2(&self) -> bool {
        self.is_h2
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.tracker.is_busy.store(false, Ordering::Relaxed);
    }
}
