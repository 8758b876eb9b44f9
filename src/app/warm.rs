//! Keys that are named to be there before anyone asks: `warm`, `warm_sql`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use super::bring_up::{Culprit, Misfit, RETRY_AT_LEAST, WARMED_AT_ONCE};
use super::progress::Progress;
use crate::observe::{BringUpStage, Observer};
use crate::plan::{Arguments, Endpoint, EndpointId, Mismatch, Plan, Signature};
use crate::read_through::ReadThrough;
use crate::repository::{Description, NamedTexts, Repository, RepositoryError};

/// A key to be warmed.
pub(super) type Named = (EndpointId, Arguments);

/// The keys that the configuration names itself.
pub(super) fn written(
    endpoint: &Endpoint,
    description: &Description,
) -> Result<Vec<Named>, Vec<Misfit>> {
    let mut keys = Vec::new();
    let mut misfits = Vec::new();
    for (index, texts) in endpoint.warm.arguments.iter().enumerate() {
        match arguments(endpoint, &description.signature, texts) {
            Ok(arguments) => keys.push((endpoint.id, arguments)),
            Err(mistake) => misfits.push(Misfit {
                culprit: Culprit::WarmArguments(endpoint.id, index),
                error: RepositoryError::Unusable {
                    mistakes: vec![Mismatch::of_statement(mistake)],
                },
            }),
        }
    }
    if misfits.is_empty() {
        Ok(keys)
    } else {
        Err(misfits)
    }
}

/// Arguments to try an endpoint with, and what names them: the first of its keys, or else a request
/// that leaves out whatever it may; nothing where that makes no key.
pub(super) async fn example(
    repository: &Repository,
    endpoint: &Endpoint,
    description: &Description,
) -> Result<Option<(Arguments, Culprit)>, RepositoryError> {
    let signature = &description.signature;
    let read = |texts: &NamedTexts| arguments(endpoint, signature, texts).ok();
    if let Some(key) = endpoint.warm.arguments.first().and_then(read) {
        return Ok(Some((key, Culprit::WarmArguments(endpoint.id, 0))));
    }
    if let Some(statement) = &endpoint.warm.statement {
        let rows = repository.texts(statement.text(), 1, endpoint.timeout);
        if let Some(key) = rows.await?.first().and_then(read) {
            return Ok(Some((key, Culprit::WarmStatement(endpoint.id))));
        }
    }
    Ok(read(&NamedTexts::new()).map(|key| (key, Culprit::Endpoint(endpoint.id))))
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

/// Whether the columns of an endpoint's `warm_sql` are its parameters.
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
    let known = |name: &String| endpoint.parameters.iter().any(|p| p.name == *name);
    let mistakes: Vec<Mismatch> = columns
        .iter()
        .filter(|name| !known(name))
        .map(|name| {
            Mismatch::of_statement(format!(
                "`warm_sql` has a column `{name}`, and the endpoint has no such parameter"
            ))
        })
        .collect();
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(RepositoryError::Unusable { mistakes })
    }
}

/// Loads every named key, and keeps trying while Postgres is away. What else keeps a key from being
/// loaded is told by the load itself.
pub(super) async fn warm_until_done(
    plan: &Plan,
    repository: &Repository,
    read_through: &ReadThrough,
    observer: &Observer,
    written: Vec<Named>,
) {
    let mut keys = written;
    for endpoint in plan.endpoints() {
        keys.extend(found(repository, read_through, endpoint).await);
    }
    let mut progress = Progress::new(observer, BringUpStage::WarmingKeys, keys.len());
    while !keys.is_empty() {
        keys = stream::iter(keys)
            .map(|(endpoint, arguments)| async move {
                let warmed = read_through.warm(endpoint, arguments.clone()).await;
                let is_outage = warmed.is_err_and(|error| error.is_outage());
                is_outage.then_some((endpoint, arguments))
            })
            .buffer_unordered(WARMED_AT_ONCE)
            .inspect(|still_to_do| {
                if still_to_do.is_none() {
                    progress.advance();
                }
            })
            .filter_map(std::future::ready)
            .collect()
            .await;
        if let Some(wait) = keys.iter().map(|(id, _)| read_through.retry_in(*id)).min() {
            tokio::time::sleep(wait.max(RETRY_AT_LEAST)).await;
        }
    }
}

/// The keys that an endpoint's `warm_sql` finds now. A row that is no key is left out: the data have
/// changed since the operator looked.
async fn found(
    repository: &Repository,
    read_through: &ReadThrough,
    endpoint: &Endpoint,
) -> Vec<Named> {
    let (Some(statement), Some(description)) = (
        &endpoint.warm.statement,
        read_through.description(endpoint.id),
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
                tokio::time::sleep(wait.max(RETRY_AT_LEAST)).await;
            }
            Err(error) => {
                read_through.tell_failed(endpoint.id, error);
                return Vec::new();
            }
        }
    }
}
