//! One load: description, query, encoding.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::{Cause, ReadThrough, UNPOISONED};
use crate::cache::{Answer, Entry, Key};
use crate::encode::{EncodeError, Encoder};
use crate::observe::{Event, Fault};
use crate::plan::Endpoint;
use crate::repository::{Description, RepositoryError, Rows};

/// Why a load made no entry.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// The rows did not come.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The rows make no answer.
    #[error(transparent)]
    Encode(#[from] EncodeError),
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
    ) -> Result<Arc<Entry>, LoadError> {
        let endpoint = self.endpoint(key.endpoint());
        let _turn_among_refreshes = match cause {
            Cause::Background(_) => Some(self.shared.refreshes.acquire().await.expect(OPEN)),
            Cause::Client => None,
        };
        let _turn = self.shared.loads.acquire().await.expect(OPEN);

        let description = match self.description(endpoint.id) {
            Some(description) => description,
            None => self.describe(endpoint.id).await?,
        };
        match self.query(endpoint, &description, key, previous).await {
            Err(LoadError::Repository(RepositoryError::Outdated)) => {
                let description = self.describe(endpoint.id).await?;
                self.shared.observer.emit(&Event::StatementRedescribed {
                    endpoint: endpoint.id,
                });
                self.query(endpoint, &description, key, previous).await
            }
            loaded => loaded,
        }
    }

    async fn query(
        &self,
        endpoint: &Endpoint,
        description: &Arc<Description>,
        key: &Key,
        previous: Option<&Entry>,
    ) -> Result<Arc<Entry>, LoadError> {
        let (began, began_at) = (Instant::now(), SystemTime::now());
        let rows = self
            .shared
            .repository
            .fetch(endpoint, description, key.arguments())
            .await?;
        let answer = encode(endpoint, rows).await?;
        let due = *self.state(endpoint.id).due.lock().expect(UNPOISONED);
        let until_refresh = due.map(|due| due.saturating_duration_since(began));
        let lifetime = endpoint.freshness.lifetime(until_refresh, endpoint.timeout);
        let times = (began, began_at);
        Ok(Arc::new(Entry::new(
            answer,
            times,
            began.elapsed(),
            lifetime,
            previous,
        )))
    }
}

/// Why taking a turn can not fail.
const OPEN: &str = "the semaphores are never closed";

async fn encode(endpoint: &Endpoint, mut rows: Rows) -> Result<Answer, LoadError> {
    let columns = Arc::clone(rows.columns());
    let mut encoder = Encoder::new(endpoint.shape, columns, endpoint.max_bytes);
    while let Some(row) = rows.next().await? {
        encoder.push(row.values())?;
    }
    Ok(encoder.finish().map_or(Answer::NoRow, Answer::Body))
}
