//! Connections: accepted up to a limit, bounded in what they may send and how slowly, drained at the
//! end. The loop is our own because Warp's has no limits on time or number.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use warp::Reply as _;

use super::head::Head;
use super::patient::Patient;
use super::problem::Problem;
use super::routes::routes;
use super::{Response, Site};
use crate::observe::{Event, Observer};
use crate::plan::ServerSettings;

/// A request's head must be there this long after the last answer: it bounds both slow senders and
/// idle connections. nginx allows 60 s for the one and 75 s for the other; with the longer, neither
/// pollers of one minute nor load balancers with their usual 60 s find a connection just closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// The bytes of a request's head. Apache and nginx allow 8 KiB per line; this leaves room for long
/// arguments and cookies.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The fields of a request's head: hyper's default.
const HEAD_FIELDS_MAX: usize = 100;

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
    site: Site,
    shutdown: CancellationToken,
) -> bool {
    let observer = site.observer.clone();
    let routes = TowerToHyperService::new(warp::service(routes(Arc::new(site))));
    let slots = Arc::new(Semaphore::new(settings.max_connections));
    let draining = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // The peer's own reset is nothing; anything else means that the machine is short of
                // something, and trying again at once would only spin.
                if error.kind() != std::io::ErrorKind::ConnectionAborted {
                    tokio::time::sleep(EXHAUSTED_WAIT).await;
                }
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            observer.emit(&Event::ConnectionRefused);
            tokio::spawn(refuse(stream));
            continue;
        };
        // Answers are written whole; waiting to fill a segment would only delay them.
        let _ = stream.set_nodelay(true);
        let open = OpenConnection::new(observer.clone(), slot);
        let service = Guarded {
            routes: routes.clone(),
            open,
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .max_headers(HEAD_FIELDS_MAX)
            .serve_connection(
                TokioIo::new(Patient::new(stream)),
                service_fn(move |request| service.answer(request)),
            );
        let watched = draining.watch(connection);
        // A connection's error is the client's doing: it hung up, or did not speak HTTP.
        tokio::spawn(async move { drop(watched.await) });
    }
    drop(listener);
    tokio::time::timeout(settings.shutdown_timeout, draining.shutdown())
        .await
        .is_ok()
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
        // `CONNECT host:port` and `OPTIONS *` have no path, and Warp's filters would panic.
        let has_path = request.uri().path().starts_with('/');
        let head = Head::of(&request);
        request.extensions_mut().insert(head);
        let routed = has_path.then(|| self.routes.call(request));
        let observer = self.open.observer.clone();
        async move {
            let Some(routed) = routed else {
                return Ok(Response::from(Problem::NoPath).into_response());
            };
            match AssertUnwindSafe(routed).catch_unwind().await {
                Ok(response) => response,
                Err(_) => {
                    observer.emit(&Event::HandlerPanicked);
                    Ok(Response::from(Problem::Internal).into_response())
                }
            }
        }
    }
}

async fn refuse(mut stream: TcpStream) {
    // Best effort: who does not read it sees the connection close.
    let written = tokio::time::timeout(Duration::from_secs(1), stream.write_all(FULL));
    let _ = written.await;
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
