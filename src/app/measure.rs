//! How long each query takes when it is run once, as a load would run it. Queries run one at a time, so
//! that none includes a wait for another, and a busy Postgres gets one more query at most.

use std::sync::Arc;
use std::time::Duration;

use super::preflight::Descriptions;
use super::rejection::{Rejection, unusable};
use super::warm_keys;
use crate::encode::{EncodeError, Encoder};
use crate::plan::{Arguments, Endpoint, Plan, Probe, Subject};
use crate::repository::{Description, Repository, RepositoryError};

/// The result of running a query once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measurement {
    /// The time from sending the query until its last row was encoded.
    Took(Duration),
    /// It needs arguments, and the configuration names none.
    NeedsArguments,
    /// It failed, as a load would, or Postgres became unreachable: see [`Measurements::rejections`].
    Failed,
}

/// The results of running every query once.
#[derive(Debug)]
pub struct Measurements {
    /// One for each endpoint, in the order of the plan, which is a first one: by the endpoints' numbers.
    pub endpoints: Vec<Measurement>,
    /// One for each probe, likewise.
    pub probes: Vec<Measurement>,
    /// Why some failed.
    pub rejections: Vec<Rejection>,
}

/// Runs every endpoint's query and every probe once. An endpoint with parameters is run for its first key
/// to warm, or else without arguments; if that is not a valid key, it is not run.
pub async fn measure_all(plan: &Plan, descriptions: &Descriptions) -> Measurements {
    let repository = descriptions.repository();
    let mut measured = Measurements {
        endpoints: Vec::new(),
        probes: Vec::new(),
        rejections: Vec::new(),
    };
    for endpoint in plan.endpoints() {
        let ran = async { run(repository, endpoint, descriptions.of(endpoint.id)).await };
        let run = measured.unless_unreachable(ran).await;
        measured.endpoints.push(run);
    }
    for probe in plan.probes() {
        let run = measured.unless_unreachable(ask(repository, probe)).await;
        measured.probes.push(run);
    }
    measured
}

impl Measurements {
    /// Runs a query and records why it failed. Once Postgres is unreachable, the remaining queries are not
    /// run: each could wait for a connection as long as the first.
    async fn unless_unreachable(
        &mut self,
        run: impl Future<Output = Result<Measurement, Rejection>>,
    ) -> Measurement {
        let is_unreachable =
            |rejection: &Rejection| matches!(rejection.error, RepositoryError::Unavailable { .. });
        if self.rejections.iter().any(is_unreachable) {
            return Measurement::Failed;
        }
        run.await.unwrap_or_else(|rejection| {
            self.rejections.push(rejection);
            Measurement::Failed
        })
    }
}

async fn run(
    repository: &Repository,
    endpoint: &Endpoint,
    description: &Arc<Description>,
) -> Result<Measurement, Rejection> {
    let example = warm_keys::example(repository, endpoint, description).await;
    let example = example.map_err(|error| Rejection {
        subject: Subject::WarmStatement(endpoint.id),
        error: with_fix(error, "`warm_sql`"),
    })?;
    let Some((arguments, named_by)) = example else {
        return Ok(Measurement::NeedsArguments);
    };
    let took = load(repository, endpoint, description, &arguments).await;
    took.map(Measurement::Took)
        .map_err(|error| of_load(endpoint, named_by, error))
}

async fn ask(repository: &Repository, probe: &Probe) -> Result<Measurement, Rejection> {
    let took = repository.time_probe(probe).await;
    took.map(Measurement::Took)
        .map_err(|error| Rejection::of_probe(probe.id, error))
}

/// Loads like [`ReadThrough`](crate::read_through::ReadThrough), and stores nothing.
async fn load(
    repository: &Repository,
    endpoint: &Endpoint,
    description: &Arc<Description>,
    arguments: &Arguments,
) -> Result<Duration, RepositoryError> {
    let fetching = repository.fetch_prepared(endpoint, description, arguments);
    let mut rows = fetching.await?;
    let began = rows.began();
    let columns = Arc::clone(rows.columns());
    let mut encoder = Encoder::new(endpoint.shape, columns, endpoint.max_bytes);
    while let Some(row) = rows.next().await? {
        let pushed = encoder.push(row.values());
        pushed.map_err(|error| not_encoded(endpoint, &error))?;
    }
    encoder.finish();
    Ok(began.elapsed())
}

/// Why an endpoint's loads would fail, with the part of the configuration that has to change.
fn of_load(endpoint: &Endpoint, named_by: Subject, error: RepositoryError) -> Rejection {
    if let RepositoryError::ArgumentRefused { refusal } = error {
        return Rejection {
            subject: named_by,
            error: unusable(format!("Postgres refuses an argument: {}", refusal.message)),
        };
    }
    let query = match named_by {
        Subject::WarmArguments(..) => "the query for the first key of `warm`",
        Subject::WarmStatement(_) => "the query for the first key that `warm_sql` finds",
        Subject::Statement(_)
        | Subject::ParameterTypes(_)
        | Subject::Parameter(..)
        | Subject::Probe(_)
        | Subject::StoredKeys
        | Subject::RunAs(_)
        | Subject::TlsFile(_)
        | Subject::IssuerKeys(_) => "the query",
    };
    Rejection {
        subject: Subject::Statement(endpoint.id),
        error: with_fix(error, query),
    }
}

/// An exceeded limit as a mistake that says how to fix it.
fn with_fix(error: RepositoryError, query: &str) -> RepositoryError {
    match error {
        RepositoryError::TimedOut { after } => unusable(format!(
            "{query} was cancelled after {after:?}; make it faster, or raise `timeout`"
        )),
        RepositoryError::TooManyRows { max_rows } => unusable(format!(
            "{query} returned more than {max_rows} rows; add a LIMIT, or raise `max_rows`"
        )),
        // After a single attempt, the query's effect cannot be distinguished from a shutdown of Postgres.
        error @ RepositoryError::SessionEnded { .. } => RepositoryError::Unavailable {
            cause: error.to_string(),
        },
        RepositoryError::Refused { mut refusal } => {
            // It refers to the SQL that was sent, which may differ from the SQL in the configuration.
            refusal.position = None;
            RepositoryError::Refused { refusal }
        }
        error @ (RepositoryError::Settings { .. }
        | RepositoryError::Unavailable { .. }
        | RepositoryError::Busy { .. }
        | RepositoryError::Cancelled { .. }
        | RepositoryError::Failed { .. }
        | RepositoryError::ArgumentRefused { .. }
        | RepositoryError::RoleRefused { .. }
        | RepositoryError::Unusable { .. }
        | RepositoryError::Outdated { .. }) => error,
    }
}

fn not_encoded(endpoint: &Endpoint, error: &EncodeError) -> RepositoryError {
    unusable(match error {
        EncodeError::TooLarge { .. } => format!("{error}; select less, or raise `max_bytes`"),
        EncodeError::MoreThanOneRow => format!(
            "{error}, but shape \"{}\" holds only one; add LIMIT 1, or use shape \"rows\"",
            endpoint.shape.as_str()
        ),
        EncodeError::Malformed { .. } => error.to_string(),
    })
}
