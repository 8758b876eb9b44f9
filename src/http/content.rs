//! The content of an answer on its way: small ones whole, large ones part by part, so that it is known
//! how fast they are taken.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

use super::connection::request_tracker::RequestGuard;
use super::pending::{self, Sending};
use super::streams;
use crate::encode::held;

/// A part of a large answer: what hyper takes before it waits for the connection.
const PART: usize = held::LARGE;

/// A response's content. hyper drops it, and with it the guard of its request, once all of it is in
/// hyper's buffer.
#[derive(Debug)]
pub(super) struct Content<B> {
    body: B,
    /// What is left of a large answer.
    rest: Bytes,
    sending: Option<Arc<Sending>>,
    request: RequestGuard,
}

impl<B> Content<B> {
    pub(super) fn new(body: B, request: RequestGuard) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            sending: None,
            request,
        }
    }

    fn part(&mut self, bytes: Bytes) -> Part {
        let line = self.request.line();
        if bytes.len() > PART {
            let address = bytes.as_ptr().addr();
            self.sending = Some(streams::send(line, address));
            self.rest = bytes;
            return self.next();
        }
        let held = if self.request.is_h2() {
            Held::Frame(line.give(bytes.len()))
        } else {
            Held::Nowhere
        };
        Part { bytes, _held: held }
    }

    /// The next part of a large answer.
    fn next(&mut self) -> Part {
        let bytes = self.rest.split_to(self.rest.len().min(PART));
        let held = match &self.sending {
            Some(sending) => Held::Chunk(sending.give(bytes.len())),
            None => Held::Nowhere,
        };
        Part { bytes, _held: held }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Content<B> {
    type Data = Part;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Part>, B::Error>>> {
        let this = &mut *self;
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(this.next()))));
        }
        if let Some(sending) = &this.sending {
            // A stream of HTTP/2 can be reset as long as it has not ended.
            ready!(sending.poll_end(cx));
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| this.part(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.sending {
            Some(_) => self.rest.is_empty() && !self.request.is_h2(),
            None => self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.sending {
            Some(_) => SizeHint::with_exact(self.rest.len() as u64),
            None => self.body.size_hint(),
        }
    }
}

/// A part of an answer, until it has left.
#[derive(Debug)]
pub(super) struct Part {
    bytes: Bytes,
    _held: Held,
}

/// What knows of it.
#[derive(Debug)]
enum Held {
    /// A small answer over HTTP/1.1: the connection says enough.
    Nowhere,
    /// A small answer over HTTP/2.
    Frame(#[allow(dead_code, reason = "dropped when it has left")] pending::Frame),
    /// Part of a large answer.
    Chunk(#[allow(dead_code, reason = "dropped when it has left")] pending::Chunk),
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
