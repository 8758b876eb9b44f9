//! Whose fault it is that Postgres refused a load with arguments. Nothing in the error itself tells a
//! divisor of 0 that a client sent from one in a table, before or after the first row, in any language.
//! So other arguments decide: an argument is to blame where the statement does not fail in the same way
//! without it. Those of the last load that succeeded are tried, or else plain ones, and NULL for a text where
//! any text may be a wrong one.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::concurrency::LoadClass;
use super::{Cause, LoadError, ReadThrough, Source};
use crate::cache::{Answer, Key};
use crate::lock::lock;
use crate::observe::Trigger;
use crate::plan::{Arguments, Endpoint, EndpointId};
use crate::repository::Refusal;
use crate::repository::RepositoryError;

/// What is known of an endpoint's statement, apart from any one client's arguments.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    known: Mutex<Known>,
    /// One trial at a time: the others wait for what it brings.
    trial: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// Those of the last load that succeeded.
    good: Option<Arguments>,
    /// How the statement fared last.
    fared: Option<Fared>,
}

#[derive(Debug)]
struct Fared {
    began: Instant,
    took: Duration,
    /// The SQLSTATE with which it was refused; none where it was not.
    refused: Option<String>,
}

impl Known {
    fn note(&mut self, began: Instant, refused: Option<String>) {
        let took = began.elapsed();
        self.fared = Some(Fared {
            began,
            took,
            refused,
        });
    }

    /// Whether the statement fails like this with other arguments, as far as that is known: of no earlier
    /// moment than the failure's, or for as long as it takes to find out, so that slow statements are not
    /// tried all the time.
    fn fails_anyway(&self, code: &str, since: Instant) -> Option<bool> {
        let fared = self.fared.as_ref();
        let fared = fared.filter(|it| it.began >= since || it.began.elapsed() < it.took * 2)?;
        Some(fared.refused.as_deref() == Some(code))
    }
}

/// What a failure may be due to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspects {
    /// The statement and its data alone.
    Statement,
    /// The arguments as well.
    Arguments,
}

impl Suspects {
    /// Of a load for this cause, with arguments that have been answered before or not.
    pub(super) fn of(cause: Cause, has_answered: bool) -> Self {
        // The configuration names the keys that are warmed.
        if has_answered || matches!(cause, Cause::Background(Trigger::Warm)) {
            Self::Statement
        } else {
            Self::Arguments
        }
    }
}

impl<S: Source> ReadThrough<S> {
    /// A load with these arguments has succeeded, which began then.
    pub(super) fn record_arguments_that_work(
        &self,
        endpoint: EndpointId,
        arguments: &Arguments,
        began: Instant,
    ) {
        if arguments.iter().len() > 0 {
            let mut known = lock(&self.state(endpoint).evidence.known);
            known.good = Some(arguments.clone());
            known.note(began, None);
        }
    }

    /// Why a load that began then failed, once it is known whether its arguments are to blame: they are not
    /// where they have been answered before, or where it is the configuration that names them.
    pub(super) async fn attribute_failure(
        &self,
        key: &Key,
        suspects: Suspects,
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
        let is_cleared = suspects == Suspects::Statement;
        if is_cleared || self.fails_anyway(endpoint, key, refusal, began).await {
            return error;
        }
        let refusal = refusal.clone();
        RepositoryError::ArgumentRefused { refusal }.into()
    }

    /// Whether the endpoint's statement is refused in the same way with arguments that are not the key's.
    async fn fails_anyway(
        &self,
        endpoint: &Endpoint,
        key: &Key,
        refusal: &Refusal,
        since: Instant,
    ) -> bool {
        let mut others = self.shared.source.others(endpoint, key.arguments());
        if others.is_empty() {
            return true; // no client has a part in it
        }
        let evidence = &self.state(endpoint.id).evidence;
        let known = || lock(&evidence.known);
        let _trial = evidence.trial.lock().await;
        if let Some(fails) = known().fails_anyway(&refusal.code, since) {
            return fails;
        }
        match known().good.clone() {
            Some(good) if good == *key.arguments() => return true,
            Some(good) => others = vec![good],
            // What somebody has written a RAISE for may well refuse plain arguments too.
            None if refusal.is_raised() => return false,
            None if refusal.is_arithmetic() => others.truncate(1),
            None => {}
        }
        for other in &others {
            if self
                .shared
                .rate_limit
                .take(LoadClass::ColdKey, Duration::ZERO)
                .is_err()
            {
                return false;
            }
            let began = Instant::now();
            let tried = self.shared.source.answer(endpoint, other).await;
            let Some(refused) = refused_with(tried) else {
                return false; // nothing is known, and nothing of it is kept
            };
            if refused.as_deref() != Some(refusal.code.as_str()) {
                known().note(began, refused);
                return false;
            }
            known().note(began, refused);
        }
        true
    }
}

/// The SQLSTATE with which a load was refused, or that it was not; nothing where that is not known.
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
