//! Why a load fails, and why a request gets no entry.

use std::sync::Arc;
use std::time::Duration;

use crate::encode::EncodeError;
use crate::limiter::Exceeded;
use crate::observe::Fault;
use crate::repository::RepositoryError;

/// Why a load failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// Postgres did not return the rows.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The rows cannot be encoded as an answer.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// It got no slot in time.
    #[error("there are more loads than the repository can answer")]
    Overloaded,
    /// The load panicked: a bug in Larder.
    #[error("the load was lost")]
    Lost,
}

impl LoadError {
    /// Whether Postgres was unreachable, which the repository reports itself.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Repository(RepositoryError::Unavailable { .. }))
    }

    /// Whether Postgres cannot answer any query at the moment.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Repository(error) if error.is_outage())
    }

    /// Whether its arguments are to blame.
    pub fn is_of_arguments(&self) -> bool {
        matches!(
            self,
            Self::Repository(RepositoryError::ArgumentRefused { .. })
        )
    }

    /// Whether its session ended, as at a shutdown of Postgres.
    pub(super) fn is_session_ended(&self) -> bool {
        matches!(self, Self::Repository(RepositoryError::SessionEnded { .. }))
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Repository(error) => error.fault(),
            Self::Encode(EncodeError::TooLarge { .. } | EncodeError::MoreThanOneRow) => {
                Fault::Configuration
            }
            Self::Overloaded => Fault::Client,
            Self::Encode(EncodeError::Malformed { .. }) | Self::Lost => Fault::Ours,
        }
    }
}

/// Why there is nothing to serve.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The load failed, now or a moment ago.
    #[error("{error}")]
    Load {
        /// The cause.
        error: Arc<LoadError>,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// Postgres is unreachable, and the next attempt to connect is not due yet.
    #[error("the repository is unreachable")]
    Away {
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The load took longer than the endpoint's `timeout`.
    #[error("the load took longer than {0:?}")]
    TooSlow(Duration),
    /// Clients cause more loads than `max_loads_per_second` allows.
    #[error("too many loads")]
    TooManyLoads {
        /// How long until a load may begin.
        retry_after: Duration,
    },
    /// The caller has used up its share of loads.
    #[error("the caller causes too many loads")]
    CallerLimit(Exceeded),
    /// The endpoint has `on_miss = "refuse"`, and the key is not loaded.
    #[error("not loaded")]
    NotLoaded {
        /// How long until it is loaded next; zero where that is unknown.
        retry_in: Duration,
    },
}
