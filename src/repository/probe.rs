//! Small queries beside the endpoints': probes, and the keys to be warmed. Their answers are text.

use futures_util::{StreamExt, TryStreamExt};

use super::lease::Lease;
use super::rows::Raw;
use super::{RepositoryError, ValueType, bind};
use crate::plan::{Arguments, Mismatch};

/// Rows and bytes of a probe's answer that are compared. A probe that says more is no probe.
const PROBE_MAX: (usize, usize) = (1_000, 1024 * 1024);

/// What a probe answered: equal when the answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeAnswer(Vec<u8>);

/// A row of names and texts; NULLs are left out.
pub type NamedTexts = Vec<(String, String)>;

/// Whether a statement may be older than the tables it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepared {
    /// As the session has it.
    Before,
    /// It has to be prepared again.
    Again,
}

pub(super) async fn probe(
    lease: &Lease,
    sql: &str,
    prepared: Prepared,
) -> Result<ProbeAnswer, RepositoryError> {
    let prepare = async |sql: &str| {
        if prepared == Prepared::Again {
            lease.statement_cache.remove(sql, &[]);
        }
        lease.prepare_cached(sql).await
    };
    let mut statement = prepare(sql).await?;
    let mut columns = statement.columns().iter();
    // What others have made may have no binary form, but everything has a text.
    if !columns.all(|column| ValueType::from_oid(column.type_().oid()).is_some()) {
        let as_text = format!("SELECT ROW(larder.*)::text FROM (\n{sql}\n) AS larder");
        statement = prepare(&as_text).await?;
    }
    let nothing = Arguments::none();
    let rows = lease.query_raw(&statement, bind::parameters(&nothing));
    let rows = collect(rows.await?).await?;
    let mut answer = Vec::new();
    for row in rows {
        for at in 0..row.len() {
            let value = row.get::<_, Raw<'_>>(at).0;
            // The length tells ("a", "bc") from ("ab", "c"), and NULL from nothing.
            let length = value.map_or(-1, |value| value.len() as i64);
            answer.extend_from_slice(&length.to_be_bytes());
            answer.extend_from_slice(value.unwrap_or_default());
        }
        if answer.len() > PROBE_MAX.1 {
            return Err(too_much());
        }
    }
    Ok(ProbeAnswer(answer))
}

async fn collect(
    rows: tokio_postgres::RowStream,
) -> Result<Vec<tokio_postgres::Row>, RepositoryError> {
    let rows: Vec<_> = Box::pin(rows.take(PROBE_MAX.0 + 1)).try_collect().await?;
    if rows.len() > PROBE_MAX.0 {
        return Err(too_much());
    }
    Ok(rows)
}

fn too_much() -> RepositoryError {
    RepositoryError::Unusable {
        mistakes: vec![Mismatch::of_statement(format!(
            "the probe answers more than {} rows or {} bytes; have it say one thing, as max(changed)",
            PROBE_MAX.0, PROBE_MAX.1
        ))],
    }
}

/// The columns of a statement.
pub(super) async fn columns(lease: &Lease, sql: &str) -> Result<Vec<String>, RepositoryError> {
    let statement = lease.prepare(sql).await?;
    let columns = statement.columns().iter();
    Ok(columns.map(|column| column.name().to_owned()).collect())
}

/// At most so many rows of a statement, each value as Postgres writes it.
pub(super) async fn texts(
    lease: &Lease,
    sql: &str,
    max_rows: u64,
) -> Result<Vec<NamedTexts>, RepositoryError> {
    let names = columns(lease, sql).await?;
    let places: Vec<String> = (0..names.len()).map(|at| format!("c{at}")).collect();
    let outputs: Vec<String> = places
        .iter()
        .map(|place| format!("{place}::text"))
        .collect();
    let (outputs, places) = (outputs.join(", "), places.join(", "));
    let sql = format!("SELECT {outputs} FROM (\n{sql}\n) AS larder({places}) LIMIT {max_rows}");
    let rows = lease.query(&sql, &[]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let texts = names.iter().enumerate();
            texts
                .filter_map(|(at, name)| Some((name.clone(), row.get::<_, Option<String>>(at)?)))
                .collect()
        })
        .collect())
}
