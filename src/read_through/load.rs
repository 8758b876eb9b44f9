//! One load: a turn, the description, the query, the encoding.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::flight::Landing;
use super::turns::{Class, Turn};
use super::{Cause, ReadThrough, UNPOISONED};
use crate::cache::{Answer, Entry, Key, Origin, Slot};
use crate::encode::{EncodeError, Encoder};
use crate::observe::{Event, Fault, Trigger};
use crate::plan::Endpoint;
use crate::repository::{Description, RepositoryError, Rows};

/// A load that has waited this long for its turn, and for which nobody waits any more, is dropped:
/// there are more loads than Postgres can answer, and others are waited for.
const ABANDONED_AFTER: Duration = Duration::from_secs(1);

/// Why a load made no entry.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// The rows did not come.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The rows make no answer.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Its turn did not come in time.
    #[error("more loads were asked for than the repository could answer")]
    Overloaded,
    /// The load's task ended without a word: a defect of Larder.
    #[error("the load was lost")]
    Lost,
}

impl LoadError {
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

impl ReadThrough {
    pub(super) async fn load(
        &self,
        key: &Key,
        cause: Cause,
        previous: Option<&Entry>,
        landing: &Landing,
        slot: Option<Arc<Slot>>,
    ) -> Result<Arc<Entry>, LoadError> {
        let endpoint = self.endpoint(key.endpoint());
        let _turn = self.turn(endpoint, cause, landing).await?;
        let description = match self.description(endpoint.id) {
            Some(description) => description,
            None => self.describe_now(endpoint).await?,
        };
        match self
            .query(endpoint, &description, key, previous, slot.clone())
            .await
        {
            Err(LoadError::Repository(RepositoryError::Outdated { refusal })) => {
                let renewed = self.describe_now(endpoint).await?;
                if !renewed.is_like(&description) {
                    let endpoint = endpoint.id;
                    let event = Event::StatementRedescribed { endpoint };
                    self.shared.observer.emit(&event);
                } else if let Some(refusal) = refusal {
                    // Nothing has changed: it is the query itself that Postgres refuses.
                    return Err(RepositoryError::Refused { refusal }.into());
                }
                self.query(endpoint, &renewed, key, previous, slot).await
            }
            loaded => loaded,
        }
    }

    async fn turn(
        &self,
        endpoint: &Endpoint,
        cause: Cause,
        landing: &Landing,
    ) -> Result<Turn<'_>, LoadError> {
        let turns = &self.shared.turns;
        let is_own = match cause {
            Cause::Client | Cause::Background(Trigger::Stale | Trigger::Ahead) => false,
            Cause::Background(
                Trigger::Schedule | Trigger::Warm | Trigger::Probe | Trigger::Notify,
            ) => true,
        };
        if is_own {
            return Ok(turns.take(Class::Schedules).await);
        }
        let asked = Instant::now();
        let turn = tokio::time::timeout(endpoint.timeout, turns.take(Class::Clients)).await;
        let is_abandoned = asked.elapsed() > ABANDONED_AFTER && !landing.is_awaited();
        turn.ok()
            .filter(|_| !is_abandoned)
            .ok_or(LoadError::Overloaded)
    }

    async fn query(
        &self,
        endpoint: &Endpoint,
        description: &Arc<Description>,
        key: &Key,
        previous: Option<&Entry>,
        slot: Option<Arc<Slot>>,
    ) -> Result<Arc<Entry>, LoadError> {
        let origin = Origin {
            began: Instant::now(),
            began_at: SystemTime::now(),
            generation: self.standing(endpoint.id).generation,
            slot,
        };
        let began = origin.began;
        // As of now: a schedule that comes while the query runs is not served by it.
        let due = *self.state(endpoint.id).due.lock().expect(UNPOISONED);
        let repository = &self.shared.repository;
        let rows = repository
            .fetch(endpoint, description, key.arguments())
            .await?;
        let answer = encode(endpoint, rows).await?;
        let until_refresh = due.map(|due| due.saturating_duration_since(began));
        let lifetime = endpoint.freshness.lifetime(until_refresh, endpoint.timeout);
        let entry = Entry::new(answer, origin, began.elapsed(), lifetime, previous);
        Ok(Arc::new(entry))
    }
}

async fn encode(endpoint: &Endpoint, mut rows: Rows) -> Result<Answer, LoadError> {
    let columns = Arc::clone(rows.columns());
    let mut encoder = Encoder::new(endpoint.shape, columns, endpoint.max_bytes);
    while let Some(row) = rows.next().await? {
        if let Err(error) = encoder.push(row.values()) {
            if matches!(error, EncodeError::TooLarge { .. }) {
                rows.abandon_as_too_large();
            }
            return Err(error.into());
        }
    }
    Ok(encoder.finish().map_or(Answer::NoRow, Answer::Body))
}
