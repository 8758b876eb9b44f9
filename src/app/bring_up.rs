//! From nothing to ready: every statement described, every schedule running, every resident entry
//! loaded. What Postgres refuses ends the start; that Postgres is away only delays it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio_util::sync::CancellationToken;

use super::RunError;
use crate::observe::{Observer, Trigger};
use crate::plan::{EndpointId, Plan};
use crate::read_through::ReadThrough;
use crate::refresh::Refresher;
use crate::repository::{Description, Repository, RepositoryError};

/// At least this long between attempts, whatever failed.
const RETRY_AT_LEAST: Duration = Duration::from_millis(100);

/// As many entries are warmed at once; how many of them query at once is the pool's affair.
const WARMED_AT_ONCE: usize = 64;

/// An endpoint that can not be served as declared.
#[derive(Debug)]
pub struct Misfit {
    /// Which.
    pub endpoint: EndpointId,
    /// Why.
    pub error: RepositoryError,
}

pub(super) async fn bring_up(
    plan: &Arc<Plan>,
    read_through: &ReadThrough,
    background: &CancellationToken,
) -> Result<(), RunError> {
    describe_until_done(plan, read_through).await?;
    let refresher = Refresher::new(plan, read_through.clone()).await?;
    tokio::spawn(refresher.run(background.clone()));
    warm_until_done(read_through).await;
    Ok(())
}

async fn describe_until_done(plan: &Plan, read_through: &ReadThrough) -> Result<(), RunError> {
    loop {
        let due = missing(plan, read_through)
            .into_iter()
            .filter(|id| read_through.retry_in(*id).is_zero());
        let describe = |id| async move { read_through.describe(id).await.err().map(|e| (id, e)) };
        let misfits = stream::iter(due)
            .map(describe)
            .buffered(plan.repository().max_connections)
            .filter_map(|failed| async {
                let (endpoint, error) = failed?;
                (!error.is_passing()).then_some(Misfit { endpoint, error })
            })
            .collect::<Vec<_>>()
            .await;
        if !misfits.is_empty() {
            return Err(RunError::Misfits(misfits));
        }
        let still = missing(plan, read_through).into_iter();
        let Some(soonest) = still.map(|id| read_through.retry_in(id)).min() else {
            return Ok(());
        };
        tokio::time::sleep(soonest.max(RETRY_AT_LEAST)).await;
    }
}

/// The endpoints that are not described yet.
fn missing(plan: &Plan, read_through: &ReadThrough) -> Vec<EndpointId> {
    let all = plan.endpoints().iter().map(|endpoint| endpoint.id);
    all.filter(|id| read_through.description(*id).is_none())
        .collect()
}

async fn warm_until_done(read_through: &ReadThrough) {
    loop {
        let cold: Vec<EndpointId> = read_through.cold().map(|endpoint| endpoint.id).collect();
        let soonest = cold.iter().map(|id| read_through.retry_in(*id)).min();
        let Some(soonest) = soonest else { return };
        if soonest.is_zero() {
            let now = cold
                .into_iter()
                .filter(|id| read_through.retry_in(*id).is_zero());
            stream::iter(now)
                .map(|id| read_through.refresh(id, Trigger::Warm, None))
                .buffer_unordered(WARMED_AT_ONCE)
                .for_each(|_| std::future::ready(()))
                .await;
        }
        if read_through.cold().next().is_some() {
            tokio::time::sleep(soonest.max(RETRY_AT_LEAST)).await;
        }
    }
}

/// Has Postgres describe every endpoint once, without serving any.
///
/// # Errors
/// Every endpoint that could not be described, also because Postgres is away.
pub async fn describe_all(plan: &Plan) -> Result<Vec<(EndpointId, Description)>, Vec<Misfit>> {
    let nobody = Observer::new(Vec::new());
    let first = EndpointId::new(0);
    let repository = Repository::new(plan.repository(), nobody).map_err(|error| {
        vec![Misfit {
            endpoint: first,
            error,
        }]
    })?;
    let describe = |endpoint| {
        let repository = repository.clone();
        async move {
            repository
                .describe(endpoint)
                .await
                .map_err(|error| (endpoint.id, error))
                .map(|d| (endpoint.id, d))
        }
    };
    let results = stream::iter(plan.endpoints())
        .map(describe)
        .buffered(plan.repository().max_connections)
        .collect::<Vec<_>>()
        .await;
    let mut described = Vec::new();
    let mut misfits = Vec::new();
    for result in results {
        match result {
            Ok(one) => described.push(one),
            Err((endpoint, error)) => misfits.push(Misfit { endpoint, error }),
        }
    }
    if misfits.is_empty() {
        Ok(described)
    } else {
        Err(misfits)
    }
}
