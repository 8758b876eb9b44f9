//! A connection without a socket: what a client says is there, what it is answered goes nowhere.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{HeaderMap, Request, Response, StatusCode};

use crate::hits::Asked;

/// A request as it is on its way.
pub(crate) struct Wire {
    request: Bytes,
}

/// A service that has its only answer ready.
#[derive(Clone)]
pub(crate) struct Constant {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// A request on its way, and what it is answered as a constant.
pub(crate) fn both<S>(service: &S, request: &Asked) -> anyhow::Result<(Wire, Constant)>
where
    S: Service<Asked, Response = warp::reply::Response, Error = Infallible>,
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
        .context("a hit waits for nothing")?;
    let (head, body) = response.into_parts();
    let body = body.collect().now_or_never().context("it is all there")?;
    let constant = Constant {
        status: head.status,
        headers: head.headers,
        body: body?.to_bytes(),
    };
    let request = lines.into();
    Ok((Wire { request }, constant))
}

impl Wire {
    /// A connection on which the request is sent so many times, one in each packet, and answered.
    pub(crate) fn conversation<S, B>(&self, times: usize, service: S) -> impl FnOnce() + use<S, B>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        B: Body + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let client = Client {
            request: self.request.clone(),
            left: times,
        };
        let mut connection = Box::pin(http1::Builder::new().serve_connection(client, service));
        move || {
            // It yields from time to time, for others that there are none of.
            let mut context = Context::from_waker(Waker::noop());
            while connection.poll_unpin(&mut context).is_pending() {}
        }
    }
}

/// Sends so many requests, and hangs up.
struct Client {
    request: Bytes,
    left: usize,
}

impl hyper::rt::Read for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            buffer.put_slice(&self.request);
        }
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Client {
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
