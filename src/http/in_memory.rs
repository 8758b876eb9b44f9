//! The service and a connection without a socket: for benches.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Buf;
use hyper::Request;
use hyper::body::Body;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use warp::http;

use super::Site;
use super::connection::http1;
use super::connection::request_tracker::RequestTracker;
use super::routes::Serving;
use super::service::{FinishedRoutes, Finisher, Service};

/// Answers requests as on one connection of [`super::server::serve`].
pub fn service<B>(
    site: Site,
) -> impl hyper::service::Service<
    Request<B>,
    Response = http::Response<impl Body<Data: Buf, Error = warp::Error>>,
    Error = Infallible,
>
where
    B: Body,
{
    let service = on_its_own(site, Arc::default());
    service_fn(move |request| service.respond(request))
}

/// Answers the requests of an HTTP/1.1 connection as [`super::server::serve`] does.
///
/// # Errors
/// What hyper reports of a client that breaks off or does not speak HTTP/1.1.
pub async fn connection<S>(stream: S, site: Site) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let requests = Arc::<RequestTracker>::default();
    let service = on_its_own(site, Arc::clone(&requests));
    let service = service_fn(move |request| service.respond(request));
    http1::serve(stream, service, requests).await
}

/// The service of the only connection.
fn on_its_own(site: Site, requests: Arc<RequestTracker>) -> Service<impl FinishedRoutes> {
    let serving = Serving::new(site);
    let finisher = Finisher::new(Arc::clone(serving.settings()), serving.observer().clone());
    let routes = Arc::clone(&finisher).finished(serving.filter());
    Service::new(routes, finisher, requests, Ipv4Addr::LOCALHOST.into())
}
