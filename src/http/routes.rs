//! Every route. Declared endpoints are data, so they are one filter over the plan's routing table;
//! they come first because they are what is polled.

use std::convert::Infallible;
use std::sync::Arc;

use warp::http::header::CONTENT_LENGTH;
use warp::http::{HeaderValue, Method};
use warp::{Filter, Rejection};

use super::decode::ESCAPE_BYTES;
use super::head::{HEAD, Head};
use super::problem::{Code, Problem};
use super::{Reply, Response, Site, cors, docs, endpoint, host, pages, status};
use crate::observe::{Event, Observer};

/// All routes. None is rejected in the end, though a box does not show it: see [`own`].
pub(super) fn routes(
    site: Arc<Site>,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static {
    // Warp clones the second of two filters for every request. In a box that is one count more.
    declared(site.clone()).or(own(site).boxed()).unify()
}

/// The server's own; a request for none of them gets a 404.
fn own(
    site: Arc<Site>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    page("/metrics", site.clone(), pages::metrics)
        .or(page("/healthz", site.clone(), pages::healthz))
        .unify()
        .or(page("/readyz", site.clone(), pages::readyz))
        .unify()
        .or(page("/openapi.json", site.clone(), docs::openapi))
        .unify()
        .or(page("/docs", site.clone(), docs::page))
        .unify()
        .or(page("/docs/docs.css", site.clone(), docs::style))
        .unify()
        .or(page("/docs/docs.js", site.clone(), docs::script))
        .unify()
        .or(page("/status", site.clone(), status::page))
        .unify()
        .or(page("/status.json", site.clone(), status::now))
        .unify()
        .or(page("/status/history.json", site.clone(), status::past))
        .unify()
        .or(page("/status/status.css", site.clone(), status::style))
        .unify()
        .or(page("/status/status.js", site.clone(), status::script))
        .unify()
        .or(page("/status/uplot.css", site.clone(), status::chart_style))
        .unify()
        .or(page("/status/uplot.js", site.clone(), status::chart_script))
        .unify()
        .or(unknown(site))
        .unify()
}

/// The declared endpoints.
fn declared(
    site: Arc<Site>,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static {
    head().and_then(move |head: Arc<Head>| {
        let site = site.clone();
        async move {
            if !host::is_ours(site.plan.server(), &head.uri, &head.headers) {
                let reply = Reply::plain(Problem::Misdirected, None);
                return Ok(finished(&site.observer, &head, reply));
            }
            let path = head.path(site.plan.longest_path());
            let Some(routed) = path.and_then(|path| site.plan.route(path)) else {
                return Err(warp::reject::not_found());
            };
            let reply = endpoint::answer(&site, &head, routed).await;
            Ok(answered(&site, &head, reply))
        }
    })
}

/// One of the server's own pages.
fn page<F>(
    path: &'static str,
    site: Arc<Site>,
    make: impl Fn(Arc<Site>, Arc<Head>) -> F + Clone + Send + Sync + 'static,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static
where
    F: Future<Output = Response> + Send,
{
    head().and_then(move |head: Arc<Head>| {
        let (site, make) = (site.clone(), make.clone());
        async move {
            if head.path(path.len() * ESCAPE_BYTES) != Some(path) {
                return Err(warp::reject::not_found());
            }
            let response = if !host::may_see_own(&site, &head.uri, &head.headers) {
                Problem::Misdirected.into()
            } else if head.is_read() {
                make(Arc::clone(&site), Arc::clone(&head)).await
            } else if head.method == Method::OPTIONS {
                endpoint::options()
            } else {
                Problem::MethodNotAllowed.into()
            };
            // Pages of other origins may read endpoints, and nothing of the server's own.
            Ok(finished(
                &site.observer,
                &head,
                Reply::plain(response, None),
            ))
        }
    })
}

/// Everything else.
fn unknown(
    site: Arc<Site>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    head().map(move |head: Arc<Head>| answered(&site, &head, Reply::plain(Problem::NotFound, None)))
}

/// The head of the request, which the server has put there.
fn head() -> impl Filter<Extract = (Arc<Head>,), Error = Infallible> + Copy + Send + Sync + 'static
{
    warp::any().map(|| HEAD.with(Arc::clone))
}

fn answered(site: &Site, head: &Head, mut reply: Reply) -> Response {
    if let Some(origins) = &site.plan.server().cors {
        cors::tell(origins, head, reply.response.headers_mut());
    }
    finished(&site.observer, head, reply)
}

/// The response as it is sent; tells that the request was answered.
pub(super) fn finished(observer: &Observer, head: &Head, reply: Reply) -> Response {
    observer.emit(&Event::RequestServed {
        endpoint: reply.endpoint,
        cache: reply.cache,
        code: reply.response.status().as_u16(),
        elapsed: head.received.elapsed(),
        age: reply.age,
        stale_if_error: reply.stale_if_error,
    });
    if let Some(Code(problem)) = reply.response.extensions().get() {
        observer.emit(&Event::ProblemServed {
            endpoint: reply.endpoint,
            problem,
        });
    }
    if head.method == Method::HEAD {
        without_content(reply.response)
    } else {
        reply.response
    }
}

/// RFC 9110, 9.3.2: the fields of an answer to `GET`, and no content, which hyper would send over HTTP/2.
fn without_content(mut response: Response) -> Response {
    let length = std::mem::take(response.body_mut()).len();
    if length > 0 {
        let length = HeaderValue::from(length);
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    response
}
