//! The settings that every load can rely on, whatever those of the database or the role are and whatever ran
//! in the session before. Each load runs in its own read-only transaction, with settings that end with it.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

/// Larder leaves no transaction open. If it ever does, the transaction must not hold back vacuum for longer.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);

/// Since version 14, Postgres can check the socket of a running query, and cancels the query if Larder is gone.
const CHECK_CONNECTION: &str = "client_connection_check_interval";

/// Reads the limits that a new session has, in milliseconds.
pub(super) const READ_LIMITS: &str = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN \
     ('statement_timeout', 'idle_in_transaction_session_timeout', 'client_connection_check_interval')";

/// How transactions begin in a session.
#[derive(Debug)]
pub(super) struct SessionSettings {
    begin: String,
    statement_timeout: Duration,
}

impl SessionSettings {
    /// The settings for a session that answered [`READ_LIMITS`] with `read`. A lower limit of the database or
    /// the role is kept.
    pub(super) fn new(read: &[SimpleQueryMessage], statement_timeout: Duration) -> Self {
        let mut own = Limits::default();
        for message in read {
            if let SimpleQueryMessage::Row(row) = message {
                own.read(row.get(0), row.get(1));
            }
        }
        let statement_timeout = lower(own.statement, statement_timeout);
        let idle_in_transaction = lower(own.idle_in_transaction, IDLE_IN_TRANSACTION);
        let mut begin = format!(
            "BEGIN READ ONLY; \
             SET LOCAL statement_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {}; \
             SET LOCAL TimeZone = 'UTC'; \
             SET LOCAL DateStyle = 'ISO, MDY'; \
             SET LOCAL IntervalStyle = 'postgres'; \
             SET LOCAL extra_float_digits = 1; \
             SET LOCAL bytea_output = 'hex'; \
             SET LOCAL standard_conforming_strings = on",
            statement_timeout.as_millis(),
            idle_in_transaction.as_millis()
        );
        if own.checks_connection {
            begin.push_str("; SET LOCAL client_connection_check_interval = '2s'");
        }
        Self {
            begin,
            statement_timeout,
        }
    }

    /// The SQL that begins a transaction. It is read-only as a second line of defence; the first is a role
    /// that may only read. Times, intervals, floats and bytes get the formats that the encoder and `to_json`
    /// agree on.
    pub(super) fn begin(&self) -> &str {
        &self.begin
    }

    /// Postgres cancels a statement that runs for longer.
    pub(super) fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }
}

/// The SQL that ends a transaction, which also reverts every setting that a statement changed, even for the
/// session. Then it resets what a rollback does not: advisory locks, and the seed of `random()`.
pub(super) fn end() -> String {
    let seed = fastrand::f64();
    format!("ROLLBACK; SELECT pg_catalog.pg_advisory_unlock_all(), pg_catalog.setseed({seed})")
}

#[derive(Debug, Default)]
struct Limits {
    statement: Option<Duration>,
    idle_in_transaction: Option<Duration>,
    checks_connection: bool,
}

impl Limits {
    fn read(&mut self, name: Option<&str>, setting: Option<&str>) {
        let milliseconds = setting.and_then(|setting| setting.parse().ok());
        // 0 means no limit.
        let limit = milliseconds
            .filter(|limit| *limit > 0)
            .map(Duration::from_millis);
        match name {
            Some("statement_timeout") => self.statement = limit,
            Some("idle_in_transaction_session_timeout") => self.idle_in_transaction = limit,
            Some(CHECK_CONNECTION) => self.checks_connection = true,
            _ => {}
        }
    }
}

fn lower(own: Option<Duration>, limit: Duration) -> Duration {
    own.map_or(limit, |own| own.min(limit))
}
