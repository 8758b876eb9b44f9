//! All SQL traffic: a pool of read-only sessions that describe the declared statements and run them.
//! Time, rows and connections are limited here.
//!
//! | part           | does                                                              |
//! |----------------|-------------------------------------------------------------------|
//! | `url`          | libpq's connection options, in both of their spellings            |
//! | `connect`      | connects to the first host that accepts                           |
//! | `connection`   | a connection and the task that drives it                          |
//! | `reachability` | whether Postgres can be reached, and when to try again            |
//! | `tls`          | how strictly the server's certificate is verified                 |
//! | `pool`         | opens sessions, up to a limit, and reuses them                    |
//! | `pooler`       | whether a pooler is in between, and whether Larder can work with it |
//! | `session`      | the settings every load can rely on, whatever ran before it       |
//! | `lease`        | a session on loan for one load, and the load's transaction        |
//! | `liveness`     | whether idle sessions are still connected                         |
//! | `load`         | sends a load's query                                              |
//! | `describe`     | the types of parameters and columns, according to Postgres        |
//! | `rows`         | a running query, cancelled unless it is read to its end           |
//! | `probe`        | a probe's query and its answer                                    |
//! | `warm_keys`    | the keys that `warm_sql` finds                                    |
//! | `listen`       | notifications                                                     |
//! | `row_security` | the tables with row-level security that a statement reaches       |
//! | `run_as`       | the role and the settings of a transaction                        |
//! | `bind`         | arguments as Postgres's parameters                                |
//! | `error`        | what can go wrong, and whose fault it is                          |
//! | `refusal`      | an error that Postgres reports                                    |
//! | `sqlstate`     | the codes of Postgres's errors                                    |
//! | `disclosure`   | how much of Postgres's error messages may be shown                |
//! | `throwaway`    | a temporary Postgres, for the demo and the tests                  |

pub mod describe;
pub mod error;
pub mod listen;
pub mod rows;
pub mod throwaway;
pub mod types;

mod bind;
mod connect;
mod connection;
mod disclosure;
mod lease;
mod liveness;
mod load;
mod pool;
mod pooler;
mod probe;
mod reachability;
mod refusal;
mod row_security;
mod run_as;
mod session;
mod sqlstate;
mod tls;
mod url;
mod warm_keys;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use describe::{Description, ParameterDescription};
pub use error::RepositoryError;
pub use listen::Listener;
use probe::Prepared;
pub use probe::ProbeAnswer;
pub use refusal::Refusal;
pub use row_security::{Bypass, ProtectedTable, Reached, RoleStatus, UnprotectedParent};
pub use rows::{Row, Rows};
pub use types::{Column, ValueType};
pub use warm_keys::NamedTexts;

use crate::observe::{Event, Observer};
use crate::plan::{Arguments, Endpoint, Probe, RepositorySettings};
use disclosure::Disclosure;
use lease::Lease;
use load::Load;
use pool::Pool;
use run_as::Identity;

/// The shortest timeout of a probe, however often it is due.
const MIN_PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The Postgres behind the API. A cheap handle: clones share connections.
#[derive(Debug, Clone)]
pub struct Repository {
    pool: Arc<Pool>,
}

impl Repository {
    /// A repository that has not connected yet.
    ///
    /// # Errors
    /// [`RepositoryError::Settings`] if the URL, or a certificate it names, cannot be used.
    pub fn new(settings: &RepositorySettings, observer: Observer) -> Result<Self, RepositoryError> {
        Ok(Self {
            pool: Arc::new(Pool::new(settings, observer)?),
        })
    }

    /// Warnings about connection settings that are valid but risky, in sentences.
    pub fn warnings(&self) -> Vec<String> {
        self.pool.connect().warning().into_iter().collect()
    }

    /// Has Postgres prepare an endpoint's statement and determine its types.
    ///
    /// # Errors
    /// [`RepositoryError::Refused`] if Postgres refuses the statement, [`RepositoryError::Unusable`] if it
    /// cannot be served as declared, or that Postgres is unreachable.
    pub async fn describe(&self, endpoint: &Endpoint) -> Result<Description, RepositoryError> {
        let mut lease = self.lease(endpoint.timeout).await?;
        let (began, limit) = (Instant::now(), lease.statement_timeout());
        let describing = async {
            let identity = Identity::of_description(endpoint);
            run_as::begin(&lease, identity.as_ref(), Disclosure::Full).await?;
            let described = describe::describe(&lease, endpoint).await;
            described.map_err(|error| error.while_running(began.elapsed()))
        };
        let Ok(described) = tokio::time::timeout(endpoint.timeout, describing).await else {
            return Err(RepositoryError::TimedOut {
                after: endpoint.timeout,
            });
        };
        lease.finish();
        described.map_err(|error| error.after(began.elapsed(), limit))
    }

    /// Runs the described statement and returns its rows. They must be read to the end: a query that is
    /// abandoned earlier is cancelled on the server. The endpoint's timeout counts from the moment there is a
    /// connection.
    ///
    /// # Errors
    /// Any [`RepositoryError`]; [`RepositoryError::Outdated`] if the statement is no longer what was
    /// described.
    pub async fn fetch(
        &self,
        endpoint: &Endpoint,
        description: &Arc<Description>,
        arguments: &Arguments,
    ) -> Result<Rows, RepositoryError> {
        // A pooled connection may have died unnoticed before the query was sent. So the query is tried once
        // more before the failure is reported, on a connection that did not die with the first.
        match self.fetch_once(endpoint, description, arguments).await {
            Err(RepositoryError::Unavailable { .. }) => {
                self.pool.suspect_sessions();
                self.fetch_once(endpoint, description, arguments).await
            }
            ended @ Err(RepositoryError::SessionEnded { .. }) => {
                self.pool.suspect_sessions();
                ended
            }
            other => other,
        }
    }

    async fn fetch_once(
        &self,
        endpoint: &Endpoint,
        description: &Arc<Description>,
        arguments: &Arguments,
    ) -> Result<Rows, RepositoryError> {
        let lease = self.lease(endpoint.timeout).await?;
        let disclosure = Disclosure::for_client(arguments);
        self.fetch_on(lease, endpoint, description, arguments, disclosure)
            .await
    }

    /// Like [`Repository::fetch`], in a session that has already prepared the statement, as for most loads,
    /// so that it takes as long as they do. The arguments come from the operator, so error messages are kept
    /// in full.
    ///
    /// # Errors
    /// As [`Repository::fetch`].
    pub async fn fetch_prepared(
        &self,
        endpoint: &Endpoint,
        description: &Arc<Description>,
        arguments: &Arguments,
    ) -> Result<Rows, RepositoryError> {
        let timeout = endpoint.timeout;
        let lease = self.lease(timeout).await?;
        let (began, limit) = (Instant::now(), lease.statement_timeout());
        let preparing = async {
            let identity = Identity::of_load(endpoint, arguments);
            run_as::begin(&lease, identity.as_ref(), Disclosure::Full).await?;
            let role = identity.as_ref().map(Identity::role);
            let prepared = description.prepare_on(&lease, role).await;
            prepared.map_err(|error| error.while_running(began.elapsed()))
        };
        let Ok(prepared) = tokio::time::timeout(timeout, preparing).await else {
            return Err(RepositoryError::TimedOut { after: timeout });
        };
        lease.end();
        prepared.map_err(|error| error.after(began.elapsed(), limit))?;
        self.fetch_on(lease, endpoint, description, arguments, Disclosure::Full)
            .await
    }

    async fn fetch_on(
        &self,
        mut lease: Lease,
        endpoint: &Endpoint,
        description: &Arc<Description>,
        arguments: &Arguments,
        disclosure: Disclosure,
    ) -> Result<Rows, RepositoryError> {
        let began = Instant::now();
        let deadline = began + endpoint.timeout;
        let timeout = endpoint.timeout.min(lease.statement_timeout());
        let mut record = rows::QueryRecord::new(endpoint.id, self.pool.observer().clone(), began);
        let load = Load {
            description,
            arguments,
            identity: Identity::of_load(endpoint, arguments),
            disclosure,
        };
        let starting = load::start(&lease, &load);
        let started = match tokio::time::timeout_at(deadline, starting).await {
            Ok(started) => {
                if started.is_err() {
                    lease.finish();
                }
                // The transaction ends when Postgres has sent the last row, however late that is read.
                lease.end();
                started.map_err(|error| error.after(began.elapsed(), timeout))
            }
            Err(_) => Err(RepositoryError::TimedOut {
                after: endpoint.timeout,
            }),
        };
        let stream = started.inspect_err(|error| record.report(error.query_outcome()))?;
        let limits = rows::Limits {
            deadline,
            timeout,
            max_rows: endpoint.max_rows,
        };
        Ok(Rows::new(
            lease,
            stream,
            Arc::clone(description),
            limits,
            disclosure,
            record,
        ))
    }

    /// Runs a probe.
    ///
    /// # Errors
    /// Any [`RepositoryError`].
    pub async fn probe(&self, probe: &Probe) -> Result<ProbeAnswer, RepositoryError> {
        // As with `fetch`.
        match self.probe_once(probe, Prepared::Reuse).await {
            Err(RepositoryError::Unavailable { .. }) => self.pool.suspect_sessions(),
            Err(error) if error.is_outdated() => {}
            answer => return answer,
        }
        self.probe_once(probe, Prepared::Again).await
    }

    async fn probe_once(
        &self,
        probe: &Probe,
        prepared: Prepared,
    ) -> Result<ProbeAnswer, RepositoryError> {
        let ask = async |lease: &Lease| probe::probe(lease, &probe.sql, prepared).await;
        self.within(probe_timeout(probe), None, ask).await
    }

    /// How long a probe takes in a session that has already prepared it.
    ///
    /// # Errors
    /// Any [`RepositoryError`].
    pub async fn time_probe(&self, probe: &Probe) -> Result<Duration, RepositoryError> {
        let ask = async |lease: &Lease| {
            lease.prepare_cached(&probe.sql).await?;
            let began = Instant::now();
            probe::probe(lease, &probe.sql, Prepared::Reuse).await?;
            Ok(began.elapsed())
        };
        self.within(probe_timeout(probe), None, ask).await
    }

    /// The names of a statement's columns.
    ///
    /// # Errors
    /// Any [`RepositoryError`].
    pub async fn columns(
        &self,
        sql: &str,
        timeout: Duration,
    ) -> Result<Vec<String>, RepositoryError> {
        let ask = async |lease: &Lease| warm_keys::columns(lease, sql).await;
        self.within(timeout, None, ask).await
    }

    /// At most `max_rows` rows of a statement, as names and texts.
    ///
    /// # Errors
    /// Any [`RepositoryError`].
    pub async fn texts(
        &self,
        sql: &str,
        max_rows: u64,
        timeout: Duration,
    ) -> Result<Vec<NamedTexts>, RepositoryError> {
        let ask = async |lease: &Lease| warm_keys::texts(lease, sql, max_rows).await;
        self.within(timeout, None, ask).await
    }

    /// What an endpoint's statement reaches of tables with row-level security, for each role that reads them.
    ///
    /// # Errors
    /// Any [`RepositoryError`].
    pub async fn row_security(
        &self,
        endpoint: &Endpoint,
        description: &Description,
    ) -> Result<Reached, RepositoryError> {
        let ask = async |lease: &Lease| row_security::reached(lease, endpoint, description).await;
        let identity = Identity::of_description(endpoint);
        self.within(endpoint.timeout, identity, ask).await
    }

    /// Whether the session may become each of these roles.
    ///
    /// # Errors
    /// Any [`RepositoryError`].
    pub async fn roles(
        &self,
        roles: &[String],
        timeout: Duration,
    ) -> Result<Vec<RoleStatus>, RepositoryError> {
        let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
        let ask = async |lease: &Lease| row_security::role_statuses(lease, &roles).await;
        self.within(timeout, None, ask).await
    }

    /// Listens on these channels, on a connection outside the pool.
    ///
    /// # Errors
    /// Any [`RepositoryError`].
    pub async fn listen(&self, channels: &[&str]) -> Result<Listener, RepositoryError> {
        Listener::open(&self.pool, channels).await
    }

    async fn within<T>(
        &self,
        timeout: Duration,
        identity: Option<Identity<'_>>,
        ask: impl AsyncFnOnce(&Lease) -> Result<T, RepositoryError>,
    ) -> Result<T, RepositoryError> {
        let mut lease = self.lease(timeout).await?;
        let (began, limit) = (Instant::now(), lease.statement_timeout());
        let asking = async {
            run_as::begin(&lease, identity.as_ref(), Disclosure::Full).await?;
            let answer = ask(&lease).await;
            answer.map_err(|error| error.while_running(began.elapsed()))
        };
        let Ok(answer) = tokio::time::timeout(timeout, asking).await else {
            return Err(RepositoryError::TimedOut { after: timeout });
        };
        // The rest of an answer that is too long is still being sent.
        if !matches!(answer, Err(RepositoryError::Unusable { .. })) {
            lease.finish();
        }
        answer.map_err(|error| error.after(began.elapsed(), limit))
    }

    async fn lease(&self, wait: Duration) -> Result<Lease, RepositoryError> {
        Ok(Lease::new(self.pool.get(wait).await?, self.pool.tls()))
    }

    /// Makes every idle session answer once before it is used again: it may have been cut off unnoticed.
    pub fn suspect_sessions(&self) {
        self.pool.suspect_sessions();
    }

    /// How long until the next attempt to connect is allowed; zero while nothing failed.
    pub fn retry_in(&self) -> Duration {
        self.pool.retry_in()
    }

    /// Emits how many connections there are.
    pub fn measure(&self) {
        let (idle, active) = self.pool.connections();
        self.pool
            .observer()
            .emit(&Event::ConnectionsMeasured { idle, active });
    }
}

/// A probe may take until the next one is due.
fn probe_timeout(probe: &Probe) -> Duration {
    probe.every.max(MIN_PROBE_TIMEOUT)
}
