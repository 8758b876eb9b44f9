//! How long queries take now: each run once, as a load would run it. One at a time, so that none is
//! measured with its wait for another, and a busy Postgres sees no more than one more query.

use std::sync::Arc;
use std::time::Duration;

use super::bring_up::{Culprit, Descriptions, Misfit};
use super::warm;
use crate::encode::{EncodeError, Encoder};
use crate::plan::{Arguments, Endpoint, Mismatch, Plan, Probe, ProbeId};
use crate::repository::{Description, Repository, RepositoryError};

/// What came of running a query once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// The time from the moment it was sent until its last row was encoded.
    Took(Duration),
    /// Nothing names arguments to run it with.
    NeedsArguments,
    /// A load would fail as well, or Postgres has gone away: see [`Measurements::misfits`].
    Failed,
}

/// What came of running every query once.
#[derive(Debug)]
pub struct Measurements {
    /// Each endpoint's, in the order of the plan.
    pub endpoints: Vec<Run>,
    /// Each probe's, in the order of the plan.
    pub probes: Vec<Run>,
    /// Why some failed.
    pub misfits: Vec<Misfit>,
}

/// Runs every endpoint's query and every probe once. An endpoint with parameters is run for the first
/// of its keys to be warmed, or for a request that names none; where neither makes a key it is not run.
pub async fn measure_all(plan: &Plan, descriptions: &Descriptions) -> Measurements {
    let repository = descriptions.repository();
    let mut measured = Measurements {
        endpoints: Vec::new(),
        probes: Vec::new(),
        misfits: Vec::new(),
    };
    for endpoint in plan.endpoints() {
        let ran = async { run(repository, endpoint, descriptions.of(endpoint.id)).await };
        let run = measured.unless_away(ran).await;
        measured.endpoints.push(run);
    }
    for probe in plan.probes() {
        let run = measured.unless_away(ask(repository, probe)).await;
        measured.probes.push(run);
    }
    measured
}

impl Measurements {
    /// Runs a query and notes why it failed. Once Postgres has gone away the others are left: each of
    /// them could wait for a connection as long as the first.
    async fn unless_away(&mut self, run: impl Future<Output = Result<Run, Misfit>>) -> Run {
        let is_away = |misfit: &Misfit| matches!(misfit.error, RepositoryError::Unavailable { .. });
        if self.misfits.iter().any(is_away) {
            return Run::Failed;
        }
        run.await.unwrap_or_else(|misfit| {
            self.misfits.push(misfit);
            Run::Failed
        })
    }
}

async fn run(
    repository: &Repository,
    endpoint: &Endpoint,
    description: &Arc<Description>,
) -> Result<Run, Misfit> {
    let example = warm::example(repository, endpoint, description).await;
    let example = example.map_err(|error| Misfit {
        culprit: Culprit::WarmStatement(endpoint.id),
        error: with_way_out(error, "`warm_sql`"),
    })?;
    let Some((arguments, named_by)) = example else {
        return Ok(Run::NeedsArguments);
    };
    let took = load(repository, endpoint, description, &arguments).await;
    took.map(Run::Took)
        .map_err(|error| of_load(endpoint, named_by, error))
}

async fn ask(repository: &Repository, probe: &Probe) -> Result<Run, Misfit> {
    let took = repository.time_probe(probe).await;
    took.map(Run::Took)
        .map_err(|error| of_probe(probe.id, error))
}

/// Why a probe can not be asked.
pub(super) fn of_probe(probe: ProbeId, error: RepositoryError) -> Misfit {
    let error = if let RepositoryError::TimedOut { after } = error {
        unusable(format!(
            "the probe was cancelled after {after:?}; ask something cheaper, or ask less often"
        ))
    } else {
        error
    };
    Misfit {
        culprit: Culprit::Probe(probe),
        error,
    }
}

/// A load without its entry.
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

/// Why an endpoint's loads would fail, at the place that is to be changed.
fn of_load(endpoint: &Endpoint, named_by: Culprit, error: RepositoryError) -> Misfit {
    if let RepositoryError::ArgumentRefused { refusal } = error {
        return Misfit {
            culprit: named_by,
            error: unusable(format!("Postgres refuses an argument: {}", refusal.message)),
        };
    }
    let query = match named_by {
        Culprit::WarmArguments(..) => "the query for the first key of `warm`",
        Culprit::WarmStatement(_) => "the query for the first key that `warm_sql` finds",
        Culprit::Endpoint(_) | Culprit::Probe(_) => "the query",
    };
    Misfit {
        culprit: Culprit::Endpoint(endpoint.id),
        error: with_way_out(error, query),
    }
}

/// A limit that was passed, as a mistake in whatever was to keep it.
fn with_way_out(error: RepositoryError, query: &str) -> RepositoryError {
    match error {
        RepositoryError::TimedOut { after } => unusable(format!(
            "{query} was cancelled after {after:?}; make it faster, or raise `timeout`"
        )),
        RepositoryError::TooManyRows { max_rows } => unusable(format!(
            "{query} returned more than {max_rows} rows; give it a LIMIT, or raise `max_rows`"
        )),
        // Asked once, nobody can tell it from Postgres's own end.
        error @ RepositoryError::SessionEnded { .. } => RepositoryError::Unavailable {
            cause: error.to_string(),
        },
        RepositoryError::Refused { mut refusal } => {
            // It counts in what was sent, which need not be what is written.
            refusal.position = None;
            RepositoryError::Refused { refusal }
        }
        error @ (RepositoryError::Settings { .. }
        | RepositoryError::Unavailable { .. }
        | RepositoryError::Busy { .. }
        | RepositoryError::Cancelled { .. }
        | RepositoryError::Failed { .. }
        | RepositoryError::ArgumentRefused { .. }
        | RepositoryError::Unusable { .. }
        | RepositoryError::Outdated { .. }) => error,
    }
}

fn not_encoded(endpoint: &Endpoint, error: &EncodeError) -> RepositoryError {
    unusable(match error {
        EncodeError::TooLarge { .. } => format!("{error}; select less, or raise `max_bytes`"),
        EncodeError::MoreThanOneRow => format!(
            "{error}, and shape \"{}\" has a place for one; give it a LIMIT 1, or use shape \"rows\"",
            endpoint.shape.as_str()
        ),
        EncodeError::Malformed { .. } => error.to_string(),
    })
}

fn unusable(text: String) -> RepositoryError {
    RepositoryError::Unusable {
        mistakes: vec![Mismatch::of_statement(text)],
    }
}
