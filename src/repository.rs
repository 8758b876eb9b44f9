//! The only SQL traffic: a pool of read-only sessions that describe the declared statements and run
//! them. What Postgres says is limited here: time, rows, connections.
//!
//! | part        | does                                                            |
//! |-------------|-----------------------------------------------------------------|
//! | `url`       | libpq-style settings, with the TLS ones tokio-postgres leaves out |
//! | `tls`       | how much of the server's certificate is believed                |
//! | `pool`      | connections, their session settings, when to try again          |
//! | `describe`  | the parameters' and columns' types, as Postgres gives them      |
//! | `rows`      | a running query, cancelled unless it is read to its end         |
//! | `bind`      | arguments as Postgres's parameters                              |
//! | `throwaway` | a Postgres of one's own, for the demo and the tests             |

pub mod describe;
pub mod error;
pub mod rows;
pub mod throwaway;
pub mod types;

mod bind;
mod pool;
mod tls;
mod url;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use describe::Description;
pub use error::RepositoryError;
pub use rows::{Row, Rows};
pub use types::{Column, ValueType};

use crate::observe::{Event, Observer};
use crate::plan::{Arguments, Endpoint, RepositorySettings};
use pool::Pool;
use rows::Lease;

/// The Postgres behind it all. A cheap handle: clones share connections.
#[derive(Debug, Clone)]
pub struct Repository {
    pool: Arc<Pool>,
}

impl Repository {
    /// A repository that has not connected yet.
    ///
    /// # Errors
    /// [`RepositoryError::Settings`] when the URL or its certificate can not be used.
    pub fn new(settings: &RepositorySettings, observer: Observer) -> Result<Self, RepositoryError> {
        Ok(Self {
            pool: Arc::new(Pool::new(settings, observer)?),
        })
    }

    /// Has Postgres prepare the endpoint's statement and say its types.
    ///
    /// # Errors
    /// [`RepositoryError::Refused`] in Postgres's words, [`RepositoryError::Unusable`] when the
    /// statement is fine and the declaration around it is not, or that Postgres is not there.
    pub async fn describe(&self, endpoint: &Endpoint) -> Result<Description, RepositoryError> {
        let deadline = Instant::now() + endpoint.timeout;
        let mut lease = Lease::new(self.pool.get(deadline).await?, self.pool.tls());
        let described = tokio::time::timeout_at(deadline, describe::describe(&lease, endpoint))
            .await
            .unwrap_or(Err(RepositoryError::TimedOut {
                after: endpoint.timeout,
            }));
        if !matches!(described, Err(RepositoryError::TimedOut { .. })) {
            lease.finish();
        }
        described
    }

    /// Runs the described statement and answers with its rows, which must be read to their end: a
    /// query abandoned earlier is cancelled on the server.
    ///
    /// # Errors
    /// As [`RepositoryError`] says; [`RepositoryError::Outdated`] when the statement no longer is
    /// what was described.
    pub async fn fetch(
        &self,
        endpoint: &Endpoint,
        description: &Arc<Description>,
        arguments: &Arguments,
    ) -> Result<Rows, RepositoryError> {
        let began = Instant::now();
        let deadline = began + endpoint.timeout;
        let started =
            tokio::time::timeout_at(deadline, self.start(description, arguments, deadline))
                .await
                .unwrap_or(Err(RepositoryError::TimedOut {
                    after: endpoint.timeout,
                }));
        let (lease, stream) = started.inspect_err(|error| {
            self.emit_query(endpoint, error, began.elapsed());
        })?;
        Ok(Rows::new(
            lease,
            stream,
            Arc::clone(description),
            rows::Limits {
                deadline,
                timeout: endpoint.timeout,
                max_rows: endpoint.max_rows,
            },
            rows::Tally::new(endpoint.id, self.pool.observer().clone(), began),
        ))
    }

    async fn start(
        &self,
        description: &Description,
        arguments: &Arguments,
        deadline: Instant,
    ) -> Result<(Lease, tokio_postgres::RowStream), RepositoryError> {
        // A pooled connection may have died unnoticed. Reading twice is harmless, so a second one
        // is tried before anyone hears of it.
        match self.start_once(description, arguments, deadline).await {
            Err(RepositoryError::Unavailable { .. }) => {
                self.start_once(description, arguments, deadline).await
            }
            other => other,
        }
    }

    async fn start_once(
        &self,
        description: &Description,
        arguments: &Arguments,
        deadline: Instant,
    ) -> Result<(Lease, tokio_postgres::RowStream), RepositoryError> {
        let mut lease = Lease::new(self.pool.get(deadline).await?, self.pool.tls());
        let statement = match description.prepare_on(&lease).await {
            Ok(statement) => statement,
            Err(error) => {
                lease.finish();
                return Err(error);
            }
        };
        if !description.still_holds(&statement) {
            description.forget_on(&lease);
            lease.finish();
            return Err(RepositoryError::Outdated);
        }
        match lease
            .query_raw(&statement, bind::parameters(arguments))
            .await
        {
            Ok(stream) => Ok((lease, stream)),
            Err(error) => {
                let error = bind::refusal(error, arguments);
                if error.is_outdated() {
                    description.forget_on(&lease);
                }
                lease.finish();
                Err(if error.is_outdated() {
                    RepositoryError::Outdated
                } else {
                    error
                })
            }
        }
    }

    /// How long until the next attempt to connect is allowed; zero while nothing failed.
    pub fn retry_in(&self) -> Duration {
        self.pool.retry_in()
    }

    /// Tells the observers how many connections there are.
    pub fn measure(&self) {
        let (idle, active) = self.pool.connections();
        self.pool
            .observer()
            .emit(&Event::ConnectionsMeasured { idle, active });
    }

    fn emit_query(&self, endpoint: &Endpoint, error: &RepositoryError, elapsed: Duration) {
        if let Some(outcome) = error.query_outcome() {
            self.pool.observer().emit(&Event::QueryFinished {
                endpoint: endpoint.id,
                outcome,
                elapsed,
            });
        }
    }
}
