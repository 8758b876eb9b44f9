//! Fetches a JWK set over HTTP: one request on a connection of its own.
//!
//! Redirects are not followed. The URL is the one that the operator trusts, and an answer that points elsewhere
//! could lead to a host, or to plain HTTP, that nobody has decided to trust.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, HOST, USER_AGENT};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::issuer::{FETCH_TIMEOUT, JWKS_BYTES_MAX};
use super::jwk::KeySetError;
use crate::plan::JwksUrl;

/// A JWK set as it was published.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) json: Bytes,
    /// How long it is fresh, if the answer has a limit.
    pub(super) max_age: Option<Duration>,
}

/// Why there is no JWK set. The texts are for the operator, and name what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It took too long.
    #[error("there was no complete answer within 5 seconds")]
    TooSlow,
    /// Nothing listens there, or its name does not resolve.
    #[error("cannot connect: {0}")]
    Unreachable(io::Error),
    /// TLS could not be agreed upon.
    #[error(
        "TLS failed: {0}; the certificate must be issued by an authority that this machine trusts"
    )]
    Tls(io::Error),
    /// The host of the URL cannot be in a certificate, or there is no authority.
    #[error("TLS is not possible: {0}")]
    Untrusted(String),
    /// HTTP failed on the way.
    #[error("the connection failed: {0}")]
    Http(#[from] hyper::Error),
    /// The answer is something else.
    #[error(
        "the answer is a redirect ({0}), which is not followed; set `url` to where the keys are"
    )]
    Redirect(StatusCode),
    /// The answer is something else.
    #[error("the answer is {0}, not 200; is `url` where the issuer publishes its keys?")]
    Status(StatusCode),
    /// Nobody asked for a coding.
    #[error("the answer is compressed")]
    Compressed,
    /// It is larger than any JWK set.
    #[error("the answer is larger than 256 KiB, or broke off")]
    Body,
    /// It has no keys.
    #[error(transparent)]
    Keys(#[from] KeySetError),
}

/// Fetches it, within [`FETCH_TIMEOUT`].
pub(super) async fn fetch(url: &JwksUrl) -> Result<Fetched, FetchError> {
    let fetching = async {
        let stream = TcpStream::connect((url.host(), url.port())).await;
        let stream = stream.map_err(FetchError::Unreachable)?;
        if !url.is_https() {
            return over(stream, url).await;
        }
        let name = ServerName::try_from(url.host().to_owned());
        let name = name.map_err(|error| FetchError::Untrusted(error.to_string()))?;
        // Boxed, because its state is large.
        let connecting = Box::pin(connector().await?.connect(name, stream));
        over(connecting.await.map_err(FetchError::Tls)?, url).await
    };
    match timeout(FETCH_TIMEOUT, fetching).await {
        Ok(fetched) => fetched,
        Err(_elapsed) => Err(FetchError::TooSlow),
    }
}

/// TLS with the authorities that the machine trusts now; `SSL_CERT_FILE` names others.
async fn connector() -> Result<TlsConnector, FetchError> {
    let read = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let read = read.map_err(|error| FetchError::Untrusted(error.to_string()))?;
    let mut authorities = RootCertStore::empty();
    let (usable, _ignored) = authorities.add_parsable_certificates(read.certs);
    if usable == 0 {
        let text = "this machine trusts no certificate authority; install ca-certificates";
        return Err(FetchError::Untrusted(text.to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| FetchError::Untrusted(error.to_string()))?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Sends the request, and reads the answer.
async fn over<S>(stream: S, url: &JwksUrl) -> Result<Fetched, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response = sender.send_request(request(url)).await?;
        let max_age = check(&response)?;
        let body = Limited::new(response.into_body(), JWKS_BYTES_MAX);
        let body = body.collect().await.map_err(|_| FetchError::Body)?;
        Ok(Fetched {
            json: body.to_bytes(),
            max_age,
        })
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        // The answer may have arrived with the end of the connection.
        _ = &mut connection => answer.await,
    }
}

fn request(url: &JwksUrl) -> Request<Empty<Bytes>> {
    let target = url.uri().path_and_query().map_or("/", |it| it.as_str());
    let mut request = Request::new(Empty::new());
    // Both are parts of a valid URL.
    if let (Ok(target), Some(authority)) = (target.parse(), url.uri().authority()) {
        *request.uri_mut() = target;
        if let Ok(host) = authority.as_str().parse() {
            request.headers_mut().insert(HOST, host);
        }
    }
    let fields = [
        (ACCEPT, "application/jwk-set+json, application/json"),
        (USER_AGENT, concat!("larder/", env!("CARGO_PKG_VERSION"))),
        (CONNECTION, "close"),
    ];
    for (name, value) in fields {
        request
            .headers_mut()
            .insert(name, hyper::header::HeaderValue::from_static(value));
    }
    request
}

/// How long the answer is fresh, if it has a limit.
fn check<B>(response: &Response<B>) -> Result<Option<Duration>, FetchError> {
    let status = response.status();
    if status.is_redirection() {
        return Err(FetchError::Redirect(status));
    }
    if status != StatusCode::OK {
        return Err(FetchError::Status(status));
    }
    if response.headers().contains_key(CONTENT_ENCODING) {
        return Err(FetchError::Compressed);
    }
    Ok(max_age(response.headers()))
}

/// RFC 9111, 5.2.2. What must not be stored is fresh for no time.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(CACHE_CONTROL).iter();
    let directives = lines.filter_map(|line| line.to_str().ok());
    let mut found = None;
    for directive in directives.flat_map(|line| line.split(',')) {
        let directive = directive.trim().to_ascii_lowercase();
        if directive == "no-store" || directive == "no-cache" {
            return Some(Duration::ZERO);
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            let seconds = seconds.trim_matches('"').parse();
            found = found.or(seconds.ok().map(Duration::from_secs));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_an_answer_is_fresh_is_read() {
        let read = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CACHE_CONTROL, line.parse().unwrap());
            }
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(read(&[]), None);
        assert_eq!(read(&["public"]), None);
        assert_eq!(read(&["public, max-age=600"]), Some(600));
        assert_eq!(read(&["public", "Max-Age=\"60\""]), Some(60));
        assert_eq!(read(&["max-age=600, no-store"]), Some(0));
        assert_eq!(read(&["max-age=-1"]), None);
        assert_eq!(read(&["max-age=99999999999999999999999"]), None);
    }
}
