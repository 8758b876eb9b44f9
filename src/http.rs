//! HTTP: connections, routes, and responses with their validators and freshness. Nothing in here knows how
//! an entry is made.
//!
//! # Life of a request
//!
//! 1. [`server`] accepts the connection, or refuses it when `max_connections` are open (503).
//! 2. `connection` agrees on TLS and on HTTP/1.1 or HTTP/2 (400, 431), and limits how slow the client may be.
//! 3. `service` passes the request on, and turns a panic into a 500 (LRD-501).
//! 4. `validate` rejects what no route should see (LRD-110, 112 to 116).
//! 5. `routes` finds a declared endpoint or one of Larder's own pages (LRD-101, 102, 116).
//! 6. `authorize` identifies the caller, and refuses one that may not use it (LRD-201 to 204, 206, 207).
//! 7. `endpoint` negotiates the format and reads the arguments (LRD-102 to 107, 111, 205, 403).
//! 8. [`ReadThrough::get`] finds an entry that may be served, or waits for one load of it (LRD-109, 301 to
//!    305, 401, 402, 501).
//! 9. `response::conditional` answers 304; otherwise the representation is taken from the entry, or made. An
//!    entry without a row is a 404 (LRD-108).
//! 10. `response::headers` adds how old the response is and how long it may be stored.
//! 11. `service::finish` finishes the response: it adds CORS, strips the body for HEAD, and emits
//!     `RequestServed`.
//! 12. `connection::cork` sends the responses to pipelined requests in one write.

pub mod in_memory; // the service and a connection without a socket, for benches
pub mod server; // accept, limit, drain

mod authorize; // the caller, and what it may do
mod connection; // which protocol a connection speaks, and what serves it
mod endpoint; // a declared endpoint's response
mod limits; // every number that a client can meet
mod listener; // the listening socket
mod pages; // Larder's own pages
pub mod problem; // the one mapping of errors to statuses and codes
mod request; // the head of a request
mod response; // responses, and what their headers say
mod routes; // the site map
mod service; // one request, one response
mod slow_clients; // what clients keep in memory by not taking it
mod validate; // what no route gets to see

#[cfg(test)]
mod fuzz;

use std::sync::Arc;

pub use connection::tls::{Tls, TlsError};
pub use routes::Serving;
pub use validate::host::Exposure;

use tokio::sync::watch;

use crate::access::Identities;
use crate::metrics::Metrics;
use crate::observe::{Observer, Readiness};
use crate::plan::Plan;
use crate::read_through::ReadThrough;
use crate::status::Status;

/// What the routes are built from. Each of them takes the handles that it uses.
#[derive(Debug, Clone)]
pub struct Site {
    /// The declared endpoints and their paths.
    pub plan: Arc<Plan>,
    /// Where answers come from.
    pub read_through: ReadThrough,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// What `/status` shows.
    pub status: Arc<Status>,
    /// What `/readyz` shows.
    pub readiness: watch::Receiver<Readiness>,
    /// Receives an event for each response.
    pub observer: Observer,
    /// Who may ask; `None` if everybody may.
    pub identities: Option<Arc<Identities>>,
    /// Whether only programs on this machine can connect.
    pub exposure: Exposure,
}
