//! Whether the arguments are to blame when Postgres refuses a load. Nothing in the error itself distinguishes
//! a divisor of 0 that a client sent from one in a table. So other arguments decide: the arguments are to
//! blame if the statement does not fail in the same way with others. Those of the last successful load are
//! tried, or else plain ones, with NULL for a text where any text may be invalid.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::concurrency::LoadClass;
use super::{Cause, LoadError, ReadThrough, Source};
use crate::cache::{Answer, Key};
use crate::mutex::lock;
use crate::observe::Trigger;
use crate::plan::{Arguments, Endpoint, EndpointId};
use crate::repository::Refusal;
use crate::repository::RepositoryError;

/// How an endpoint's statement last ran with arguments that are known to be valid.
#[derive(Debug, Default)]
pub(super) struct RunRecord {
    runs: Mutex<Runs>,
    /// Held during a trial, so that concurrent failures share its result.
    trial: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Runs {
    /// The arguments of the last successful load.
    valid: Option<Arguments>,
    last: Option<Run>,
}

#[derive(Debug)]
struct Run {
    began: Instant,
    took: Duration,
    /// The SQLSTATE if it was refused.
    refused: Option<String>,
}

impl Runs {
    fn record(&mut self, began: Instant, refused: Option<String>) {
        let took = began.elapsed();
        self.last = Some(Run {
            began,
            took,
            refused,
        });
    }

    /// Whether the statement fails with this SQLSTATE for other arguments as well, if that is known. A result
    /// counts if it is not older than the failure, or for twice the time the run took, so that slow
    /// statements are not tried all the time.
    fn fails_anyway(&self, code: &str, since: Instant) -> Option<bool> {
        let last = self.last.as_ref();
        let last = last.filter(|run| run.began >= since || run.began.elapsed() < run.took * 2)?;
        Some(last.refused.as_deref() == Some(code))
    }
}

/// What a failure may be due to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspect {
    /// Only the statement and its data.
    Statement,
    /// The arguments as well.
    Arguments,
}

impl Suspect {
    /// The suspect of a load for this cause, whose arguments have been answered before or not.
    pub(super) fn of(cause: Cause, has_answered: bool) -> Self {
        // The configuration chose the keys to warm.
        if has_answered || matches!(cause, Cause::Background(Trigger::Warm)) {
            Self::Statement
        } else {
            Self::Arguments
        }
    }
}

impl<S: Source> ReadThrough<S> {
    /// Records that a load with these arguments succeeded.
    pub(super) fn record_valid_arguments(
        &self,
        endpoint: EndpointId,
        arguments: &Arguments,
        began: Instant,
    ) {
        if arguments.iter().len() > 0 {
            let mut runs = lock(&self.state(endpoint).runs.runs);
            runs.valid = Some(arguments.clone());
            runs.record(began, None);
        }
    }

    /// The error of a load that began then, once it is clear whether its arguments are to blame.
    pub(super) async fn attribute_failure(
        &self,
        key: &Key,
        suspect: Suspect,
        began: Instant,
        error: LoadError,
    ) -> LoadError {
        let LoadError::Repository(refused) = &error else {
            return error;
        };
        let Some(refusal) = refused.may_be_of_arguments() else {
            return error;
        };
        let endpoint = self.endpoint(key.endpoint());
        if suspect == Suspect::Statement || self.fails_anyway(endpoint, key, refusal, began).await {
            return error;
        }
        let refusal = refusal.clone();
        RepositoryError::ArgumentRefused { refusal }.into()
    }

    /// Whether the endpoint's statement is refused in the same way with arguments other than the key's.
    async fn fails_anyway(
        &self,
        endpoint: &Endpoint,
        key: &Key,
        refusal: &Refusal,
        since: Instant,
    ) -> bool {
        let mut others = self
            .planned
            .source
            .other_arguments(endpoint, key.arguments());
        if others.is_empty() {
            return true; // no client chose any of them
        }
        let record = &self.state(endpoint.id).runs;
        let runs = || lock(&record.runs);
        let _trial = record.trial.lock().await;
        // A statement may fail for one role and not for another. So only trials for the same caller count.
        let is_shared = !endpoint.depends_on_caller();
        let known = runs().fails_anyway(&refusal.code, since);
        if let Some(fails) = known.filter(|_| is_shared) {
            return fails;
        }
        match runs().valid.clone().filter(|_| is_shared) {
            Some(valid) if valid == *key.arguments() => return true,
            Some(valid) => others = vec![valid],
            // A statement that raises this itself may reject plain arguments, too.
            None if refusal.is_raised() => return false,
            None if refusal.is_arithmetic() => others.truncate(1),
            None => {}
        }
        for other in &others {
            if self
                .engine
                .rate_limit
                .take(LoadClass::ColdKey, Duration::ZERO)
                .is_err()
            {
                return false;
            }
            let began = Instant::now();
            let tried = self.planned.source.answer(endpoint, other).await;
            let Some(refused) = refused_with(tried) else {
                return false; // the trial failed for another reason
            };
            if refused.as_deref() != Some(refusal.code.as_str()) {
                runs().record(began, refused);
                return false;
            }
            runs().record(began, refused);
        }
        true
    }
}

/// The SQLSTATE of a refused load, or `None` for a successful one. Outside: `None` if the load failed in
/// another way.
fn refused_with(tried: Result<Answer, LoadError>) -> Option<Option<String>> {
    match tried {
        Ok(_) => Some(None),
        Err(LoadError::Repository(
            RepositoryError::Refused { refusal }
            | RepositoryError::Failed { refusal }
            | RepositoryError::ArgumentRefused { refusal },
        )) => Some(Some(refusal.code)),
        Err(_) => None,
    }
}
