//! What cannot be served as declared, and why.

use crate::plan::{Mismatch, ProbeId, Subject};
use crate::repository::RepositoryError;

/// A part of the configuration that cannot be served as declared.
#[derive(Debug)]
pub struct Rejection {
    /// Which part.
    pub subject: Subject,
    /// Why.
    pub error: RepositoryError,
}

impl Rejection {
    /// A probe that failed. `larder check` runs it once, so a timeout is a mistake in the probe.
    pub(super) fn of_probe(probe: ProbeId, error: RepositoryError) -> Self {
        let error = if let RepositoryError::TimedOut { after } = error {
            unusable(format!(
                "the probe was cancelled after {after:?}; use a cheaper query, or run it less often"
            ))
        } else {
            error
        };
        Self {
            subject: Subject::Probe(probe),
            error,
        }
    }
}

/// A mistake in a statement or in what is declared with it.
pub(super) fn unusable(text: String) -> RepositoryError {
    RepositoryError::Unusable {
        mistakes: vec![Mismatch::of_statement(text)],
    }
}
