//! What no route gets to see: requests whose target, host, fields or body rule them out.

pub(super) mod host; // whether a request is for this server

use std::pin::pin;

use bytes::Buf;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body, Frame};
use tokio::time::timeout;
use warp::http::header::{EXPECT, HOST};
use warp::http::{Method, Version};

use super::limits::{EMPTY_BODY_TIMEOUT, HEAD_FIELDS_MAX, TARGET_BYTES_MAX};
use super::problem::Problem;
use super::response::{Response, options};
use crate::plan::ServerSettings;

/// The response to a request that no route should see.
pub(super) fn reject<B: Body>(request: &Request<B>, settings: &ServerSettings) -> Option<Response> {
    let target = request.uri();
    // `CONNECT host:port` and `OPTIONS *` have no path, and Warp's filters would panic.
    if !target.path().starts_with('/') {
        let is_server_wide = request.method() == Method::OPTIONS && target.path() == "*";
        return Some(if is_server_wide {
            options()
        } else {
            Problem::NoPath.into()
        });
    }
    problem(request, settings).map(Response::from)
}

fn problem<B: Body>(request: &Request<B>, settings: &ServerSettings) -> Option<Problem> {
    let target = request.uri();
    let length = target
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if length > TARGET_BYTES_MAX {
        return Some(Problem::TargetTooLong);
    }
    // hyper refuses them itself on HTTP/1.1, and does not count them on HTTP/2.
    if request.headers().len() > HEAD_FIELDS_MAX {
        return Some(Problem::TooManyFields);
    }
    if !has_one_host(request) {
        return Some(Problem::NoHost);
    }
    // The head announces content: no need to wait for it, let alone to ask for it.
    let has_content = !request.body().is_end_stream()
        && (request.body().size_hint().lower() > 0 || request.headers().contains_key(EXPECT));
    if has_content && is_bodiless(request.method()) {
        return Some(Problem::HasBody);
    }
    let is_served = host::is_served(settings, target, request.headers());
    (!is_served).then_some(Problem::Misdirected)
}

/// Whether a method that is answered gives a body no meaning. Other methods get a 405 whatever they send.
pub(super) fn is_bodiless(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// Whether a body ends without content. With chunked coding, or over HTTP/2, only its end says so.
pub(super) async fn is_empty<B: Body>(body: B) -> bool {
    let mut body = pin!(body);
    let to_its_end = async {
        while let Some(frame) = body.frame().await {
            let is_empty =
                |frame: &Frame<B::Data>| frame.data_ref().is_none_or(|data| !data.has_remaining());
            if !frame.as_ref().is_ok_and(is_empty) {
                return false;
            }
        }
        true
    };
    timeout(EMPTY_BODY_TIMEOUT, to_its_end).await == Ok(true)
}

/// RFC 9112, 3.2, and RFC 9113, 8.3.1: a request names its host once, in characters that a host can have.
fn has_one_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.as_bytes().iter().all(|byte| is_authority_byte(*byte)),
        (None, _) if request.version() < Version::HTTP_11 => true,
        (None, _) => request.version() > Version::HTTP_11 && request.uri().authority().is_some(),
        (Some(_), Some(_)) => false,
    }
}

/// The characters of a host and a port: RFC 3986, 3.2.2 and 3.2.3.
fn is_authority_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}
