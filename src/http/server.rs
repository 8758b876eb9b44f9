//! Connections: accepted, limited in number, drained at shutdown. The loop is Larder's own because Warp's
//! has no limits on time or number.

use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::connection::Protocols;
use super::connection::request_tracker::RequestTracker;
use super::connection::tls::Tls;
use super::limits::REFUSALS_MAX;
use super::listener::Listener;
use super::routes::Serving;
use super::service::{FinishedRoutes, Finisher, Service};
use super::slow_clients::SlowClients;
use crate::observe::{Event, Observer, Task};
use crate::plan::ServerSettings;
use crate::supervise;

/// Serves until `shutdown`, then lets running requests end, for at most the settings'
/// `shutdown_timeout`. Returns whether all of them did.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    serving: Serving,
    shutdown: CancellationToken,
) -> bool {
    let (settings, observer) = (&**serving.settings(), serving.observer().clone());
    let slow_clients = Arc::new(SlowClients::new(settings.max_pending, observer.clone()));
    // Until nothing is left to drain.
    let watching = CancellationToken::new();
    let _watching = watching.clone().drop_guard();
    let watched = Arc::clone(&slow_clients);
    supervise::spawn(&observer, Task::Pending, &watching, move || {
        Arc::clone(&watched).watch()
    });
    let acceptor = tls.as_ref().map(Tls::acceptor);
    if let Some(tls) = tls {
        let observer_of_tls = observer.clone();
        supervise::spawn(&observer, Task::Certificate, &shutdown, move || {
            tls.clone().follow(observer_of_tls.clone())
        });
    }
    let finisher = Finisher::new(Arc::clone(serving.settings()), observer.clone());
    let server = Server {
        routes: Arc::clone(&finisher).finished(serving.filter()),
        finisher,
        protocols: Protocols {
            tls: acceptor,
            h2c: settings.h2c,
            observer: observer.clone(),
            shutdown: shutdown.clone(),
        },
        slots: Arc::new(Semaphore::new(settings.max_connections)),
        refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        slow_clients,
        observer: observer.clone(),
        draining: GracefulShutdown::new(),
    };
    let listener = Listener::new(listener, observer.clone());
    // A panic loses one connection, and no other.
    let accept = async || loop {
        server.admit(listener.accept().await);
    };
    supervise::keep_running(&observer, Task::Accept, &shutdown, &accept).await;
    drop(listener);
    server.drain(settings).await
}

/// What all connections share.
struct Server<R> {
    routes: R,
    finisher: Arc<Finisher>,
    protocols: Protocols,
    /// One permit for each of `max_connections`.
    slots: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    slow_clients: Arc<SlowClients>,
    observer: Observer,
    draining: GracefulShutdown,
}

impl<R: FinishedRoutes> Server<R> {
    /// Serves a connection in a task of its own, or refuses it when `max_connections` are open.
    fn admit(&self, stream: TcpStream) {
        match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => self.spawn_connection(stream, slot),
            Err(_) => self.refuse(stream),
        }
    }

    fn spawn_connection(&self, stream: TcpStream, slot: OwnedSemaphorePermit) {
        let open = OpenConnection::new(self.observer.clone(), slot);
        let outbound = self.slow_clients.outbound();
        let requests = Arc::new(RequestTracker::new(Arc::clone(&outbound)));
        // A connection that is closed already has no other end, and sends nothing.
        let peer = stream
            .peer_addr()
            .map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip());
        let (routes, finisher) = (self.routes.clone(), Arc::clone(&self.finisher));
        let service = Service::new(routes, finisher, Arc::clone(&requests), peer);
        let service = service_fn(move |request| service.respond(request));
        let (protocols, watcher) = (self.protocols.clone(), self.draining.watcher());
        tokio::spawn(async move {
            // Dropped last.
            let _open = open;
            let serving = pin!(protocols.serve(stream, service, requests, watcher));
            outbound.serve(serving).await;
        });
    }

    fn refuse(&self, stream: TcpStream) {
        self.observer.emit(&Event::ConnectionRefused);
        if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
            let protocols = self.protocols.clone();
            tokio::spawn(async move {
                protocols.refuse(stream).await;
                drop(permit);
            });
        }
    }

    /// Waits for running requests to end, and returns whether all did in time.
    async fn drain(self, settings: &ServerSettings) -> bool {
        self.slow_clients.shut_down();
        let drained = timeout(settings.shutdown_timeout, self.draining.shutdown()).await;
        drained.is_ok()
    }
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
        // An observer of the event finds room for another connection.
        drop(self.slot.take());
        self.observer.emit(&Event::ConnectionClosed);
    }
}
