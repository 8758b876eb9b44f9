//! The body of a response on its way: a small one in one piece, a large one part by part, so that it is
//! known how fast the client takes it.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

use super::h2_streams;
use super::request_tracker::RequestGuard;
use crate::encode::pending;
use crate::http::slow_clients::outbound::H2Frame;
use crate::http::slow_clients::transfer::{Chunk, Transfer};

/// A part of a large body: what hyper takes before it waits for the connection.
const PART: usize = pending::LARGE;

/// A response's body. hyper drops it, and with it the guard of its request, once all of it is in hyper's
/// buffer.
#[derive(Debug)]
pub(in crate::http) struct ResponseBody<B> {
    body: B,
    /// What is left of a large body.
    rest: Bytes,
    transfer: Option<Arc<Transfer>>,
    request: RequestGuard,
}

impl<B> ResponseBody<B> {
    pub(in crate::http) fn new(body: B, request: RequestGuard) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            transfer: None,
            request,
        }
    }

    fn part(&mut self, bytes: Bytes) -> Part {
        let outbound = self.request.outbound();
        if bytes.len() > PART {
            let address = bytes.as_ptr().addr();
            self.transfer = Some(h2_streams::begin_transfer(outbound, address));
            self.rest = bytes;
            return self.next_part();
        }
        let tracked = if self.request.is_h2() {
            Tracked::Frame(outbound.frame(bytes.len()))
        } else {
            Tracked::No
        };
        Part {
            bytes,
            _tracked: tracked,
        }
    }

    /// The next part of a large body.
    fn next_part(&mut self) -> Part {
        let bytes = self.rest.split_to(self.rest.len().min(PART));
        let tracked = match &self.transfer {
            Some(transfer) => Tracked::Chunk(transfer.chunk(bytes.len())),
            None => Tracked::No,
        };
        Part {
            bytes,
            _tracked: tracked,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ResponseBody<B> {
    type Data = Part;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Part>, B::Error>>> {
        let this = &mut *self;
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(this.next_part()))));
        }
        if let Some(transfer) = &this.transfer {
            // An HTTP/2 stream can be reset as long as it has not ended.
            ready!(transfer.poll_sent(cx));
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| this.part(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.transfer {
            Some(_) => self.rest.is_empty() && !self.request.is_h2(),
            None => self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.transfer {
            Some(_) => SizeHint::with_exact(self.rest.len() as u64),
            None => self.body.size_hint(),
        }
    }
}

/// A part of a body, until it is sent.
#[derive(Debug)]
pub(in crate::http) struct Part {
    bytes: Bytes,
    _tracked: Tracked,
}

/// What learns that a part is sent.
#[derive(Debug)]
enum Tracked {
    /// A small body over HTTP/1.1: it is enough to know whether the connection stalls.
    No,
    /// A small body over HTTP/2.
    Frame(#[allow(dead_code, reason = "dropped when it is sent")] H2Frame),
    /// Part of a large body.
    Chunk(#[allow(dead_code, reason = "dropped when it is sent")] Chunk),
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'d>(&'d self, slices: &mut [IoSlice<'d>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}
