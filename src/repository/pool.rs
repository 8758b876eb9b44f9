//! Connections, their session settings, and when to try again.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use deadpool_postgres::{
    Connect, Manager, ManagerConfig, Object, PoolError, RecyclingMethod, Runtime, TimeoutType,
    Timeouts,
};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};

use super::RepositoryError;
use super::tls::{self, Connector};
use super::url::Target;
use crate::observe::{Event, Observer};
use crate::plan::RepositorySettings;

/// Waits between attempts to connect: doubled from the first to the last, each shortened by up to a
/// half at random, so that several Larders do not knock in step. Five seconds is about what a restart
/// of Postgres takes; longer waits would only keep answers old.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often sessions are looked at that may come free while none can be opened.
const SESSION_POLL: Duration = Duration::from_millis(20);

/// What a connection speaks through.
type TlsStream = <Connector as MakeTlsConnect<Socket>>::Stream;

/// At most `max_connections` sessions.
pub(super) struct Pool {
    pool: deadpool_postgres::Pool,
    config: Config,
    connect_timeout: Duration,
    /// Where it connects to, for the operator.
    place: String,
    /// Whether TLS is demanded without the url saying so.
    tls_is_default: bool,
    tls: Connector,
    way: Arc<Way>,
}

impl Pool {
    pub(super) fn new(
        settings: &RepositorySettings,
        observer: Observer,
    ) -> Result<Self, RepositoryError> {
        let target = Target::parse(settings.url.expose())?;
        let tls = tls::connector(&target.trust)?;
        let place = target.place();
        let way = Arc::new(Way {
            gate: Mutex::default(),
            observer,
        });
        let connect = OpenSession {
            tls: tls.clone(),
            session: session(settings.statement_timeout),
            way: Arc::clone(&way),
        };
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_connect(target.config.clone(), connect, recycling);
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(settings.max_connections)
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a pool with a runtime can be built");
        Ok(Self {
            pool,
            config: target.config,
            connect_timeout: target.connect_timeout,
            place,
            tls_is_default: target.tls_is_default,
            tls,
            way,
        })
    }

    /// A session for one query, waited for no longer than `wait` while all are in use.
    ///
    /// While attempts to connect have failed and the next is not yet due, none is made: that is what
    /// keeps a dead Postgres from being hammered. It fails at once then, unless there are sessions
    /// that can be waited for.
    pub(super) async fn get(&self, wait: Duration) -> Result<Object, RepositoryError> {
        let deadline = Instant::now() + wait;
        loop {
            self.may_connect(deadline).await?;
            let limits = Timeouts {
                wait: Some(deadline.saturating_duration_since(Instant::now())),
                create: Some(self.connect_timeout),
                recycle: Some(self.connect_timeout),
            };
            let session = self.pool.timeout_get(&limits).await;
            let error = match session.map_err(|error| self.failed(error, wait)) {
                Ok(session) => return Ok(session),
                Err(error) => error,
            };
            // Postgres has no room for another session: one of those there are will do.
            let can_be_shared = matches!(error, RepositoryError::Busy { .. })
                && self.pool.status().size > 0
                && Instant::now() < deadline;
            if !can_be_shared {
                return Err(error);
            }
        }
    }

    /// Waits until a session may be had or opened.
    async fn may_connect(&self, deadline: Instant) -> Result<(), RepositoryError> {
        while let Some((cause, next)) = self.must_not_connect() {
            let until = deadline.min(next).min(Instant::now() + SESSION_POLL);
            if self.pool.status().size == 0 || Instant::now() >= deadline {
                return Err(RepositoryError::Unavailable { cause });
            }
            tokio::time::sleep_until(until).await;
        }
        Ok(())
    }

    /// Why a new session may not be opened now, and when one may, if one would have to be.
    fn must_not_connect(&self) -> Option<(String, Instant)> {
        let status = self.pool.status();
        if status.available > 0 || status.size == status.max_size {
            return None;
        }
        self.way.gate().closed(Instant::now())
    }

    /// A connection beside the pool's, for `LISTEN`, with the pool's patience.
    pub(super) async fn connect(
        &self,
    ) -> Result<(Client, Connection<Socket, TlsStream>), RepositoryError> {
        let connecting = self.config.connect(self.tls.clone());
        match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(error)) => Err(refused_entry(error, &self.place, self.tls_is_default)),
            Err(_) => Err(RepositoryError::Unavailable {
                cause: format!(
                    "connecting to {} took longer than {:?}",
                    self.place, self.connect_timeout
                ),
            }),
        }
    }

    fn failed(&self, error: PoolError, waited: Duration) -> RepositoryError {
        let place = &self.place;
        let error = match error {
            PoolError::Timeout(TimeoutType::Wait) => {
                return RepositoryError::TimedOut { after: waited };
            }
            PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle) => {
                let limit = self.connect_timeout;
                RepositoryError::Unavailable {
                    cause: format!("connecting to {place} took longer than {limit:?}"),
                }
            }
            PoolError::Backend(error) => refused_entry(error, place, self.tls_is_default),
            PoolError::Closed => RepositoryError::Unavailable {
                cause: "the pool is closed".to_owned(),
            },
            PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                RepositoryError::Unavailable {
                    cause: error.to_string(),
                }
            }
        };
        self.way.lost(&error, self.pool.status().size == 0);
        error
    }

    /// How long until the next attempt to connect is allowed; zero while there are sessions.
    pub(super) fn retry_in(&self) -> Duration {
        if self.pool.status().size > 0 {
            return Duration::ZERO;
        }
        let next = self.way.gate().next;
        next.map_or(Duration::ZERO, |next| {
            next.saturating_duration_since(Instant::now())
        })
    }

    /// Idle and active sessions.
    pub(super) fn connections(&self) -> (u64, u64) {
        let status = self.pool.status();
        let active = status.size.saturating_sub(status.available);
        (status.available as u64, active as u64)
    }

    pub(super) fn tls(&self) -> Connector {
        self.tls.clone()
    }

    pub(super) fn observer(&self) -> &Observer {
        &self.way.observer
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("status", &self.pool.status())
            .finish_non_exhaustive()
    }
}

/// The way to Postgres: whether it is open, and who wants to know.
struct Way {
    gate: Mutex<Gate>,
    observer: Observer,
}

impl Way {
    fn reached(&self) {
        let news = self.gate().open();
        if news {
            self.observer.emit(&Event::RepositoryReached);
        }
    }

    /// Notes a failed attempt. While there are other sessions, Postgres is not lost by it.
    fn lost(&self, error: &RepositoryError, is_last: bool) {
        let cause = if let RepositoryError::Unavailable { cause } = error {
            cause.clone()
        } else {
            error.to_string()
        };
        let mut gate = self.gate();
        gate.close(&cause, Instant::now());
        let news = is_last && gate.reached.replace(false) != Some(false);
        drop(gate);
        if news {
            self.observer.emit(&Event::RepositoryLost { cause });
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate
            .lock()
            .expect("nothing panics while it holds the gate")
    }
}

/// An error while connecting. What Postgres refuses by name (a role, a password, a database) is a
/// mistake in the url; everything else may pass.
fn refused_entry(
    error: tokio_postgres::Error,
    place: &str,
    tls_is_default: bool,
) -> RepositoryError {
    let text = super::error::chain(&error);
    // tokio-postgres's words: what they are about is private to it.
    if text.starts_with("invalid configuration") {
        return RepositoryError::Settings { reason: text };
    }
    if tls_is_default && text.contains("server does not support TLS") {
        let reason = format!(
            "the server at {place} does not speak TLS, which is asked of every server on another \
             machine unless the url says otherwise; sslmode=disable talks in the clear"
        );
        return RepositoryError::Settings { reason };
    }
    let error = RepositoryError::from(error).or_refused(|refusal| RepositoryError::Settings {
        reason: refusal.message,
    });
    if let RepositoryError::Unavailable { cause } = error {
        RepositoryError::Unavailable {
            cause: format!("{place}: {cause}"),
        }
    } else {
        error
    }
}

/// Whether connecting is worth trying.
#[derive(Debug, Default)]
struct Gate {
    /// `None` until the first attempt ended.
    reached: Option<bool>,
    failures: u32,
    next: Option<Instant>,
    cause: String,
}

impl Gate {
    fn closed(&self, now: Instant) -> Option<(String, Instant)> {
        let next = self.next.filter(|next| now < *next)?;
        Some((self.cause.clone(), next))
    }

    /// Whether that is news.
    fn open(&mut self) -> bool {
        self.failures = 0;
        self.next = None;
        self.reached.replace(true) != Some(true)
    }

    fn close(&mut self, cause: &str, now: Instant) {
        // Attempts that were under way together count as one.
        if self.next.is_none_or(|next| next <= now) {
            self.next = Some(now + backoff(self.failures));
            self.failures = self.failures.saturating_add(1);
        }
        cause.clone_into(&mut self.cause);
    }
}

fn backoff(failures: u32) -> Duration {
    let (first, last) = BACKOFF;
    let whole = first
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(last);
    whole.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
}

/// Opens a session and sets what every query may rely on.
struct OpenSession {
    tls: Connector,
    session: String,
    way: Arc<Way>,
}

impl Connect for OpenSession {
    fn connect(
        &self,
        config: &Config,
    ) -> Pin<
        Box<
            dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>>
                + Send
                + '_,
        >,
    > {
        let config = config.clone();
        Box::pin(async move {
            let (client, connection) = config.connect(self.tls.clone()).await?;
            // Its error is seen by the query that needed the connection, or by the next one.
            let task = tokio::spawn(async move { drop(connection.await) });
            client.batch_execute(&self.session).await?;
            self.way.reached();
            Ok((client, task))
        })
    }
}

/// The session's settings: read-only as a seat belt (a role that may only read is the real one), and
/// the formats `to_json` and the encoder agree on, whatever the database's or role's defaults are.
fn session(statement_timeout: Duration) -> String {
    let statement_timeout = statement_timeout.as_millis();
    // No transaction is left open by Larder; if one ever is, it must not hold back vacuum.
    let idle_in_transaction = 10_000;
    // Since version 14 Postgres can look after the socket of a query that runs, and end the query
    // when Larder is gone.
    let check_connection = "SELECT set_config(name, '2s', false) FROM pg_settings \
         WHERE name = 'client_connection_check_interval'";
    format!(
        "SET default_transaction_read_only = on; \
         SET statement_timeout = {statement_timeout}; \
         SET idle_in_transaction_session_timeout = {idle_in_transaction}; \
         SET TimeZone = 'UTC'; \
         SET DateStyle = 'ISO, MDY'; \
         SET IntervalStyle = 'postgres'; \
         SET extra_float_digits = 1; \
         SET bytea_output = 'hex'; \
         SET standard_conforming_strings = on; \
         {check_connection}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn attempts_to_connect_are_spaced_and_the_wait_is_capped() {
        let mut gate = Gate::default();
        assert_eq!(gate.closed(Instant::now()), None);
        for _ in 0..20 {
            gate.close("refused", Instant::now());
            let (cause, next) = gate.closed(Instant::now()).unwrap();
            assert_eq!(cause, "refused");
            let wait = next - Instant::now();
            assert!(wait >= BACKOFF.0 / 2 && wait <= BACKOFF.1, "{wait:?}");
            tokio::time::advance(wait).await;
            assert_eq!(gate.closed(Instant::now()), None, "an attempt is due");
        }
        assert!(gate.open() && !gate.open(), "it is reached once");
        assert_eq!(gate.failures, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_one_moment_count_as_one() {
        let mut gate = Gate::default();
        for _ in 0..100 {
            gate.close("refused", Instant::now());
        }
        assert_eq!(gate.failures, 1);
    }
}
