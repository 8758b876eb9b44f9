//! From nothing to ready: every statement described, every schedule running, every resident entry
//! loaded. A mistake that Postgres finds ends the start; an unreachable Postgres only delays it.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::preflight::{check_side_queries, declared_keys, side_queries};
use super::progress::Progress;
use super::rejection::Rejection;
use super::warm_keys::{self, LOADS_AT_ONCE, MIN_RETRY_WAIT};
use crate::observe::{Observer, RefreshOutcome, StartupStage, Trigger};
use crate::plan::{Endpoint, EndpointId, Plan, Subject};
use crate::read_through::ReadThrough;
use crate::refresh::{Refresher, Retries, Succession};
use crate::repository::{Repository, RepositoryError};

/// Runs the whole start; returns when the server is ready.
pub(super) async fn start(
    plan: &Arc<Plan>,
    repository: &Repository,
    read_through: &ReadThrough,
    observer: &Observer,
    background: &CancellationToken,
) -> Result<Succession, RunError> {
    let undescribed = describe_until_done(plan, read_through, observer).await?;
    check_side_queries_until_done(plan, repository).await?;
    let described = |endpoint: &Endpoint| read_through.inspect().description(endpoint.id);
    let keys = declared_keys(plan, described).map_err(RunError::Rejected)?;

    let (repository, read_through) = (repository.clone(), read_through.clone());
    let refresher = Refresher::new(
        plan,
        repository.clone(),
        read_through.clone(),
        observer,
        background,
    );
    let (mut refresher, succession) = refresher.await?;
    refresher.watch();
    let retries = refresher.retries();
    refresher.start(observer, background);
    for endpoint in &undescribed {
        let (endpoint, read_through) = (plan.endpoint(*endpoint), read_through.clone());
        if endpoint.is_resident() {
            // A load describes the statement first.
            retries.retry(endpoint.id, read_through.clock().now());
        } else {
            let (id, background) = (endpoint.id, background.clone());
            let describing = async move { describe_in_the_end(&read_through, id).await };
            tokio::spawn(async move { background.run_until_cancelled(describing).await });
        }
    }
    load_resident_until_done(&read_through, observer, &retries, undescribed).await;
    warm_keys::warm_until_done(plan, &repository, &read_through, observer, keys, |_| true).await;
    Ok(succession)
}

async fn check_side_queries_until_done(
    plan: &Plan,
    repository: &Repository,
) -> Result<(), RunError> {
    let mut queries = side_queries(plan);
    while !queries.is_empty() {
        let failed = check_side_queries(plan, repository, queries).await;
        if !failed.rejected.is_empty() {
            return Err(RunError::Rejected(failed.rejected));
        }
        // A query that fails while Postgres is reachable does not delay the start: its own use reports it.
        let undecided = failed.undecided.iter();
        let outages = undecided.filter(|rejection| rejection.error.is_outage());
        queries = outages.map(|rejection| rejection.subject).collect();
        if !queries.is_empty() {
            tokio::time::sleep(repository.retry_in().max(MIN_RETRY_WAIT)).await;
        }
    }
    Ok(())
}

/// Has every statement described, and keeps trying while Postgres is unreachable. Returns the endpoints that the start
/// does not wait for: describing them takes longer than their `timeout`, as when a table is locked.
async fn describe_until_done(
    plan: &Plan,
    read_through: &ReadThrough,
    observer: &Observer,
) -> Result<HashSet<EndpointId>, RunError> {
    let endpoints = plan.endpoints().len();
    let mut progress = Progress::new(observer, StartupStage::Describing, endpoints);
    let mut too_slow = HashSet::new();
    loop {
        let due = undescribed(plan, read_through)
            .into_iter()
            .filter(|id| !too_slow.contains(id))
            .filter(|id| read_through.inspect().retry_in(*id).is_zero());
        let describe = |id| async move { read_through.describe(id).await.err().map(|e| (id, e)) };
        let failed = stream::iter(due)
            .map(describe)
            .buffered(plan.repository().max_connections)
            .inspect(|failed| {
                if failed.is_none() {
                    progress.advance();
                }
            })
            .filter_map(std::future::ready)
            .collect::<Vec<_>>()
            .await;
        let mut rejections = Vec::new();
        for (endpoint, error) in failed {
            if let RepositoryError::TimedOut { .. } = error {
                too_slow.insert(endpoint);
            } else if !error.is_passing() {
                let subject = Subject::Statement(endpoint);
                rejections.push(Rejection { subject, error });
            }
        }
        if !rejections.is_empty() {
            return Err(RunError::Rejected(rejections));
        }
        let remaining = undescribed(plan, read_through).into_iter();
        let Some(soonest) = remaining
            .filter(|id| !too_slow.contains(id))
            .map(|id| read_through.inspect().retry_in(id))
            .min()
        else {
            return Ok(too_slow);
        };
        tokio::time::sleep(soonest.max(MIN_RETRY_WAIT)).await;
    }
}

/// Has a statement described, however long that takes.
async fn describe_in_the_end(read_through: &ReadThrough, endpoint: EndpointId) {
    loop {
        let wait = read_through.inspect().retry_in(endpoint);
        tokio::time::sleep(wait.max(MIN_RETRY_WAIT)).await;
        if read_through.describe(endpoint).await.is_ok() {
            return;
        }
    }
}

fn undescribed(plan: &Plan, read_through: &ReadThrough) -> Vec<EndpointId> {
    let all = plan.endpoints().iter().map(|endpoint| endpoint.id);
    all.filter(|id| read_through.inspect().description(*id).is_none())
        .collect()
}

/// Loads every resident entry, and keeps trying while Postgres is unreachable. An endpoint whose load
/// fails for a reason of its own is retried in the background, and the start no longer waits for it.
async fn load_resident_until_done(
    read_through: &ReadThrough,
    observer: &Observer,
    retries: &Retries,
    undescribed: HashSet<EndpointId>,
) {
    let cold = read_through.inspect().cold().count();
    let mut progress = Progress::new(observer, StartupStage::Warming, cold);
    let mut refused = undescribed;
    loop {
        let cold = read_through.inspect().cold().map(|endpoint| endpoint.id);
        let cold: Vec<EndpointId> = cold.filter(|id| !refused.contains(id)).collect();
        let soonest = cold
            .iter()
            .map(|id| read_through.inspect().retry_in(*id))
            .min();
        let Some(soonest) = soonest else { return };
        if soonest.is_zero() {
            let now = cold
                .into_iter()
                .filter(|id| read_through.inspect().retry_in(*id).is_zero());
            let warm =
                |id| async move { (id, read_through.refresh(id, Trigger::Warm, None).await) };
            stream::iter(now)
                .map(warm)
                .buffer_unordered(LOADS_AT_ONCE)
                .for_each(|(id, outcome)| {
                    let is_refused =
                        outcome == RefreshOutcome::Failed && read_through.inspect().is_refused(id);
                    if is_refused {
                        refused.insert(id);
                        let wait = read_through.inspect().retry_in(id).max(MIN_RETRY_WAIT);
                        retries.retry(id, read_through.clock().now() + wait);
                    }
                    if is_refused || outcome != RefreshOutcome::Failed {
                        progress.advance();
                    }
                    std::future::ready(())
                })
                .await;
        }
        if read_through
            .inspect()
            .cold()
            .any(|endpoint| !refused.contains(&endpoint.id))
        {
            tokio::time::sleep(soonest.max(MIN_RETRY_WAIT)).await;
        }
    }
}
