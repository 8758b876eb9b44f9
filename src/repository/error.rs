//! What can go wrong between Larder and Postgres.

use std::time::Duration;

use tokio_postgres::error::{DbError, ErrorPosition, SqlState};

use crate::observe::{Fault, QueryOutcome};
use crate::plan::Mismatch;

/// Why there are no rows.
///
/// Texts are for the operator: they may name tables and hosts, and never reach a client. None holds
/// a password; those of a query hold no value.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RepositoryError {
    /// The URL, or a file it names, can not be used.
    #[error("the repository's url can not be used: {reason}")]
    Settings {
        /// What is wrong with it.
        reason: String,
    },
    /// Postgres could not be reached, or went away.
    #[error("postgres is not available: {cause}")]
    Unavailable {
        /// What happened.
        cause: String,
    },
    /// Postgres is there, and says to come later: it is short of something, or two sessions are in
    /// each other's way.
    #[error("postgres can not answer at the moment: {} ({})", refusal.message, refusal.code)]
    Busy {
        /// Its words.
        refusal: Refusal,
    },
    /// The query took longer than the endpoint's `timeout` or the session's `statement_timeout`.
    #[error("the query was cancelled after {after:?}")]
    TimedOut {
        /// The limit it passed.
        after: Duration,
    },
    /// The query returned more rows than the endpoint's `max_rows`.
    #[error("the query returned more than {max_rows} rows")]
    TooManyRows {
        /// The limit it passed.
        max_rows: u64,
    },
    /// Postgres answered with an error.
    #[error("{}", refusal.message)]
    Refused {
        /// Its words.
        refusal: Refusal,
    },
    /// Postgres could not read an argument as the parameter's type.
    #[error("postgres refused an argument: {}", refusal.message)]
    ArgumentRefused {
        /// Its words.
        refusal: Refusal,
    },
    /// The statement is sound, but can not be served as declared.
    #[error("{}", sentences(mistakes))]
    Unusable {
        /// What is wrong, and the way out; at least one.
        mistakes: Vec<Mismatch>,
    },
    /// The statement no longer is what was described.
    #[error("the statement no longer is what was described{}", refusal.as_ref().map(|r| format!(": {}", r.message)).unwrap_or_default())]
    Outdated {
        /// Postgres's words, if it was Postgres that noticed.
        refusal: Option<Refusal>,
    },
}

fn sentences(mistakes: &[Mismatch]) -> String {
    let sentences: Vec<&str> = mistakes.iter().map(|m| m.text.as_str()).collect();
    sentences.join("; ")
}

/// An error of Postgres's own.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The SQLSTATE, five characters.
    pub code: String,
    /// The primary message.
    pub message: String,
    /// The detail and the hint, where there are any.
    pub detail: Option<String>,
    /// Where in the statement as it was sent: characters, from 1.
    pub position: Option<u32>,
}

impl RepositoryError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Settings { .. }
            | Self::TooManyRows { .. }
            | Self::Refused { .. }
            | Self::Unusable { .. } => Fault::Configuration,
            Self::Unavailable { .. }
            | Self::Busy { .. }
            | Self::TimedOut { .. }
            | Self::Outdated { .. } => Fault::Repository,
            Self::ArgumentRefused { .. } => Fault::Client,
        }
    }

    /// Whether it may go away by itself, so that trying again later makes sense at start.
    pub fn is_passing(&self) -> bool {
        self.fault() == Fault::Repository
    }

    /// How a query that was sent ended.
    pub(super) fn query_outcome(&self) -> QueryOutcome {
        match self {
            Self::Unavailable { .. } => QueryOutcome::Unavailable,
            Self::TimedOut { .. } => QueryOutcome::Timeout,
            Self::TooManyRows { .. } => QueryOutcome::TooLarge,
            Self::Settings { .. }
            | Self::Unusable { .. }
            | Self::Busy { .. }
            | Self::Refused { .. }
            | Self::ArgumentRefused { .. }
            | Self::Outdated { .. } => QueryOutcome::Refused,
        }
    }

    /// The limit that was passed, where the error came without it: Postgres does not say.
    pub(super) fn after(self, timeout: Duration) -> Self {
        if matches!(self, Self::TimedOut { .. }) {
            Self::TimedOut { after: timeout }
        } else {
            self
        }
    }

    /// Without the values that Postgres quotes when it can not convert one (class 22): they may be a
    /// client's, or a customer's.
    pub(super) fn without_values(self) -> Self {
        self.or_refused(|mut refusal| {
            if refusal.code.starts_with("22")
                && let Some((before, _)) = refusal.message.split_once('"')
            {
                refusal.message = format!("{before}\"...\"");
                refusal.detail = None;
            }
            Self::Refused { refusal }
        })
    }

    /// Another error in the place of Postgres's own.
    pub(super) fn or_refused(self, other: impl FnOnce(Refusal) -> Self) -> Self {
        if let Self::Refused { refusal } = self {
            other(refusal)
        } else {
            self
        }
    }

    /// Whether Postgres said that a statement it once prepared no longer fits the tables, or is not
    /// there.
    pub(super) fn is_outdated(&self) -> bool {
        let Self::Refused { refusal } = self else {
            return false;
        };
        // "cached plan must not change result type" has no SQLSTATE of its own: plancache.c raises
        // it as feature_not_supported. 42 is what analysing a statement anew may find.
        refusal.code == SqlState::INVALID_SQL_STATEMENT_NAME.code()
            || refusal.code == SqlState::FEATURE_NOT_SUPPORTED.code()
                && refusal.message.contains("cached plan")
            || refusal.code.starts_with("42")
    }
}

impl From<tokio_postgres::Error> for RepositoryError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => from_postgres(db),
            None => Self::Unavailable {
                cause: chain(&error),
            },
        }
    }
}

/// Sorts Postgres's own errors by SQLSTATE: see its documentation, appendix A.
fn from_postgres(error: &DbError) -> RepositoryError {
    let code = error.code();
    let class = code.code().get(..2).unwrap_or_default();
    if *code == SqlState::QUERY_CANCELED {
        return RepositoryError::TimedOut {
            after: Duration::ZERO,
        };
    }
    let refusal = refusal(error);
    // 08 connection exception; 57P01 to 57P05 are shutting down, crashed, starting.
    if class == "08" || class == "57" {
        let cause = format!("{} ({})", refusal.message, refusal.code);
        return RepositoryError::Unavailable { cause };
    }
    // 53 insufficient resources, of which 53400 is a limit that was set on purpose; 58 system error;
    // XX internal error; a standby's and another session's conflicts, and `lock_timeout`.
    let limit = *code == SqlState::CONFIGURATION_LIMIT_EXCEEDED;
    let passing = matches!(class, "53" | "58" | "XX") && !limit
        || *code == SqlState::T_R_SERIALIZATION_FAILURE
        || *code == SqlState::T_R_DEADLOCK_DETECTED
        || *code == SqlState::LOCK_NOT_AVAILABLE;
    if passing {
        RepositoryError::Busy { refusal }
    } else {
        RepositoryError::Refused { refusal }
    }
}

fn refusal(error: &DbError) -> Refusal {
    Refusal {
        code: error.code().code().to_owned(),
        message: error.message().to_owned(),
        detail: match (error.detail(), error.hint()) {
            (Some(detail), Some(hint)) => Some(format!("{detail}; {hint}")),
            (one, other) => one.or(other).map(str::to_owned),
        },
        position: match error.position() {
            Some(ErrorPosition::Original(position)) => Some(*position),
            Some(ErrorPosition::Internal { .. }) | None => None,
        },
    }
}

/// An error with its causes, in one line. tokio-postgres keeps the interesting part in the source.
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
