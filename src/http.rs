//! The wire: routes on one page, answers with their validators and freshness, problems. Knows what an
//! entry is and nothing of how it was made.
//!
//! | part          | does                                                     |
//! |---------------|----------------------------------------------------------|
//! | `server`      | connections: accept, limits, drain                       |
//! | `connection`  | HTTP/1.1, HTTP/2, TLS: limits of each                    |
//! | `tls`         | the certificate, also when it is renewed                 |
//! | `heads`       | how long the head of a request may take                  |
//! | `streams`     | the answers of HTTP/2, each to be cut by itself          |
//! | `content`     | answers on their way, large ones part by part            |
//! | `pending`     | what clients have not taken, and who is cut for it       |
//! | `patient`     | slow clients: a refusal reaches them, a stall ends them   |
//! | `gather`      | answers that leave together                              |
//! | `host`        | whether a request is for this server                     |
//! | `head`        | what an answer may depend on of a request                |
//! | `routes`      | every route, as Warp filters                             |
//! | `endpoint`    | a declared endpoint's answer                             |
//! | `cors`        | whose pages may read answers in a browser                |
//! | `decode`      | percent-encoded text, strictly                           |
//! | `negotiate`   | `Accept`, `Accept-Encoding`                              |
//! | `conditional` | `If-None-Match`, `If-Modified-Since`                     |
//! | `freshness`   | `Cache-Control`, `Age`, `Cache-Status`                   |
//! | `pages`       | metrics and health                                       |
//! | `docs`        | what may be asked, for programs and for people           |
//! | `status`      | what is so right now, for programs and for people        |
//! | `shared`      | what is made once for all who ask                        |
//! | `made`        | a page that was made so, in each coding                  |
//! | `fields`      | an answer's header fields                                |
//! | `kept`        | those of the last answers, for the next                  |
//! | `lines`       | header fields, as they are written                       |
//! | `date`        | `Date`                                                   |
//! | `problem`     | the one mapping of errors to statuses and codes          |

pub mod problem;
pub mod server;
pub mod tls;

mod conditional;
mod connection;
mod content;
mod cors;
mod date;
mod decode;
mod docs;
mod endpoint;
mod fields;
mod freshness;
#[cfg(test)]
mod fuzz;
mod gather;
mod head;
mod heads;
mod host;
mod kept;
mod lines;
mod made;
mod negotiate;
mod pages;
mod patient;
mod pending;
mod routes;
mod shared;
mod status;
mod streams;

use std::sync::Arc;
use std::time::Duration;

pub use docs::Contract;
pub use pages::Scrapes;
pub use status::Board;

use bytes::Bytes;
use tokio::sync::watch;
use warp::http::{self, HeaderValue};

use crate::metrics::Metrics;
use crate::observe::{CacheStatus, Observer, Readiness};
use crate::plan::{EndpointId, Plan};
use crate::read_through::ReadThrough;

/// What the routes need.
#[derive(Debug)]
pub struct Site {
    /// The declared endpoints and their paths.
    pub plan: Arc<Plan>,
    /// Where answers come from.
    pub read_through: ReadThrough,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// Who hears of served requests.
    pub observer: Observer,
    /// What `/metrics` says, for all who ask within a second.
    pub scrapes: Scrapes,
    /// What `/openapi.json` says, once it has been asked for.
    pub contract: Contract,
    /// What `/status.json` says.
    pub board: Board,
    /// Whether only this machine's own programs can connect.
    pub is_on_loopback: bool,
    /// What `/readyz` says.
    pub readiness: watch::Receiver<Readiness>,
}

/// What every answer says: that it is of the type that it names.
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// A response of finished bytes.
type Response = http::Response<Bytes>;

/// A response, and what is worth knowing of it.
struct Reply {
    response: Response,
    endpoint: Option<EndpointId>,
    cache: CacheStatus,
    age: Option<Duration>,
    stale_if_error: bool,
}

impl Reply {
    /// A response that owes nothing to the cache.
    fn plain(response: impl Into<Response>, endpoint: Option<EndpointId>) -> Self {
        Self {
            response: response.into(),
            endpoint,
            cache: CacheStatus::None,
            age: None,
            stale_if_error: false,
        }
    }
}
