//! Connections: accepted up to a limit, bounded in what they may send and how slowly, drained at the
//! end. The loop is our own because Warp's has no limits on time or number.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::{Body, Frame};
use hyper::service::service_fn;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use warp::Reply as _;
use warp::http::header::{CONNECTION, DATE, EXPECT, HOST};
use warp::http::{self, HeaderValue, Method, Version};

use super::connection::request_tracker::RequestTracker;
use super::connection::{HEAD_FIELDS_MAX, Protocols, run_h1};
use super::content::Content;
use super::date;
use super::endpoint;
use super::head::{HEAD, Head};
use super::pending::{Line, Pending};
use super::problem::Problem;
use super::routes::{finished, routes};
use super::tls::Tls;
use super::{Reply, Response, Site};
use crate::observe::{Event, Observer, Task};
use crate::plan::ServerSettings;
use crate::supervise;

/// The bytes of a request's target, as nginx and Apache have it for the line it stands in.
const TARGET_BYTES_MAX: usize = 8 * 1024;

/// How long the end of content may take to come that nothing has come of: it is sent with the head.
const CONTENT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait when the process has no descriptor left for another connection.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(100);

/// Clients beyond `max_connections` that are told so at once; those beyond these are only hung up on.
const REFUSALS_MAX: usize = 64;

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
    let routes = warp::service(routes(Arc::new(site)));
    let slots = Arc::new(Semaphore::new(settings.max_connections));
    let pending = Arc::new(Pending::new(settings.max_pending, observer.clone()));
    // Until nothing is left to drain.
    let looking = CancellationToken::new();
    let _looking = looking.clone().drop_guard();
    let looked_after = Arc::clone(&pending);
    supervise::spawn(&observer, Task::Pending, &looking, move || {
        Arc::clone(&looked_after).look()
    });
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let draining = GracefulShutdown::new();
    let protocols = Protocols {
        tls: tls.as_ref().map(Tls::acceptor),
        h2c: settings.h2c,
        observer: observer.clone(),
        shutdown: shutdown.clone(),
    };
    if let Some(tls) = tls {
        let events = observer.clone();
        supervise::spawn(&observer, Task::Certificate, &shutdown, move || {
            tls.clone().follow(events.clone())
        });
    }
    let listener = Listener::new(listener, observer.clone());
    // One connection is lost by a panic, and no other.
    let accept = async || loop {
        let stream = listener.accept().await;
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            observer.emit(&Event::ConnectionRefused);
            if let Ok(turn) = Arc::clone(&refusals).try_acquire_owned() {
                let protocols = protocols.clone();
                tokio::spawn(async move {
                    protocols.refuse(stream).await;
                    drop(turn);
                });
            }
            continue;
        };
        let service = Guarded::new(routes.clone(), &observer, slot, pending.line());
        let requests = Arc::clone(&service.requests);
        let service = service_fn(move |request| service.answer(request));
        let (protocols, watcher) = (protocols.clone(), draining.watcher());
        tokio::spawn(async move {
            let line = Arc::clone(requests.line());
            let serving = pin!(protocols.serve(stream, service, requests, watcher));
            line.serve(serving).await;
        });
    };
    supervise::keep_up(&observer, Task::Accept, &shutdown, &accept).await;
    drop(listener);
    pending.leave();
    timeout(settings.shutdown_timeout, draining.shutdown())
        .await
        .is_ok()
}

/// What answers the requests of one connection, as [`serve`] has it for each: for benches, which bring
/// requests without a socket.
pub fn service<B>(
    site: Arc<Site>,
) -> impl hyper::service::Service<
    Request<B>,
    Response = http::Response<impl Body<Data: Buf, Error = warp::Error>>,
    Error = Infallible,
>
where
    B: Body,
{
    let observer = site.observer.clone();
    let service = Guarded::alone(warp::service(routes(site)), &observer);
    service_fn(move |request| service.answer(request))
}

/// Answers the requests of one connection of HTTP/1.1, as [`serve`] does: for benches, which bring a
/// stream without a socket.
///
/// # Errors
/// What hyper says of a client that breaks off or speaks something else.
pub async fn connection<S>(stream: S, site: Arc<Site>) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let observer = site.observer.clone();
    let service = Guarded::alone(warp::service(routes(site)), &observer);
    let requests = Arc::clone(&service.requests);
    let service = service_fn(move |request| service.answer(request));
    run_h1(stream, service, requests).await
}

/// Bytes of answers that the kernel takes for a connection beyond those on their way to the client.
/// Without a bound it takes megabytes, by `net.ipv4.tcp_wmem`, for each client that asks for much and
/// reads little, until all connections of the machine run short (`net.ipv4.tcp_mem`).
#[cfg(target_os = "linux")]
const UNSENT_MAX: u32 = 128 * 1024;

/// Connections have this of the socket that accepts them.
#[cfg(target_os = "linux")]
fn bound_unsent(listener: &TcpListener) {
    // A kernel that does not know it serves as well.
    let _ = socket2::SockRef::from(listener).set_tcp_notsent_lowat(UNSENT_MAX);
}

#[cfg(not(target_os = "linux"))]
fn bound_unsent(_: &TcpListener) {}

/// Accepts, and says when it can not.
struct Listener {
    listener: TcpListener,
    observer: Observer,
    is_failing: AtomicBool,
}

impl Listener {
    fn new(listener: TcpListener, observer: Observer) -> Self {
        bound_unsent(&listener);
        Self {
            listener,
            observer,
            is_failing: AtomicBool::new(false),
        }
    }

    async fn accept(&self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if self.is_failing.swap(false, Ordering::Relaxed) {
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
                    if !self.is_failing.swap(true, Ordering::Relaxed) {
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
    requests: Arc<RequestTracker>,
}

impl<R> Guarded<R> {
    fn new(routes: R, observer: &Observer, slot: OwnedSemaphorePermit, line: Arc<Line>) -> Self {
        Self {
            routes,
            open: OpenConnection::new(observer.clone(), slot),
            requests: Arc::new(RequestTracker::new(line)),
        }
    }

    /// Of the only connection there is.
    fn alone(routes: R, observer: &Observer) -> Self {
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned();
        Self::new(
            routes,
            observer,
            slot.expect("nobody else has it"),
            Arc::default(),
        )
    }
}

impl<R, C> Guarded<R>
where
    R: Service<Request<Empty<Bytes>>, Response = http::Response<C>, Error = Infallible>,
    R: Clone,
    warp::reply::Response: Into<http::Response<C>>,
{
    /// Answers one request, whatever becomes of its handler.
    fn answer<B: Body>(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Result<http::Response<Content<C>>, Infallible>> + use<R, B, C> {
        let observer = self.open.observer.clone();
        // Where content ends is what proxies and servers disagree on: nothing behind it is taken for a
        // request. HTTP/2 has no such question, and no such field.
        let may_have_content = !request.body().is_end_stream();
        let is_last = may_have_content && request.version() < Version::HTTP_2;
        let running = self.requests.begin(request.version());
        let refusal = refusal(&request);
        let (parts, content) = request.into_parts();
        let content = may_have_content.then_some(content);
        let head = Head::of(parts);
        let routed = match refusal {
            Some(refusal) => Err(refusal),
            None => {
                // Nobody reads content, and fields are in the head: Warp's filters find it when they are
                // polled, which is within its scope.
                let mut request = Request::new(Empty::new());
                *request.method_mut() = head.method.clone();
                *request.uri_mut() = head.uri.clone();
                Ok(HEAD.scope(Arc::clone(&head), self.routes.clone().call(request)))
            }
        };
        async move {
            let routed = match content {
                // What would be done with it is for other methods to say, and those are not answered at all.
                Some(content) if is_without_content(&head.method) && routed.is_ok() => {
                    if is_nothing(content).await {
                        routed
                    } else {
                        Err(Problem::HasBody.into())
                    }
                }
                _ => routed,
            };
            let answered = match routed {
                Ok(routed) => AssertUnwindSafe(routed).catch_unwind().await.map_err(|_| {
                    observer.emit(&Event::HandlerPanicked);
                    Problem::Internal.into()
                }),
                Err(refusal) => Err(refusal),
            };
            let mut response = match answered {
                Ok(Ok(response)) => response,
                Err(response) => {
                    let response = finished(&observer, &head, Reply::plain(response, None));
                    response.into_response().into()
                }
            };
            let headers = response.headers_mut();
            if let Some(date) = date::after_set_back(SystemTime::now()) {
                headers.insert(DATE, date);
            }
            if is_last {
                let close = HeaderValue::from_static("close");
                headers.insert(CONNECTION, close);
            }
            Ok(response.map(|content| running.content(content)))
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
    // Of HTTP/1.1 hyper refuses them itself, of HTTP/2 it does not count them.
    if request.headers().len() > HEAD_FIELDS_MAX {
        return Some(Problem::TooManyFields.into());
    }
    if !names_its_host(request) {
        return Some(Problem::NoHost.into());
    }
    // It says that there is some: no need to wait for it, let alone to ask for it.
    let has_content = !request.body().is_end_stream()
        && (request.body().size_hint().lower() > 0 || request.headers().contains_key(EXPECT));
    (has_content && is_without_content(request.method())).then(|| Problem::HasBody.into())
}

/// Whether content means nothing to a method that is answered.
fn is_without_content(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// Whether content ends without there being any: where it comes in chunks, or over HTTP/2, only its end
/// says so.
async fn is_nothing<B: Body>(content: B) -> bool {
    let mut content = pin!(content);
    let to_its_end = async {
        while let Some(frame) = content.frame().await {
            let is_nothing =
                |frame: &Frame<B::Data>| frame.data_ref().is_none_or(|data| !data.has_remaining());
            if !frame.as_ref().is_ok_and(is_nothing) {
                return false;
            }
        }
        true
    };
    timeout(CONTENT_TIMEOUT, to_its_end).await == Ok(true)
}

/// RFC 9112, 3.2, and RFC 9113, 8.3.1: a request says once whom it is for, in a way that can be read.
fn names_its_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.as_bytes().iter().all(|byte| is_of_authority(*byte)),
        (None, _) if request.version() < Version::HTTP_11 => true,
        (None, _) => request.version() > Version::HTTP_11 && request.uri().authority().is_some(),
        (Some(_), Some(_)) => false,
    }
}

/// What a host and a port are written with: RFC 3986, 3.2.2 and 3.2.3.
fn is_of_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

/// Counts a connection for as long as it is open.
struct OpenConnection {
    observer: Observer,
    slot: Option<OwnedSemaphorePermit>,
}

impl OpenConnection {
    fn new(observer: Observer, slot: OwnedSemaphorePermit) -> Self {
        observer.emit(&Event::ConnectionOpened);
        Self {
            observer,
            slot: Some(slot),
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        // Whoever hears that it is closed finds room for another.
        drop(self.slot.take());
        self.observer.emit(&Event::ConnectionClosed);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use bolero::check;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use warp::Filter as _;
    use warp::path::FullPath;

    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_is_a_problem_and_the_connection_goes_on() {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let routes = warp::service(warp::path::full().map(|path: FullPath| {
            assert_ne!(path.as_str(), "/defect", "a defect");
            warp::reply()
        }));
        let service = Guarded::alone(routes, &Observer::new(Vec::new()));
        let requests = Arc::clone(&service.requests);
        let service = service_fn(move |request| service.answer(request));
        let serving = run_h1(server, service, requests);
        let asking = async {
            let requests = b"GET /defect HTTP/1.1\r\nHost: l\r\n\r\n\
                GET / HTTP/1.1\r\nHost: l\r\nConnection: close\r\n\r\n";
            client.write_all(requests).await.unwrap();
            let mut answers = String::new();
            client.read_to_string(&mut answers).await.unwrap();
            answers
        };
        let (served, answers) = tokio::join!(serving, asking);
        served.unwrap();
        assert!(answers.starts_with("HTTP/1.1 500 "), "{answers}");
        assert!(answers.contains("LRD-501"), "{answers}");
        assert!(answers.contains("HTTP/1.1 200 OK"), "{answers}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_the_kernel_keeps_for_a_client_that_hardly_reads_is_bounded() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Listener::new(listener, Observer::new(Vec::new()));
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        client.unwrap();
        let bound = socket2::SockRef::from(&accepted).tcp_notsent_lowat();
        assert_eq!(bound.unwrap(), UNSENT_MAX);
    }

    /// What bytes of anybody's choice come after: nothing, or the beginning of a sound request.
    const BEGINNINGS: [&str; 5] = [
        "",
        "GET /",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: l\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: l\r\n\r\n",
    ];

    #[test]
    fn whatever_is_sent_the_connection_ends_and_what_it_says_is_http() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let runtime = AssertUnwindSafe(runtime.unwrap());
        check!().for_each(|bytes| {
            let (&first, rest) = bytes.split_first().unwrap_or((&0, &[]));
            let beginning = BEGINNINGS[usize::from(first) % BEGINNINGS.len()];
            let sent = [beginning.as_bytes(), rest].concat();
            let said = runtime.block_on(said_to(&sent));
            assert!(said.is_empty() || said.starts_with(b"HTTP/1."), "{said:?}");
        });
    }

    /// All that a client which sends this gets.
    async fn said_to(sent: &[u8]) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let routes = warp::service(warp::any().map(warp::reply));
        let service = Guarded::alone(routes, &Observer::new(Vec::new()));
        let requests = Arc::clone(&service.requests);
        let service = service_fn(move |request| service.answer(request));
        let serving = run_h1(server, service, requests);
        let asking = async {
            // A server that has refused need not take the rest.
            let _ = client.write_all(sent).await;
            let _ = client.shutdown().await;
            let mut said = Vec::new();
            let _ = client.read_to_end(&mut said).await;
            said
        };
        let (_, said) = tokio::join!(serving, asking);
        said
    }
}
