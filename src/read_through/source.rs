//! Where answers come from.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::{LoadError, ReadThrough, statement_key};
use crate::cache::Answer;
use crate::encode::{Document, EncodeError, Encoder};
use crate::observe::{Event, Observer};
use crate::plan::{Arguments, Endpoint, EndpointId, PerEndpoint, Plan};
use crate::repository::{Description, Repository, RepositoryError, Rows};

/// The largest answer, in bytes, whose hash may hold up other requests on its thread: XXH3 takes some
/// 0.1 ms for a MiB.
const FINISHED_AT_ONCE_MAX: usize = 1 << 20;

/// Answers keys. There are two implementations: Postgres, and the model that the simulation checks the
/// engine's promises on.
pub trait Source: Send + Sync + 'static {
    /// Answers with the data of some moment between the call and its return.
    fn answer(
        &self,
        endpoint: &Endpoint,
        arguments: &Arguments,
    ) -> impl Future<Output = Result<Answer, LoadError>> + Send;

    /// How long until the next attempt to reach it; zero while it is reachable.
    fn retry_in(&self) -> Duration;

    /// Arguments of the endpoint that differ from these: plain ones first, then some with NULLs. Empty if
    /// no client can choose them.
    fn other_arguments(&self, _: &Endpoint, _: &Arguments) -> Vec<Arguments> {
        Vec::new()
    }

    /// Whether it answered arguments that its description does not list, such as a new enum label.
    fn has_unlisted_labels(&self, _: EndpointId, _: &Arguments) -> bool {
        false
    }

    /// Describes the endpoint's statement again.
    fn describe_again(
        &self,
        _: &Endpoint,
    ) -> impl Future<Output = Result<(), RepositoryError>> + Send {
        std::future::ready(Ok(()))
    }
}

/// Postgres, with its descriptions of the endpoints' statements.
#[derive(Debug)]
pub struct PostgresSource {
    repository: Repository,
    descriptions: PerEndpoint<Arc<ArcSwapOption<Description>>>,
    observer: Observer,
}

impl PostgresSource {
    /// A source that has described nothing yet.
    pub fn new(plan: &Plan, repository: Repository, observer: Observer) -> Self {
        Self {
            repository,
            descriptions: plan.per_endpoint(|_| Arc::default()),
            observer,
        }
    }

    /// A source for a plan that [follows](Plan::following) this one's, with the descriptions of what both have.
    fn following(&self, plan: &Plan) -> Self {
        let description = |endpoint: &Endpoint| {
            let known = self.descriptions.get(endpoint.id);
            known.map_or_else(Arc::default, Arc::clone)
        };
        Self {
            repository: self.repository.clone(),
            descriptions: plan.per_endpoint(description),
            observer: self.observer.clone(),
        }
    }

    pub(super) fn description(&self, endpoint: EndpointId) -> Option<Arc<Description>> {
        self.descriptions[endpoint].load_full()
    }

    /// Whether this is still Postgres's description of the endpoint's statement.
    pub(super) fn is_described_by(
        &self,
        endpoint: EndpointId,
        description: &Arc<Description>,
    ) -> bool {
        let current = self.descriptions[endpoint].load();
        current
            .as_ref()
            .is_some_and(|it| Arc::ptr_eq(it, description))
    }

    /// Describes the endpoint's statement. If the result equals the current description, returns that one.
    async fn describe(&self, endpoint: &Endpoint) -> Result<Arc<Description>, RepositoryError> {
        let described = Arc::new(self.repository.describe(endpoint).await?);
        let before = self.description(endpoint.id);
        if let Some(before) = before.as_ref().filter(|it| it.is_like(&described)) {
            return Ok(Arc::clone(before));
        }
        self.descriptions[endpoint.id].store(Some(Arc::clone(&described)));
        if before.is_some() {
            let endpoint = endpoint.id;
            self.observer
                .emit(&Event::StatementRedescribed { endpoint });
        }
        Ok(described)
    }

    pub(super) fn measure(&self) {
        self.repository.measure();
    }

    async fn query(
        &self,
        endpoint: &Endpoint,
        description: &Arc<Description>,
        arguments: &Arguments,
    ) -> Result<Answer, LoadError> {
        let rows = self
            .repository
            .fetch(endpoint, description, arguments)
            .await?;
        encode(endpoint, rows).await
    }
}

impl Source for PostgresSource {
    async fn answer(
        &self,
        endpoint: &Endpoint,
        arguments: &Arguments,
    ) -> Result<Answer, LoadError> {
        let description = match self.description(endpoint.id) {
            Some(description) => description,
            None => self.describe(endpoint).await?,
        };
        match self.query(endpoint, &description, arguments).await {
            Err(LoadError::Repository(RepositoryError::Outdated { refusal })) => {
                // Another load may have described it meanwhile.
                let other = self.description(endpoint.id);
                let renewed = match other.filter(|it| !Arc::ptr_eq(it, &description)) {
                    Some(renewed) => renewed,
                    None => self.describe(endpoint).await?,
                };
                match refusal {
                    // Nothing has changed: Postgres refuses the query itself.
                    Some(refusal) if Arc::ptr_eq(&renewed, &description) => {
                        Err(RepositoryError::of(refusal).into())
                    }
                    _ => self.query(endpoint, &renewed, arguments).await,
                }
            }
            answer => answer,
        }
    }

    fn retry_in(&self) -> Duration {
        self.repository.retry_in()
    }

    fn other_arguments(&self, endpoint: &Endpoint, arguments: &Arguments) -> Vec<Arguments> {
        let description = self.description(endpoint.id);
        description.map_or_else(Vec::new, |it| {
            it.signature.alternatives(endpoint, arguments)
        })
    }

    fn has_unlisted_labels(&self, endpoint: EndpointId, arguments: &Arguments) -> bool {
        let description = self.description(endpoint);
        description.is_some_and(|it| it.lacks_labels_of(arguments))
    }

    async fn describe_again(&self, endpoint: &Endpoint) -> Result<(), RepositoryError> {
        self.describe(endpoint).await.map(drop)
    }
}

impl ReadThrough<PostgresSource> {
    /// The engine for a plan that [follows](Plan::following) this one's: see [`ReadThrough::following`].
    #[must_use]
    pub fn for_plan(&self, plan: Arc<Plan>) -> Self {
        let source = self.planned.source.following(&plan);
        self.following(plan, source)
    }

    /// Has Postgres describe the endpoint's statement. A failure counts as one of its loads.
    ///
    /// # Errors
    /// As [`Repository::describe`].
    pub async fn describe(&self, endpoint: EndpointId) -> Result<(), RepositoryError> {
        let described = self.planned.source.describe(self.endpoint(endpoint)).await;
        if let Err(error) = &described {
            let key = statement_key(endpoint);
            self.record_failure(&key, &Arc::new(error.clone().into()));
        }
        described.map(drop)
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
    let document = finish(encoder).await.map(Arc::new);
    Ok(document.map_or(Answer::NoRow, Answer::Document))
}

/// Finishes a large answer on a thread of its own, so that no request waits behind its hash.
async fn finish(encoder: Encoder) -> Option<Document> {
    if encoder.size() <= FINISHED_AT_ONCE_MAX {
        return encoder.finish();
    }
    match tokio::task::spawn_blocking(|| encoder.finish()).await {
        Ok(document) => document,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_the_runtime_ends) => std::future::pending().await,
        },
    }
}
