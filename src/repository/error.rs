//! What can go wrong between Larder and Postgres.

use std::time::Duration;

use tokio_postgres::error::{DbError, ErrorPosition, SqlState};

use crate::observe::{Fault, QueryOutcome};

/// Why there are no rows.
///
/// Texts are for the operator: they may name tables and hosts, and never reach a client. None holds
/// a password or an argument's value.
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
    #[error("{}", mistakes.join("; "))]
    Unusable {
        /// What is wrong, and the way out; at least one.
        mistakes: Vec<String>,
    },
    /// The statement's result has other columns than when it was described.
    #[error("the statement's columns changed since it was described")]
    Outdated,
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
            Self::Unavailable { .. } | Self::TimedOut { .. } | Self::Outdated => Fault::Repository,
            Self::ArgumentRefused { .. } => Fault::Client,
        }
    }

    /// Whether it may go away by itself, so that trying again later makes sense at start.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::TimedOut { .. } | Self::Outdated
        )
    }

    /// How the query ended, if one was sent.
    pub fn query_outcome(&self) -> Option<QueryOutcome> {
        match self {
            Self::Settings { .. } | Self::Unusable { .. } => None,
            Self::Unavailable { .. } => Some(QueryOutcome::Unavailable),
            Self::TimedOut { .. } => Some(QueryOutcome::Timeout),
            Self::TooManyRows { .. } => Some(QueryOutcome::TooLarge),
            Self::Refused { .. } | Self::ArgumentRefused { .. } | Self::Outdated => {
                Some(QueryOutcome::Refused)
            }
        }
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
        // it as feature_not_supported. 42 is what analysing a statement anew may find, but for
        // privileges, which describing does not mend.
        refusal.code == SqlState::INVALID_SQL_STATEMENT_NAME.code()
            || refusal.code == SqlState::FEATURE_NOT_SUPPORTED.code()
                && refusal.message.contains("cached plan")
            || refusal.code.starts_with("42")
                && refusal.code != SqlState::INSUFFICIENT_PRIVILEGE.code()
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
    // 08 connection exception, 53 insufficient resources, 57P01…57P05 shutting down or starting,
    // 58 system error, XX internal error; 25006 and 40001 come from a standby and pass as well.
    let passing = matches!(class, "08" | "53" | "58" | "57")
        || *code == SqlState::T_R_SERIALIZATION_FAILURE
        || *code == SqlState::T_R_DEADLOCK_DETECTED;
    if passing {
        return RepositoryError::Unavailable {
            cause: format!("{} ({})", error.message(), code.code()),
        };
    }
    RepositoryError::Refused {
        refusal: Refusal {
            code: code.code().to_owned(),
            message: error.message().to_owned(),
            detail: match (error.detail(), error.hint()) {
                (Some(detail), Some(hint)) => Some(format!("{detail}; {hint}")),
                (one, other) => one.or(other).map(str::to_owned),
            },
            position: match error.position() {
                Some(ErrorPosition::Original(position)) => Some(*position),
                Some(ErrorPosition::Internal { .. }) | None => None,
            },
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
