//! A connection without a socket: requests come from memory, responses are discarded.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use anyhow::Context as _;
use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use larder::http::{Site, in_memory};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::hits::Asked;

/// The bytes of a request.
pub(crate) struct Wire {
    request: Bytes,
}

/// A service with one finished response.
#[derive(Clone)]
pub(crate) struct Constant {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// The bytes of a request, and its response as a constant.
pub(crate) fn both<S, B>(service: &S, request: &Asked) -> anyhow::Result<(Wire, Constant)>
where
    S: Service<Asked, Response = Response<B>, Error = Infallible>,
    B: Body<Data: Buf, Error: std::error::Error + Send + Sync + 'static>,
{
    let mut lines = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri()).into_bytes();
    for (name, value) in request.headers() {
        let line = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"];
        lines.extend_from_slice(&line.concat());
    }
    lines.extend_from_slice(b"\r\n");
    let Ok(response) = service
        .call(request.clone())
        .now_or_never()
        .context("a hit does not wait")?;
    let (head, body) = response.into_parts();
    let body = body
        .collect()
        .now_or_never()
        .context("the body is complete")?;
    let constant = Constant {
        status: head.status,
        headers: head.headers,
        body: body?.to_bytes(),
    };
    let request = lines.into();
    Ok((Wire { request }, constant))
}

impl Wire {
    /// A connection to Larder on which the request is sent and answered this many times, one per packet.
    pub(crate) fn to_larder(&self, times: usize, site: Site) -> impl FnOnce() + use<> {
        to_the_end(in_memory::connection(self.client(times), site))
    }

    /// The same, to a server with one finished response.
    pub(crate) fn to_constant(&self, times: usize, constant: Constant) -> impl FnOnce() + use<> {
        let client = TokioIo::new(self.client(times));
        to_the_end(http1::Builder::new().serve_connection(client, constant))
    }

    fn client(&self, times: usize) -> Client {
        Client {
            request: self.request.clone(),
            left: times,
            is_read: false,
        }
    }
}

fn to_the_end<F: Future>(connection: F) -> impl FnOnce() + use<F> {
    let mut connection = Box::pin(connection);
    move || {
        // The next request is available at the next poll.
        let mut context = Context::from_waker(Waker::noop());
        while connection.poll_unpin(&mut context).is_pending() {}
    }
}

/// Sends requests, each when the one before is answered, then closes the connection.
struct Client {
    request: Bytes,
    left: usize,
    /// Whether the last one was read.
    is_read: bool,
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.is_read) {
            return Poll::Pending;
        }
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            self.is_read = true;
            buffer.put_slice(&self.request);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Service<Request<Incoming>> for Constant {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn call(&self, _: Request<Incoming>) -> Self::Future {
        let mut response = Response::new(Full::new(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        std::future::ready(Ok(response))
    }
}
