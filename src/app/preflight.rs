//! Has Postgres check everything that a plan asks of it, without serving anything: what `larder check`
//! does, and part of every start.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;

use super::rejection::Rejection;
use super::roles;
use super::warm_keys::{self, WarmKey};
use crate::access::stored_keys;
use crate::observe::Observer;
use crate::plan::{AccessSettings, Endpoint, EndpointId, Plan, Subject};
use crate::repository::{Description, Repository, RepositoryError};

/// The description of every endpoint's statement of a first plan, and the repository that gave them.
#[derive(Debug)]
pub struct Descriptions {
    repository: Repository,
    by_endpoint: Vec<Arc<Description>>,
}

impl Descriptions {
    /// The description of an endpoint's statement.
    pub fn of(&self, endpoint: EndpointId) -> &Arc<Description> {
        &self.by_endpoint[endpoint.number()]
    }

    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }
}

/// Has Postgres describe every endpoint's statement once, and runs or prepares the queries in
/// [`side_queries`].
///
/// # Errors
/// Everything that could not be checked, an unreachable Postgres included.
pub async fn describe_all(plan: &Plan) -> Result<Descriptions, Vec<Rejection>> {
    let nobody = Observer::new(Vec::new());
    let repository = Repository::new(plan.repository(), nobody).map_err(|error| {
        let subject = Subject::Statement(EndpointId::new(0));
        vec![Rejection { subject, error }]
    })?;
    let describe = async |id| (id, repository.describe(plan.endpoint(id)).await);
    let results = stream::iter(plan.endpoints().iter().map(|endpoint| endpoint.id))
        .map(describe)
        .buffered(plan.repository().max_connections)
        .collect::<Vec<_>>()
        .await;
    let mut described = Vec::new();
    let mut rejections = roles::check(plan, &repository).await;
    let is_reported = |rejections: &[Rejection], endpoint| {
        let mut subjects = rejections.iter().map(|rejection| rejection.subject);
        subjects.any(|subject| subject == Subject::RunAs(endpoint))
    };
    for (endpoint, result) in results {
        match result {
            Ok(description) => described.push((endpoint, Arc::new(description))),
            Err(RepositoryError::RoleRefused { .. }) if is_reported(&rejections, endpoint) => {}
            Err(error) => rejections.push(Rejection {
                subject: Subject::Statement(endpoint),
                error,
            }),
        }
    }
    let checked = check_side_queries(plan, &repository, side_queries(plan)).await;
    rejections.extend(checked.rejected);
    rejections.extend(checked.undecided.into_iter().map(|undecided| {
        if let Subject::Probe(probe) = undecided.subject {
            Rejection::of_probe(probe, undecided.error)
        } else {
            undecided
        }
    }));
    let find = |endpoint: &Endpoint| {
        let found = described.iter().find(|(id, _)| *id == endpoint.id);
        found.map(|(_, description)| Arc::clone(description))
    };
    rejections.extend(declared_keys(plan, find).err().unwrap_or_default());
    if !rejections.is_empty() {
        return Err(rejections);
    }
    // All of them are there, in the order of the plan.
    let by_endpoint = described.into_iter().map(|(_, it)| it).collect();
    Ok(Descriptions {
        repository,
        by_endpoint,
    })
}

/// The queries of a plan besides its endpoints' statements: probes, the endpoints' `warm_sql`, and that for keys.
pub(super) fn side_queries(plan: &Plan) -> Vec<Subject> {
    let probes = plan.probes().iter().map(|probe| Subject::Probe(probe.id));
    let endpoints = plan.endpoints().iter();
    let warm = endpoints.filter(|endpoint| endpoint.warm.statement.is_some());
    let keys = plan.access().and_then(AccessSettings::stored_keys);
    probes
        .chain(warm.map(|endpoint| Subject::WarmStatement(endpoint.id)))
        .chain(keys.map(|_| Subject::StoredKeys))
        .collect()
}

/// The side queries that failed.
pub(super) struct FailedQueries {
    /// Those that are mistakes.
    pub(super) rejected: Vec<Rejection>,
    /// Those that may succeed later, such as when Postgres is reachable again.
    pub(super) undecided: Vec<Rejection>,
}

/// Runs each of these probes, and prepares the others.
pub(super) async fn check_side_queries(
    plan: &Plan,
    repository: &Repository,
    queries: Vec<Subject>,
) -> FailedQueries {
    let mut failed = FailedQueries {
        rejected: Vec::new(),
        undecided: Vec::new(),
    };
    for subject in queries {
        match check_side_query(plan, repository, subject).await {
            Ok(()) => {}
            Err(error) if error.is_passing() => {
                failed.undecided.push(Rejection { subject, error });
            }
            Err(error) => failed.rejected.push(Rejection { subject, error }),
        }
    }
    failed
}

async fn check_side_query(
    plan: &Plan,
    repository: &Repository,
    subject: Subject,
) -> Result<(), RepositoryError> {
    match subject {
        Subject::Probe(id) => match plan.probe(id) {
            Some(probe) => repository.probe(probe).await.map(drop),
            None => Ok(()),
        },
        Subject::WarmStatement(id) => {
            warm_keys::check_statement(repository, plan.endpoint(id)).await
        }
        Subject::StoredKeys => match plan.access().and_then(AccessSettings::stored_keys) {
            Some((_, keys)) => stored_keys::check(keys, repository).await,
            None => Ok(()),
        },
        Subject::Statement(_)
        | Subject::ParameterTypes(_)
        | Subject::Parameter(..)
        | Subject::WarmArguments(..)
        | Subject::RunAs(_)
        | Subject::TlsFile(_)
        | Subject::IssuerKeys(_) => Ok(()),
    }
}

/// The keys that `warm` lists for endpoints that are described.
///
/// # Errors
/// Those that are not valid keys.
pub(super) fn declared_keys<D: AsRef<Description>>(
    plan: &Plan,
    described: impl Fn(&Endpoint) -> Option<D>,
) -> Result<Vec<WarmKey>, Vec<Rejection>> {
    let mut keys = Vec::new();
    let mut rejections = Vec::new();
    for endpoint in plan.endpoints() {
        let Some(description) = described(endpoint) else {
            continue;
        };
        match warm_keys::declared(endpoint, description.as_ref()) {
            Ok(more) => keys.extend(more),
            Err(more) => rejections.extend(more),
        }
    }
    if rejections.is_empty() {
        Ok(keys)
    } else {
        Err(rejections)
    }
}
