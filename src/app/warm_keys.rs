//! Keys that are loaded before the first request for them: those in `warm`, and those that `warm_sql`
//! finds.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use super::progress::Progress;
use super::rejection::{Rejection, unusable};
use crate::observe::{Observer, StartupStage};
use crate::plan::{Arguments, Endpoint, EndpointId, Mismatch, Plan, Signature, Subject};
use crate::read_through::ReadThrough;
use crate::repository::{Description, NamedTexts, Repository, RepositoryError};

/// The shortest wait between two attempts, whatever failed.
pub(super) const MIN_RETRY_WAIT: Duration = Duration::from_millis(100);

/// How many loads a start keeps under way. How many of them query at once is up to
/// [`ReadThrough`].
pub(super) const LOADS_AT_ONCE: usize = 64;

/// A key to load at start.
pub(super) type WarmKey = (EndpointId, Arguments);

/// The keys that an endpoint's `warm` lists.
///
/// # Errors
/// Those that are not valid keys.
pub(super) fn declared(
    endpoint: &Endpoint,
    description: &Description,
) -> Result<Vec<WarmKey>, Vec<Rejection>> {
    let mut keys = Vec::new();
    let mut rejections = Vec::new();
    for (index, texts) in endpoint.warm.arguments.iter().enumerate() {
        match arguments(endpoint, &description.signature, texts) {
            Ok(arguments) => keys.push((endpoint.id, arguments)),
            Err(mistake) => rejections.push(Rejection {
                subject: Subject::WarmArguments(endpoint.id, index),
                error: unusable(mistake),
            }),
        }
    }
    if rejections.is_empty() {
        Ok(keys)
    } else {
        Err(rejections)
    }
}

/// Arguments to try an endpoint with, and where they come from: its first key to warm, or else a request
/// without arguments. `None` if that is not a valid key.
pub(super) async fn example(
    repository: &Repository,
    endpoint: &Endpoint,
    description: &Description,
) -> Result<Option<(Arguments, Subject)>, RepositoryError> {
    let signature = &description.signature;
    let read = |texts: &NamedTexts| arguments(endpoint, signature, texts).ok();
    if let Some(key) = endpoint.warm.arguments.first().and_then(read) {
        return Ok(Some((key, Subject::WarmArguments(endpoint.id, 0))));
    }
    if let Some(statement) = &endpoint.warm.statement {
        let rows = repository.texts(statement.text(), 1, endpoint.timeout);
        if let Some(key) = rows.await?.first().and_then(read) {
            return Ok(Some((key, Subject::WarmStatement(endpoint.id))));
        }
    }
    Ok(read(&NamedTexts::new()).map(|key| (key, Subject::Statement(endpoint.id))))
}

fn arguments(
    endpoint: &Endpoint,
    signature: &Signature,
    texts: &NamedTexts,
) -> Result<Arguments, String> {
    let (path, query) = endpoint.split_arguments(texts);
    let arguments = signature.arguments(endpoint, &path, &query);
    arguments.map_err(|error| error.to_string())
}

/// Checks that the columns of an endpoint's `warm_sql` are parameters of the endpoint.
pub(super) async fn check_statement(
    repository: &Repository,
    endpoint: &Endpoint,
) -> Result<(), RepositoryError> {
    let Some(statement) = &endpoint.warm.statement else {
        return Ok(());
    };
    let columns = repository
        .columns(statement.text(), endpoint.timeout)
        .await?;
    let known = |name: &String| endpoint.argument_names().any(|known| known == name);
    let mistakes: Vec<Mismatch> = columns
        .iter()
        .filter(|name| !known(name))
        .map(|name| {
            Mismatch::of_statement(format!(
                "`warm_sql` returns a column `{name}`, but the endpoint has no such parameter"
            ))
        })
        .collect();
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(RepositoryError::Unusable { mistakes })
    }
}

/// Loads every key to warm of the endpoints that `is_meant` selects, and keeps trying while Postgres is unreachable. A load that fails for another
/// reason reports that itself, and is not retried here.
pub(super) async fn warm_until_done(
    plan: &Plan,
    repository: &Repository,
    read_through: &ReadThrough,
    observer: &Observer,
    declared: Vec<WarmKey>,
    is_meant: impl Fn(&Endpoint) -> bool,
) {
    let mut keys = declared;
    for endpoint in plan
        .endpoints()
        .iter()
        .filter(|endpoint| is_meant(endpoint))
    {
        keys.extend(found(repository, read_through, endpoint).await);
    }
    let mut progress = Progress::new(observer, StartupStage::WarmingKeys, keys.len());
    while !keys.is_empty() {
        keys = stream::iter(keys)
            .map(|(endpoint, arguments)| async move {
                let warmed = read_through.warm(endpoint, arguments.clone()).await;
                let is_outage = warmed.is_err_and(|error| error.is_outage());
                is_outage.then_some((endpoint, arguments))
            })
            .buffer_unordered(LOADS_AT_ONCE)
            .inspect(|retry| {
                if retry.is_none() {
                    progress.advance();
                }
            })
            .filter_map(std::future::ready)
            .collect()
            .await;
        if let Some(wait) = keys
            .iter()
            .map(|(id, _)| read_through.inspect().retry_in(*id))
            .min()
        {
            tokio::time::sleep(wait.max(MIN_RETRY_WAIT)).await;
        }
    }
}

/// The keys that an endpoint's `warm_sql` finds. A row that is not a valid key is skipped: the data may
/// have changed since the configuration was checked.
async fn found(
    repository: &Repository,
    read_through: &ReadThrough,
    endpoint: &Endpoint,
) -> Vec<WarmKey> {
    let (Some(statement), Some(description)) = (
        &endpoint.warm.statement,
        read_through.inspect().description(endpoint.id),
    ) else {
        return Vec::new();
    };
    let description: Arc<Description> = description;
    let sql = statement.text();
    loop {
        match repository
            .texts(sql, endpoint.max_keys, endpoint.timeout)
            .await
        {
            Ok(rows) => {
                let keys = rows.iter();
                return keys
                    .filter_map(|texts| arguments(endpoint, &description.signature, texts).ok())
                    .map(|arguments| (endpoint.id, arguments))
                    .collect();
            }
            Err(error) if error.is_outage() => {
                let wait: Duration = repository.retry_in();
                tokio::time::sleep(wait.max(MIN_RETRY_WAIT)).await;
            }
            Err(error) => {
                read_through
                    .maintenance()
                    .report_failure(endpoint.id, error);
                return Vec::new();
            }
        }
    }
}
