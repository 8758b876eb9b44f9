//! What can go wrong between Larder and Postgres.

use std::time::Duration;

use tokio_postgres::error::{DbError, Severity, SqlState};

use super::disclosure::Disclosure;
use super::refusal::Refusal;
use super::sqlstate::INTERRUPTS;
use crate::observe::{Fault, QueryOutcome};
use crate::plan::{Mismatch, run_as::quoted};

/// Why there are no rows.
///
/// The texts are for the operator: they may name tables and hosts, and never reach a client. None contains
/// a password; those about a query contain no argument.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RepositoryError {
    /// The URL, or a file it names, cannot be used.
    #[error("the repository's {key} cannot be used: {reason}")]
    Settings {
        /// The key of `[repository]` with the URL.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Postgres could not be reached, or the connection was lost.
    #[error("Postgres is not available: {cause}")]
    Unavailable {
        /// What happened.
        cause: String,
    },
    /// Postgres is reachable but cannot answer now: it lacks a resource, or two sessions conflict.
    #[error("Postgres cannot answer at the moment: {}", refusal.with_code())]
    Busy {
        /// Postgres's error.
        refusal: Refusal,
    },
    /// The query took longer than the endpoint's `timeout` or the session's `statement_timeout`.
    #[error("the query was cancelled after {after:?}")]
    TimedOut {
        /// The limit it exceeded.
        after: Duration,
    },
    /// Someone else cancelled the query before it exceeded a limit.
    #[error("someone else cancelled the query after {after:?}: {cause}")]
    Cancelled {
        /// How long it had run.
        after: Duration,
        /// Postgres's message.
        cause: String,
    },
    /// The session ended while the query ran in it.
    #[error("the session ended {after:?} into the query: {cause}")]
    SessionEnded {
        /// How long it had run.
        after: Duration,
        /// What happened.
        cause: String,
    },
    /// The query returned more rows than the endpoint's `max_rows`.
    #[error("the query returned more than {max_rows} rows")]
    TooManyRows {
        /// The limit it exceeded.
        max_rows: u64,
    },
    /// Postgres answered with an error.
    #[error("{}", refusal.message)]
    Refused {
        /// Postgres's error.
        refusal: Refusal,
    },
    /// Something that the query needs failed though Postgres is reachable, such as a foreign server or a file.
    #[error("the query failed: {}", refusal.with_code())]
    Failed {
        /// Postgres's error.
        refusal: Refusal,
    },
    /// The query fails because of an argument: Postgres cannot read it as the parameter's type, or the
    /// statement does not fail in this way with other arguments.
    #[error("Postgres refused an argument: {}", refusal.message)]
    ArgumentRefused {
        /// Postgres's error.
        refusal: Refusal,
    },
    /// Postgres does not let the session become the role of `run_as`, or refuses one of its settings.
    #[error("{}", role_refused(role, refusal))]
    RoleRefused {
        /// The role.
        role: Box<str>,
        /// Postgres's error.
        refusal: Refusal,
    },
    /// The statement is valid, but cannot be served as declared.
    #[error("{}", sentences(mistakes))]
    Unusable {
        /// What is wrong and how to fix it; at least one.
        mistakes: Vec<Mismatch>,
    },
    /// The statement is no longer what was described.
    #[error("the statement is no longer what was described{}", refusal.as_ref().map(|r| format!(": {}", r.message)).unwrap_or_default())]
    Outdated {
        /// Postgres's error, if Postgres noticed.
        refusal: Option<Refusal>,
    },
}

fn sentences(mistakes: &[Mismatch]) -> String {
    let sentences: Vec<&str> = mistakes.iter().map(|m| m.text.as_str()).collect();
    sentences.join("; ")
}

/// The way out depends on which of the two Postgres refuses: insufficient_privilege, or a role that does not exist.
fn role_refused(role: &str, refusal: &Refusal) -> String {
    let name = quoted(role);
    let way_out = match refusal.code.as_str() {
        "42501" => format!("GRANT {name} TO the role of the `url` of [repository]"),
        _ => format!("create the role {name}, or correct `run_as`"),
    };
    let message = refusal.with_code();
    format!("Postgres refuses `run_as` with the role {name}: {message}; {way_out}")
}

impl RepositoryError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Settings { .. }
            | Self::TooManyRows { .. }
            | Self::Refused { .. }
            | Self::RoleRefused { .. }
            | Self::Unusable { .. } => Fault::Configuration,
            Self::Unavailable { .. }
            | Self::Busy { .. }
            | Self::TimedOut { .. }
            | Self::Cancelled { .. }
            | Self::SessionEnded { .. }
            | Self::Failed { .. }
            | Self::Outdated { .. } => Fault::Repository,
            Self::ArgumentRefused { .. } => Fault::Client,
        }
    }

    /// Whether the cause may go away by itself, so that a retry makes sense.
    pub fn is_passing(&self) -> bool {
        self.fault() == Fault::Repository
    }

    /// Whether Postgres cannot answer any query at the moment.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Busy { .. })
    }

    /// How a query that was sent ended.
    pub(super) fn query_outcome(&self) -> QueryOutcome {
        match self {
            Self::Unavailable { .. } | Self::SessionEnded { .. } => QueryOutcome::Unavailable,
            Self::TimedOut { .. } => QueryOutcome::Timeout,
            Self::TooManyRows { .. } => QueryOutcome::TooLarge,
            Self::Settings { .. }
            | Self::Unusable { .. }
            | Self::Busy { .. }
            | Self::Cancelled { .. }
            | Self::Refused { .. }
            | Self::RoleRefused { .. }
            | Self::Failed { .. }
            | Self::ArgumentRefused { .. }
            | Self::Outdated { .. } => QueryOutcome::Refused,
        }
    }

    /// Tells a timeout from a cancellation, for a query that has run for `took`. Postgres reports both in the
    /// same way; `limit` is the `statement_timeout` in force.
    pub(super) fn after(self, took: Duration, limit: Duration) -> Self {
        let Self::Cancelled { cause, .. } = self else {
            return self;
        };
        if took >= limit {
            Self::TimedOut { after: limit }
        } else {
            Self::Cancelled { after: took, cause }
        }
    }

    /// The error of a query that was sent in a live session: if the session was lost, the query may be the
    /// cause.
    pub(super) fn while_running(self, took: Duration) -> Self {
        if let Self::Unavailable { cause } = self {
            Self::SessionEnded { after: took, cause }
        } else {
            self
        }
    }

    /// Replaces [`Refused`](Self::Refused) by another error.
    pub(super) fn or_refused(self, other: impl FnOnce(Refusal) -> Self) -> Self {
        if let Self::Refused { refusal } = self {
            other(refusal)
        } else {
            self
        }
    }

    /// The error of a statement that could be prepared before.
    pub(super) fn or_outdated(self) -> Self {
        if let Self::Refused { refusal } | Self::Failed { refusal } = self {
            let refusal = Some(refusal);
            Self::Outdated { refusal }
        } else {
            self
        }
    }

    /// Whether a prepared statement may be refused only because it is old, so that preparing it again may
    /// help. 26000: it no longer exists. 0A000: its result has changed (plancache.c has no SQLSTATE of its own
    /// for that). Class 42: analysing it again failed. XX: a type or relation it was prepared with is gone.
    pub(super) fn is_outdated(&self) -> bool {
        let (Self::Refused { refusal } | Self::Failed { refusal }) = self else {
            return false;
        };
        refusal.code == SqlState::INVALID_SQL_STATEMENT_NAME.code()
            || refusal.code == SqlState::FEATURE_NOT_SUPPORTED.code()
            || matches!(refusal.class(), "42" | "XX")
    }

    /// Postgres's error, if arguments may have caused it. They never cause a write in a read-only transaction
    /// (class 25) or a failure of something behind the query. But functions report bad arguments with XX000
    /// too, the default of `elog`.
    pub fn may_be_of_arguments(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal } => (refusal.class() != "25").then_some(refusal),
            Self::Failed { refusal } => (refusal.class() == "XX").then_some(refusal),
            Self::Settings { .. }
            | Self::Unavailable { .. }
            | Self::Busy { .. }
            | Self::TimedOut { .. }
            | Self::Cancelled { .. }
            | Self::SessionEnded { .. }
            | Self::TooManyRows { .. }
            | Self::ArgumentRefused { .. }
            | Self::RoleRefused { .. }
            | Self::Unusable { .. }
            | Self::Outdated { .. } => None,
        }
    }

    /// Classifies an error that was raised in a running session.
    pub(crate) fn of(refusal: Refusal) -> Self {
        // Insufficient resources, except 53400, a limit set on purpose; conflicts with recovery on a standby or
        // with another session; and `lock_timeout`.
        let is_passing = match refusal.code.as_str() {
            "53400" => false,
            "40001" | "40P01" | "55P03" => true,
            _ => refusal.class() == "53",
        };
        if is_passing {
            return Self::Busy { refusal };
        }
        // Connections that the query itself makes, a foreign server that cancels or shuts down, system errors,
        // foreign data wrappers, internal errors.
        if matches!(refusal.class(), "08" | "57" | "58" | "HV" | "XX") {
            Self::Failed { refusal }
        } else {
            Self::Refused { refusal }
        }
    }

    /// Classifies an error of an open session. The session is lost if Postgres ends it or stops answering. Any
    /// other error is the query's, whatever its SQLSTATE.
    pub(super) fn of_session(error: &tokio_postgres::Error, disclosure: Disclosure) -> Self {
        let Some(db) = error.as_db_error() else {
            let cause = chain(error);
            return Self::Unavailable { cause };
        };
        let refusal = disclosure.apply(Refusal::new(db));
        if is_fatal(db) {
            let cause = refusal.with_code();
            return Self::Unavailable { cause };
        }
        // A cancellation by a foreign server is passed on by another function.
        let is_ours = db.routine().is_none_or(|routine| routine == INTERRUPTS);
        if *db.code() == SqlState::QUERY_CANCELED && is_ours {
            let (after, cause) = (Duration::ZERO, refusal.with_code());
            return Self::Cancelled { after, cause };
        }
        Self::of(refusal)
    }

    /// Classifies an error from connecting, where every error is fatal.
    pub(super) fn of_connecting(error: &tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            let cause = chain(error);
            return Self::Unavailable { cause };
        };
        let sorted = Self::of(Refusal::new(db));
        if let Self::Failed { refusal } = &sorted {
            let cause = refusal.with_code();
            Self::Unavailable { cause }
        } else {
            sorted
        }
    }
}

impl From<tokio_postgres::Error> for RepositoryError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::of_session(&error, Disclosure::Full)
    }
}

/// Whether Postgres ends the session with this error. Postgres before 9.6 only sends the translated severity.
fn is_fatal(error: &DbError) -> bool {
    match error.parsed_severity() {
        Some(severity) => matches!(severity, Severity::Fatal | Severity::Panic),
        None => matches!(error.severity(), "FATAL" | "PANIC"),
    }
}

/// An error with its causes, in one line. tokio-postgres has the interesting part in the source.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str) -> Refusal {
        Refusal {
            code: code.to_owned(),
            message: String::new(),
            detail: None,
            routine: None,
            position: None,
        }
    }

    #[test]
    fn an_error_inside_a_query_is_never_that_of_the_session() {
        for (code, fault, may_be_of_arguments) in [
            ("08001", Fault::Repository, false), // postgres_fdw's server is down
            ("08003", Fault::Repository, false), // dblink's connection is not there
            ("57P01", Fault::Repository, false), // a foreign server shuts down
            ("57014", Fault::Repository, false), // and cancels
            ("58P01", Fault::Repository, false), // file_fdw's file is not there
            ("HV00N", Fault::Repository, false),
            ("XX000", Fault::Repository, true), // elog(ERROR), of an argument for all anyone knows
            ("40001", Fault::Repository, false),
            ("55P03", Fault::Repository, false),
            ("53200", Fault::Repository, false),
            ("53400", Fault::Configuration, true), // temp_file_limit
            ("22012", Fault::Configuration, true),
            ("42704", Fault::Configuration, true),
            ("P0001", Fault::Configuration, true),
            ("25006", Fault::Configuration, false), // a function writes
        ] {
            let error = RepositoryError::of(refusal(code));
            assert_eq!(error.fault(), fault, "{code}");
            let may = error.may_be_of_arguments().is_some();
            assert_eq!(may, may_be_of_arguments, "{code}");
            assert!(
                !matches!(error, RepositoryError::Unavailable { .. }),
                "{code}"
            );
        }
    }

    #[test]
    fn what_is_cancelled_has_timed_out_only_after_its_time() {
        let (soon, limit) = (Duration::from_secs(1), Duration::from_secs(30));
        let cancelled = || RepositoryError::Cancelled {
            after: Duration::ZERO,
            cause: String::new(),
        };
        let after = |took| cancelled().after(took, limit);
        assert!(matches!(after(soon), RepositoryError::Cancelled { after, .. } if after == soon));
        assert!(matches!(after(limit), RepositoryError::TimedOut { after } if after == limit));
    }
}
