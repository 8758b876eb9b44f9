//! Connections: accepted up to a limit, bounded in what they may send and how slowly, drained at the
//! end. The loop is our own because Warp's has no limits on time or number.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::service::{Service, service_fn};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use warp::Reply as _;
use warp::http::Method;

use super::connection::{Protocols, refuse};
use super::endpoint;
use super::head::Head;
use super::problem::Problem;
use super::routes::{observed, routes};
use super::tls::Tls;
use super::{Reply, Response, Site};
use crate::observe::{Event, Observer};
use crate::plan::ServerSettings;

/// The bytes of a request's target, as nginx and Apache have it for the line it stands in.
const TARGET_BYTES_MAX: usize = 8 * 1024;

/// How long to wait when the process has no descriptor left for another connection.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(100);

/// What a connection beyond the limit gets.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    connection: close\r\ncache-control: no-store\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";

/// Serves until `shutdown`, then lets running requests end, for at most the settings'
/// `shutdown_timeout`. Says whether all of them did.
pub async fn serve(
    listener: TcpListener,
    settings: &ServerSettings,
    tls: Option<Tls>,
    site: Site,
    shutdown: CancellationToken,
) -> bool {
    let observer = site.observer.clone();
    let routes = TowerToHyperService::new(warp::service(routes(Arc::new(site))));
    let slots = Arc::new(Semaphore::new(settings.max_connections));
    let draining = GracefulShutdown::new();
    let protocols = Protocols {
        tls: tls.as_ref().map(Tls::acceptor),
        h2c: settings.h2c,
    };
    if let Some(tls) = tls {
        tokio::spawn(tls.follow(observer.clone(), shutdown.clone()));
    }
    let mut listener = Listener::new(listener, observer.clone());
    while let Some(stream) = shutdown.run_until_cancelled(listener.accept()).await {
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            observer.emit(&Event::ConnectionRefused);
            tokio::spawn(refuse(stream, FULL));
            continue;
        };
        let service = Guarded {
            routes: routes.clone(),
            open: OpenConnection::new(observer.clone(), slot),
        };
        let service = service_fn(move |request| service.answer(request));
        let (protocols, watcher) = (protocols.clone(), draining.watcher());
        tokio::spawn(async move { protocols.serve(stream, service, watcher).await });
    }
    drop(listener);
    tokio::time::timeout(settings.shutdown_timeout, draining.shutdown())
        .await
        .is_ok()
}

/// Accepts, and says when it can not.
struct Listener {
    listener: TcpListener,
    observer: Observer,
    is_failing: bool,
}

impl Listener {
    fn new(listener: TcpListener, observer: Observer) -> Self {
        Self {
            listener,
            observer,
            is_failing: false,
        }
    }

    async fn accept(&mut self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if std::mem::take(&mut self.is_failing) {
                        self.observer.emit(&Event::AcceptRecovered);
                    }
                    // Answers are written whole; waiting to fill a segment would only delay them.
                    let _ = stream.set_nodelay(true);
                    return stream;
                }
                // The peer's own doing.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // The machine is short of something, and trying again at once would only spin.
                    if !std::mem::replace(&mut self.is_failing, true) {
                        let cause = error.to_string();
                        self.observer.emit(&Event::AcceptFailing { cause });
                    }
                    tokio::time::sleep(EXHAUSTED_WAIT).await;
                }
            }
        }
    }
}

/// The routes of one connection.
struct Guarded<R> {
    routes: R,
    open: OpenConnection,
}

impl<R> Guarded<R>
where
    R: Service<Request<Incoming>, Response = warp::reply::Response, Error = Infallible>,
{
    /// Answers one request, whatever becomes of its handler.
    fn answer(
        &self,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<warp::reply::Response, Infallible>> + use<R> {
        let head = Head::of(&request);
        let observer = self.open.observer.clone();
        let refusal = refusal(&request);
        let routed = refusal.is_none().then(|| {
            request.extensions_mut().insert(Arc::clone(&head));
            self.routes.call(request)
        });
        async move {
            let response = match (routed, refusal) {
                (Some(routed), _) => match AssertUnwindSafe(routed).catch_unwind().await {
                    Ok(response) => return response,
                    Err(_) => {
                        observer.emit(&Event::HandlerPanicked);
                        Problem::Internal.into()
                    }
                },
                (None, refusal) => refusal.unwrap_or_else(|| Problem::Internal.into()),
            };
            observed(&observer, &head, &Reply::plain(response.clone(), None));
            Ok(response.into_response())
        }
    }
}

/// What is answered to a request that no route gets to see.
fn refusal<B: Body>(request: &Request<B>) -> Option<Response> {
    let target = request.uri();
    // Of `CONNECT host:port` and `OPTIONS *` there is no path, and Warp's filters would panic.
    if !target.path().starts_with('/') {
        let asks_for_options = request.method() == Method::OPTIONS && target.path() == "*";
        return Some(if asks_for_options {
            endpoint::options()
        } else {
            Problem::NoPath.into()
        });
    }
    let length = target
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if length > TARGET_BYTES_MAX {
        return Some(Problem::TargetTooLong.into());
    }
    // What would be done with it is for other methods to say, and those are not answered at all.
    let is_read = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    (is_read && !request.body().is_end_stream()).then(|| Problem::HasBody.into())
}

/// Counts a connection for as long as it is open.
struct OpenConnection {
    observer: Observer,
    _slot: OwnedSemaphorePermit,
}

impl OpenConnection {
    fn new(observer: Observer, slot: OwnedSemaphorePermit) -> Self {
        observer.emit(&Event::ConnectionOpened);
        Self {
            observer,
            _slot: slot,
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.observer.emit(&Event::ConnectionClosed);
    }
}
