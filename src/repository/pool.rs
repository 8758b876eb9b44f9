//! Sessions and their settings: opened on demand, up to a limit, and reused.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{
    self, Manager, Metrics, Object, PoolError, RecycleError, RecycleResult, TimeoutType, Timeouts,
};
use deadpool_postgres::ClientWrapper;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::RepositoryError;
use super::connect::Connect;
use super::connection::spawn_driver;
use super::liveness::{Liveness, Verdict};
use super::reachability::{OpenSession, Reachability};
use super::session::{self, SessionSettings};
use super::tls::Connector;
use super::url::Target;
use crate::observe::Observer;
use crate::plan::RepositorySettings;

/// How often to check for a session that has become free, while none can be opened.
const SESSION_POLL: Duration = Duration::from_millis(20);

/// At most `max_connections` sessions.
pub(super) struct Pool {
    pool: managed::Pool<Sessions>,
    connect: Arc<Connect>,
    reachability: Arc<Reachability>,
    liveness: Arc<Liveness>,
}

impl Pool {
    pub(super) fn new(
        settings: &RepositorySettings,
        observer: Observer,
    ) -> Result<Self, RepositoryError> {
        let target = Target::parse("url", settings.url.expose())?;
        let connect = Arc::new(Connect::new(target)?);
        let reachability = Arc::new(Reachability::new(observer));
        let liveness = Arc::<Liveness>::default();
        let sessions = Sessions {
            connect: Arc::clone(&connect),
            statement_timeout: settings.statement_timeout,
            reachability: Arc::clone(&reachability),
            liveness: Arc::clone(&liveness),
        };
        let pool = managed::Pool::builder(sessions)
            .max_size(settings.max_connections)
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a pool with a runtime can be built");
        Ok(Self {
            pool,
            connect,
            reachability,
            liveness,
        })
    }

    /// A session for one query. If all are in use, waits up to `wait`.
    ///
    /// While attempts to connect are backing off, none is made, so that an unreachable Postgres is not
    /// hammered. Then this fails at once, unless there are sessions to wait for.
    pub(super) async fn get(&self, wait: Duration) -> Result<Object<Sessions>, RepositoryError> {
        let deadline = Instant::now() + wait;
        loop {
            self.may_connect(deadline).await?;
            let limits = Timeouts {
                wait: Some(deadline.saturating_duration_since(Instant::now())),
                // Connecting keeps its own limits.
                create: None,
                recycle: None,
            };
            let session = self.pool.timeout_get(&limits).await;
            let error = match session {
                Ok(session) => return Ok(session),
                Err(error) => get_error(error, wait),
            };
            // Postgres has no room for another session, so wait for one of those that are open.
            let can_be_shared = matches!(error, RepositoryError::Busy { .. })
                && self.reachability.has_sessions()
                && Instant::now() < deadline;
            if !can_be_shared {
                return Err(error);
            }
        }
    }

    /// Waits until a session is available or may be opened.
    async fn may_connect(&self, deadline: Instant) -> Result<(), RepositoryError> {
        while let Some((cause, next)) = self.must_not_connect() {
            let until = deadline.min(next).min(Instant::now() + SESSION_POLL);
            if !self.reachability.has_sessions() || Instant::now() >= deadline {
                return Err(RepositoryError::Unavailable { cause });
            }
            tokio::time::sleep_until(until).await;
        }
        Ok(())
    }

    /// Why no session can be opened now and when one can, if none is free.
    fn must_not_connect(&self) -> Option<(String, Instant)> {
        let status = self.pool.status();
        if status.available > 0 || status.size == status.max_size {
            return None;
        }
        self.reachability.backing_off()
    }

    /// Makes every idle session answer once before it is used again.
    pub(super) fn suspect_sessions(&self) {
        self.liveness.suspect();
    }

    /// Makes connections outside the pool.
    pub(super) fn connect(&self) -> &Connect {
        &self.connect
    }

    /// How long until the next attempt to connect is allowed; zero while sessions are open.
    pub(super) fn retry_in(&self) -> Duration {
        self.reachability.retry_in()
    }

    /// Idle and active sessions.
    pub(super) fn connections(&self) -> (u64, u64) {
        let status = self.pool.status();
        let active = status.size.saturating_sub(status.available);
        (status.available as u64, active as u64)
    }

    pub(super) fn tls(&self) -> Connector {
        self.connect.tls()
    }

    pub(super) fn observer(&self) -> &Observer {
        self.reachability.observer()
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("status", &self.pool.status())
            .finish_non_exhaustive()
    }
}

fn get_error(error: PoolError<RepositoryError>, waited: Duration) -> RepositoryError {
    match error {
        PoolError::Backend(error) => error,
        PoolError::Timeout(TimeoutType::Wait) => RepositoryError::TimedOut { after: waited },
        PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle)
        | PoolError::Closed
        | PoolError::NoRuntimeSpecified
        | PoolError::PostCreateHook(_) => RepositoryError::Unavailable {
            cause: error.to_string(),
        },
    }
}

/// A session that is open.
pub(super) struct Session {
    client: ClientWrapper,
    driver: AbortHandle,
    settings: SessionSettings,
    /// When Postgres last answered in it.
    answered_at: Instant,
    liveness: Arc<Liveness>,
    _open: OpenSession,
}

impl Session {
    /// Records that Postgres has answered to the end.
    pub(super) fn record_answer(&mut self) {
        self.answered_at = Instant::now();
    }

    /// The settings that every transaction in it begins with.
    pub(super) fn settings(&self) -> &SessionSettings {
        &self.settings
    }

    /// Closes the connection without waiting for Postgres's answer.
    pub(super) fn give_up(&self) {
        self.liveness.suspect();
        self.driver.abort();
    }
}

impl Deref for Session {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.client
    }
}

/// Opens sessions, and checks whether they are still usable.
pub(super) struct Sessions {
    connect: Arc<Connect>,
    statement_timeout: Duration,
    reachability: Arc<Reachability>,
    liveness: Arc<Liveness>,
}

impl Manager for Sessions {
    type Type = Session;
    type Error = RepositoryError;

    async fn create(&self) -> Result<Session, RepositoryError> {
        let attempt = self.reachability.begin_attempt();
        let drive = |connection| (spawn_driver(connection), ());
        match self.connect.open(drive, session::READ_LIMITS).await {
            Ok((connected, (), read)) => Ok(Session {
                driver: connected.driver.abort_handle(),
                // The client's end ends the driver.
                client: ClientWrapper::new(connected.client, connected.driver.detach()),
                settings: SessionSettings::new(&read, self.statement_timeout),
                answered_at: Instant::now(),
                liveness: Arc::clone(&self.liveness),
                _open: attempt.succeed(),
            }),
            Err(error) => {
                attempt.fail(&error);
                Err(error)
            }
        }
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<RepositoryError> {
        let as_of = match self.liveness.verdict(session.answered_at) {
            _ if session.is_closed() => return Err(RecycleError::message("it is closed")),
            Verdict::Alive => return Ok(()),
            Verdict::Silent => return Err(RecycleError::message("it is silent")),
            Verdict::Suspect(as_of) => as_of,
        };
        let asked = session.simple_query("");
        match tokio::time::timeout(self.connect.limit(), asked).await {
            Ok(Ok(_)) => {
                session.record_answer();
                Ok(())
            }
            Ok(Err(error)) => Err(RecycleError::Backend(error.into())),
            Err(_) => {
                self.liveness.record_silence(as_of);
                Err(RecycleError::message("it is silent"))
            }
        }
    }
}
