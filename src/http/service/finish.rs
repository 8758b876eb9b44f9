//! What every response gets last: CORS, `Date` and `Connection`, its events, and no content for `HEAD`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::SystemTime;

use warp::Filter;
use warp::http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use warp::http::{HeaderValue, Method};

use super::FinishedRoutes;
use crate::http::problem::Code;
use crate::http::request::{AfterResponse, REQUEST, RequestHead};
use crate::http::response::{Readers, Reply, Response, cors, date};
use crate::observe::{Event, Observer};
use crate::plan::ServerSettings;

/// Finishes responses, the same for all of them.
#[derive(Debug)]
pub(in crate::http) struct Finisher {
    pub(super) settings: Arc<ServerSettings>,
    pub(super) observer: Observer,
}

impl Finisher {
    pub(in crate::http) fn new(settings: Arc<ServerSettings>, observer: Observer) -> Arc<Self> {
        Arc::new(Self { settings, observer })
    }

    /// Routes whose replies are finished.
    pub(in crate::http) fn finished(
        self: Arc<Self>,
        routes: impl Filter<Extract = (Reply,), Error = Infallible> + Clone + Send + Sync + 'static,
    ) -> impl FinishedRoutes {
        warp::service(routes.map(move |reply| REQUEST.with(|request| self.finish(request, reply))))
    }

    /// The response as it is sent, which is reported to the observers.
    pub(super) fn finish(&self, request: &RequestHead, reply: Reply) -> Response {
        let mut response = reply.response;
        let headers = response.headers_mut();
        if reply.readers == Readers::AllowedOrigins
            && let Some(origins) = &self.settings.cors
        {
            cors::allow(origins, request, headers);
        }
        if let Some(date) = date::after_set_back(SystemTime::now()) {
            headers.insert(DATE, date);
        }
        if request.after_response == AfterResponse::Close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.observer.emit(&Event::RequestServed {
            endpoint: reply.endpoint,
            client: request.client(),
            cache: reply.cache,
            code: response.status().as_u16(),
            problem: response.extensions().get().map(|Code(code)| *code),
            elapsed: request.received.elapsed(),
            age: reply.age,
            stale_if_error: reply.stale_if_error,
        });
        if request.method == Method::HEAD {
            strip_body(&mut response);
        }
        response
    }
}

/// RFC 9110, 9.3.2: the fields of a response to `GET` without its content, which hyper would send over HTTP/2.
fn strip_body(response: &mut Response) {
    let length = std::mem::take(response.body_mut()).len();
    if length > 0 {
        let length = HeaderValue::from(length);
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
}
