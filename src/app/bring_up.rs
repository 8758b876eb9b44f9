//! From nothing to ready: every statement described, every schedule running, every resident entry
//! loaded. What Postgres refuses ends the start; that Postgres is away only delays it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::{RunError, measure, warm};
use crate::observe::{BringUpStage, Observer, RefreshOutcome, Trigger};
use crate::plan::{Endpoint, EndpointId, Plan, ProbeId};
use crate::read_through::ReadThrough;
use crate::refresh::{Refresher, Retries};
use crate::repository::{Description, Repository, RepositoryError};

/// At least this long between attempts, whatever failed.
pub(super) const RETRY_AT_LEAST: Duration = Duration::from_millis(100);

/// As many entries are warmed at once; how many of them query at once is the engine's affair.
pub(super) const WARMED_AT_ONCE: usize = 64;

/// Something that can not be served as declared.
#[derive(Debug)]
pub struct Misfit {
    /// What.
    pub culprit: Culprit,
    /// Why.
    pub error: RepositoryError,
}

/// What of a configuration Postgres has been asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Culprit {
    /// An endpoint's statement, or its parameters.
    Endpoint(EndpointId),
    /// A probe.
    Probe(ProbeId),
    /// An endpoint's `warm_sql`.
    WarmStatement(EndpointId),
    /// One of the keys in an endpoint's `warm`.
    WarmArguments(EndpointId, usize),
}

pub(super) async fn bring_up(
    plan: &Arc<Plan>,
    repository: &Repository,
    read_through: &ReadThrough,
    observer: &Observer,
    background: &CancellationToken,
) -> Result<(), RunError> {
    describe_until_done(plan, read_through, observer).await?;
    let mut asides = asides(plan);
    while !asides.is_empty() {
        let (misfits, passing) = check_asides(plan, repository, asides).await;
        if !misfits.is_empty() {
            return Err(RunError::Misfits(misfits));
        }
        // What fails although Postgres is there holds up nobody: it is reported by what needs it.
        let outages = passing.iter().filter(|misfit| misfit.error.is_outage());
        asides = outages.map(|misfit| misfit.culprit).collect();
        if !asides.is_empty() {
            tokio::time::sleep(repository.retry_in().max(RETRY_AT_LEAST)).await;
        }
    }
    let described = |endpoint: &Endpoint| read_through.description(endpoint.id);
    let keys = written_keys(plan, described).map_err(RunError::Misfits)?;

    let refresher = Refresher::new(plan, repository.clone(), read_through.clone()).await?;
    refresher.follow(observer, background);
    let retries = refresher.retries();
    refresher.start(observer, background);
    warm_until_done(read_through, observer, &retries).await;
    warm::warm_until_done(plan, repository, read_through, observer, keys).await;
    Ok(())
}

/// The keys that the configuration names, where all of them are keys.
fn written_keys<D: AsRef<Description>>(
    plan: &Plan,
    described: impl Fn(&Endpoint) -> Option<D>,
) -> Result<Vec<warm::Named>, Vec<Misfit>> {
    let mut keys = Vec::new();
    let mut misfits = Vec::new();
    for endpoint in plan.endpoints() {
        let Some(description) = described(endpoint) else {
            continue;
        };
        match warm::written(endpoint, description.as_ref()) {
            Ok(more) => keys.extend(more),
            Err(more) => misfits.extend(more),
        }
    }
    if misfits.is_empty() {
        Ok(keys)
    } else {
        Err(misfits)
    }
}

/// What Postgres has to be asked about beside the endpoints' statements.
fn asides(plan: &Plan) -> Vec<Culprit> {
    let probes = plan.probes().iter().map(|probe| Culprit::Probe(probe.id));
    let warm = plan.endpoints().iter();
    let warm = warm.filter(|endpoint| endpoint.warm.statement.is_some());
    probes
        .chain(warm.map(|endpoint| Culprit::WarmStatement(endpoint.id)))
        .collect()
}

/// Asks about them; says what is wrong, and what could not be found out now.
async fn check_asides(
    plan: &Plan,
    repository: &Repository,
    asides: Vec<Culprit>,
) -> (Vec<Misfit>, Vec<Misfit>) {
    let mut misfits = Vec::new();
    let mut passing = Vec::new();
    for culprit in asides {
        let checked = match culprit {
            Culprit::Probe(id) => {
                let answer = repository.probe(&plan.probes()[id.index()]).await;
                answer.map(drop)
            }
            Culprit::WarmStatement(id) => {
                warm::check_statement(repository, plan.endpoint(id)).await
            }
            Culprit::Endpoint(_) | Culprit::WarmArguments(..) => Ok(()),
        };
        match checked {
            Ok(()) => {}
            Err(error) if error.is_passing() => passing.push(Misfit { culprit, error }),
            Err(error) => misfits.push(Misfit { culprit, error }),
        }
    }
    (misfits, passing)
}

async fn describe_until_done(
    plan: &Plan,
    read_through: &ReadThrough,
    observer: &Observer,
) -> Result<(), RunError> {
    let endpoints = plan.endpoints().len();
    let mut progress = Progress::new(observer, BringUpStage::Describing, endpoints);
    loop {
        let due = missing(plan, read_through)
            .into_iter()
            .filter(|id| read_through.retry_in(*id).is_zero());
        let describe = |id| async move { read_through.describe(id).await.err().map(|e| (id, e)) };
        let misfits = stream::iter(due)
            .map(describe)
            .buffered(plan.repository().max_connections)
            .inspect(|failed| {
                if failed.is_none() {
                    progress.advance();
                }
            })
            .filter_map(|failed| async {
                let (endpoint, error) = failed?;
                let culprit = Culprit::Endpoint(endpoint);
                (!error.is_passing()).then_some(Misfit { culprit, error })
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

/// Loads every resident entry, and keeps trying while Postgres is away. An endpoint whose own load fails
/// breaks only itself: it is loaded again later, and waited for no longer.
async fn warm_until_done(read_through: &ReadThrough, observer: &Observer, retries: &Retries) {
    let cold = read_through.cold().count();
    let mut progress = Progress::new(observer, BringUpStage::Warming, cold);
    let mut refused = HashSet::new();
    loop {
        let cold = read_through.cold().map(|endpoint| endpoint.id);
        let cold: Vec<EndpointId> = cold.filter(|id| !refused.contains(id)).collect();
        let soonest = cold.iter().map(|id| read_through.retry_in(*id)).min();
        let Some(soonest) = soonest else { return };
        if soonest.is_zero() {
            let now = cold
                .into_iter()
                .filter(|id| read_through.retry_in(*id).is_zero());
            let warm =
                |id| async move { (id, read_through.refresh(id, Trigger::Warm, None).await) };
            stream::iter(now)
                .map(warm)
                .buffer_unordered(WARMED_AT_ONCE)
                .for_each(|(id, outcome)| {
                    let is_refused =
                        outcome == RefreshOutcome::Failed && read_through.is_refused(id);
                    if is_refused {
                        refused.insert(id);
                        let wait = read_through.retry_in(id).max(RETRY_AT_LEAST);
                        retries.retry(id, read_through.now() + wait);
                    }
                    if is_refused || outcome != RefreshOutcome::Failed {
                        progress.advance();
                    }
                    std::future::ready(())
                })
                .await;
        }
        if read_through
            .cold()
            .any(|endpoint| !refused.contains(&endpoint.id))
        {
            tokio::time::sleep(soonest.max(RETRY_AT_LEAST)).await;
        }
    }
}

/// What Postgres said of every endpoint's statement, with the connections it said it through.
#[derive(Debug)]
pub struct Descriptions {
    repository: Repository,
    by_endpoint: Vec<Arc<Description>>,
}

impl Descriptions {
    /// What it said of this endpoint's.
    pub fn of(&self, endpoint: EndpointId) -> &Arc<Description> {
        &self.by_endpoint[endpoint.index()]
    }

    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }
}

/// Has Postgres describe every endpoint once, and whatever else the plan has it do, without serving
/// anything.
///
/// # Errors
/// Everything that could not be described, also because Postgres is away.
pub async fn describe_all(plan: &Plan) -> Result<Descriptions, Vec<Misfit>> {
    let nobody = Observer::new(Vec::new());
    let repository = Repository::new(plan.repository(), nobody).map_err(|error| {
        let culprit = Culprit::Endpoint(EndpointId::new(0));
        vec![Misfit { culprit, error }]
    })?;
    let describe = async |id| (id, repository.describe(plan.endpoint(id)).await);
    let results = stream::iter(plan.endpoints().iter().map(|endpoint| endpoint.id))
        .map(describe)
        .buffered(plan.repository().max_connections)
        .collect::<Vec<_>>()
        .await;
    let mut described = Vec::new();
    let mut misfits = Vec::new();
    for (endpoint, result) in results {
        match result {
            Ok(description) => described.push((endpoint, Arc::new(description))),
            Err(error) => misfits.push(Misfit {
                culprit: Culprit::Endpoint(endpoint),
                error,
            }),
        }
    }
    let (more, passing) = check_asides(plan, &repository, asides(plan)).await;
    misfits.extend(more);
    misfits.extend(passing.into_iter().map(|misfit| match misfit.culprit {
        Culprit::Probe(probe) => measure::of_probe(probe, misfit.error),
        Culprit::Endpoint(_) | Culprit::WarmStatement(_) | Culprit::WarmArguments(..) => misfit,
    }));
    let find = |endpoint: &Endpoint| {
        let found = described.iter().find(|(id, _)| *id == endpoint.id);
        found.map(|(_, description)| Arc::clone(description))
    };
    misfits.extend(written_keys(plan, find).err().unwrap_or_default());
    if !misfits.is_empty() {
        return Err(misfits);
    }
    // All of them are there, in the order of the plan.
    let by_endpoint = described.into_iter().map(|(_, it)| it).collect();
    Ok(Descriptions {
        repository,
        by_endpoint,
    })
}
