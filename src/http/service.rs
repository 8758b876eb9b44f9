//! One request, one response: validated, routed, and finished in one place. A panic becomes a 500.

mod finish;

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Body;
use warp::Reply as _;
use warp::http::{self, Version};

use super::connection::request_tracker::RequestTracker;
use super::connection::response_body::ResponseBody;
use super::problem::Problem;
use super::request::{AfterResponse, Peer, REQUEST, RequestHead};
use super::response::{Reply, Response};
use super::validate;
use crate::observe::Event;

pub(super) use finish::Finisher;

/// Names the type of Warp's bodies, which Warp keeps private.
pub(super) trait HasBody {
    type Body;
}

impl<B> HasBody for http::Response<B> {
    type Body = B;
}

type WarpBody = <warp::reply::Response as HasBody>::Body;

/// The routes as Warp serves them. They answer the request in [`REQUEST`].
pub(super) trait FinishedRoutes:
    tower_service::Service<
        Request<Empty<Bytes>>,
        Response = warp::reply::Response,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
}

impl<S> FinishedRoutes for S where
    S: tower_service::Service<
            Request<Empty<Bytes>>,
            Response = warp::reply::Response,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static
{
}

/// Answers the requests of one connection.
pub(super) struct Service<R> {
    routes: R,
    finisher: Arc<Finisher>,
    requests: Arc<RequestTracker>,
    peer: Arc<Peer>,
}

impl<R: FinishedRoutes> Service<R> {
    pub(super) fn new(
        routes: R,
        finisher: Arc<Finisher>,
        requests: Arc<RequestTracker>,
        peer: IpAddr,
    ) -> Self {
        Self {
            routes,
            finisher,
            requests,
            peer: Peer::new(peer),
        }
    }

    /// Answers one request, whatever becomes of its handler.
    pub(super) fn respond<B: Body>(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Result<http::Response<ResponseBody<WarpBody>>, Infallible>> + use<R, B>
    {
        let running = self.requests.begin(request.version());
        let rejection = validate::reject(&request, &self.finisher.settings);
        let may_have_content = !request.body().is_end_stream();
        // Proxies and servers disagree on where a body ends, so nothing behind it is taken for a request.
        // On HTTP/2 there is no such question, and no such field.
        let after_response = if may_have_content && request.version() < Version::HTTP_2 {
            AfterResponse::Close
        } else {
            AfterResponse::KeepAlive
        };
        let (parts, body) = request.into_parts();
        let head = RequestHead::new(parts, Arc::clone(&self.peer), after_response);
        let body = (may_have_content && validate::is_bodiless(&head.method)).then_some(body);
        let routed = match rejection {
            Some(rejection) => Err(rejection),
            None => Ok(AssertUnwindSafe(self.route(&head)).catch_unwind()),
        };
        let finisher = Arc::clone(&self.finisher);
        // The routes' future is large: it stays where it is until it is awaited.
        async move {
            let has_content = match body {
                Some(body) if routed.is_ok() => !validate::is_empty(body).await,
                Some(_) | None => false,
            };
            let response = match routed {
                Ok(_) if has_content => Err(Problem::HasBody.into()),
                Ok(routed) => match routed.await {
                    Ok(Ok(response)) => Ok(response),
                    Err(_panic) => {
                        finisher.observer.emit(&Event::HandlerPanicked);
                        Err(Problem::Internal.into())
                    }
                },
                Err(rejection) => Err(rejection),
            };
            let response = response.unwrap_or_else(|response: Response| {
                finisher.finish(&head, Reply::own(response)).into_response()
            });
            Ok(response.map(|body| ResponseBody::new(body, running)))
        }
    }

    /// Has Warp's filters answer the request. They find its head in [`REQUEST`], so the request that they get is
    /// empty: copying the head into it would cost more than finding the route.
    fn route(
        &self,
        head: &Arc<RequestHead>,
    ) -> impl Future<Output = Result<warp::reply::Response, Infallible>> + use<R> {
        let answer = self.routes.clone().call(Request::new(Empty::new()));
        REQUEST.scope(Arc::clone(head), answer)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::Path;

    use bolero::check;
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use warp::Filter;
    use warp::http::StatusCode;

    use super::*;
    use crate::config::Config;
    use crate::http::connection::http1;
    use crate::observe::Observer;
    use crate::plan::Plan;

    /// What a client does after it has sent its requests.
    #[derive(PartialEq)]
    enum Then {
        Waits,
        ClosesItsHalf,
    }

    /// Everything that a client gets which sends these bytes. `/defect` panics.
    async fn sent_back(bytes: &[u8], then: Then) -> Vec<u8> {
        let text = "repository.url = 'x'\n[[endpoint]]\npath = '/a'\nsql = 'SELECT 1'\n";
        let config = Config::parse("config.toml", text.to_owned(), Path::new("."), &|_| None);
        let plan = Plan::compile(config.unwrap()).unwrap();
        let finisher = Finisher::new(Arc::new(plan.server().clone()), Observer::new(Vec::new()));
        let routes = warp::any().map(|| {
            let path = REQUEST.with(|request| request.uri.path().to_owned());
            assert_ne!(path, "/defect", "a defect");
            Reply::own(StatusCode::OK.into_response().map(|_| Bytes::new()))
        });
        let requests = Arc::<RequestTracker>::default();
        let routes = Arc::clone(&finisher).finished(routes);
        let service = Service::new(
            routes,
            finisher,
            Arc::clone(&requests),
            Ipv4Addr::LOCALHOST.into(),
        );
        let service = service_fn(move |request| service.respond(request));
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let serving = http1::serve(server, service, requests);
        let asking = async {
            // A server that has refused a request need not take the rest.
            let _ = client.write_all(bytes).await;
            if then == Then::ClosesItsHalf {
                let _ = client.shutdown().await;
            }
            let mut received = Vec::new();
            let _ = client.read_to_end(&mut received).await;
            received
        };
        tokio::join!(serving, asking).1
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_a_problem_and_the_connection_goes_on() {
        let requests = b"GET /defect HTTP/1.1\r\nHost: l\r\n\r\n\
            GET / HTTP/1.1\r\nHost: l\r\nConnection: close\r\n\r\n";
        let received = sent_back(requests, Then::Waits).await;
        let received = String::from_utf8(received).unwrap();
        assert!(received.starts_with("HTTP/1.1 500 "), "{received}");
        assert!(received.contains("LRD-501"), "{received}");
        assert!(received.contains("HTTP/1.1 200 OK"), "{received}");
    }

    /// What precedes arbitrary bytes: nothing, or the start of a valid request.
    const STARTS: [&str; 5] = [
        "",
        "GET /",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: l\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: l\r\n\r\n",
    ];

    #[test]
    fn whatever_is_sent_the_connection_ends_and_is_answered_in_http() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let runtime = AssertUnwindSafe(runtime.unwrap());
        check!().for_each(|bytes| {
            let (&first, rest) = bytes.split_first().unwrap_or((&0, &[]));
            let start = STARTS[usize::from(first) % STARTS.len()];
            let sent = [start.as_bytes(), rest].concat();
            let received = runtime.block_on(sent_back(&sent, Then::ClosesItsHalf));
            assert!(
                received.is_empty() || received.starts_with(b"HTTP/1."),
                "{received:?}"
            );
        });
    }
}
