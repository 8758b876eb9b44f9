//! The least that an HTTP server can do: hyper alone, with one finished response. Larder is compared with it.
//!
//! ```sh
//! floor 127.0.0.1:8081 answer.http
//! ```
//!
//! The file contains a response as sent by another server: status line, headers, an empty line, body. Every
//! request gets it, with the current date.

use std::convert::Infallible;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_LENGTH, DATE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// A response that all requests share.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(file)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: floor ADDRESS FILE");
    };
    let bytes = std::fs::read(&file).with_context(|| format!("cannot read {file}"))?;
    let answer: &'static Answer = Box::leak(Box::new(Answer::parse(bytes)?));
    let listener = TcpListener::bind(&address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(async |_| Ok::<_, Infallible>(answer.again()));
        let connection = http1::Builder::new()
            .pipeline_flush(true)
            .serve_connection(TokioIo::new(stream), service);
        // Clients may disconnect.
        tokio::spawn(async { connection.await.ok() });
    }
}

impl Answer {
    fn parse(bytes: Vec<u8>) -> anyhow::Result<Self> {
        let end = bytes.windows(4).position(|end| end == b"\r\n\r\n");
        let end = end.context("the head has no end")?;
        let head = String::from_utf8(bytes[..end].to_vec())?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').context("a field has a colon")?;
            let name: HeaderName = name.parse()?;
            // hyper adds these itself.
            if name != DATE && name != CONTENT_LENGTH {
                // Static values are cloned without a copy.
                let value: &'static str = Box::leak(Box::from(value.trim()));
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        Ok(Self {
            status: status.context("the answer has a status")?.parse()?,
            headers,
            body: Bytes::from(bytes).slice(end + 4..),
        })
    }

    fn again(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}
