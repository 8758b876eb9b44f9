//! Incomplete heads of requests: what clients keep in memory by not completing them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::SHARES;
use super::outbound::Outbound;
use crate::http::limits::PARTIAL_HEAD_SPARED;

/// The bytes that a connection has received of an incomplete head.
#[derive(Debug)]
pub(in crate::http) struct PartialHead {
    outbound: Arc<Outbound>,
    bytes: u64,
}

impl PartialHead {
    pub(in crate::http) fn new(outbound: Arc<Outbound>) -> Self {
        Self { outbound, bytes: 0 }
    }

    /// Adds received bytes, and returns whether the connection may keep them: not if the head is long, and
    /// the incomplete heads of all connections exceed their share of `max_pending`.
    #[must_use]
    pub(in crate::http) fn extend(&mut self, bytes: usize) -> bool {
        let clients = &self.outbound.clients;
        let bytes = bytes as u64;
        self.bytes += bytes;
        let of_all = clients.partial_heads.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let is_kept = self.bytes <= PARTIAL_HEAD_SPARED || of_all <= clients.pending_max / SHARES;
        if !is_kept {
            clients.cut_connection(&self.outbound);
        }
        is_kept
    }

    /// The head is complete.
    pub(in crate::http) fn clear(&mut self) {
        if self.bytes > 0 {
            let heads = &self.outbound.clients.partial_heads;
            heads.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
        }
    }
}

impl Drop for PartialHead {
    fn drop(&mut self) {
        self.clear();
    }
}
