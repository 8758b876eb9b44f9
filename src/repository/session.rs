//! What every load may rely on, whatever the database's or the role's settings are and whatever ran in the
//! session before: each runs in a read-only transaction of its own, with settings that end with it.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

/// No transaction is left open by Larder; if one ever is, it must not hold back vacuum for longer.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);

/// Since version 14 Postgres can look after the socket of a query that runs, and end the query when Larder
/// is gone.
const CHECK_CONNECTION: &str = "client_connection_check_interval";

/// The limits of a session as Postgres set them when it was opened, in milliseconds.
pub(super) const READ: &str = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN \
     ('statement_timeout', 'idle_in_transaction_session_timeout', 'client_connection_check_interval')";

/// How transactions begin in a session.
#[derive(Debug)]
pub(super) struct SessionSettings {
    begin: String,
    statement_timeout: Duration,
}

impl SessionSettings {
    /// From the session's answer to [`READ`]: where the database or the role sets a lower limit, that one
    /// holds.
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

    /// Begins a transaction. It may only read, as a seat belt: a role that may only read is the real one.
    /// Times, intervals, floats and bytes are written as the encoder and `to_json` agree on.
    pub(super) fn begin(&self) -> &str {
        &self.begin
    }

    /// Postgres ends a statement that runs for longer.
    pub(super) fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }
}

/// Ends a transaction, and with it every setting that a statement made in it, for the session too. What a
/// transaction does not take back is put right: advisory locks, and the seed of `random()`.
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
        // 0 is no limit.
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
