//! Runs a probe's query, and makes its answer comparable.

use futures_util::{StreamExt, TryStreamExt};

use super::lease::Lease;
use super::rows::Raw;
use super::{RepositoryError, ValueType, bind};
use crate::plan::{Arguments, Mismatch};

/// The most rows and bytes that a probe may answer.
const PROBE_MAX: (usize, usize) = (1_000, 1024 * 1024);

/// A probe's answer. Two are equal if every row and value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeAnswer(Vec<u8>);

/// Whether a prepared statement of the session may be reused, though the tables may have changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepared {
    /// It may.
    Reuse,
    /// It is prepared again.
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
    // A type of an extension may have no binary form, but every type has a text form.
    if !columns.all(|column| ValueType::from_oid(column.type_().oid()).is_some()) {
        let as_text = format!("SELECT ROW(larder.*)::text FROM (\n{sql}\n) AS larder");
        statement = prepare(&as_text).await?;
    }
    let nothing = Arguments::none();
    let rows = lease.query_raw(&statement, bind::parameters(&nothing, 0));
    let rows = collect(rows.await?).await?;
    let mut answer = Vec::new();
    for row in rows {
        for at in 0..row.len() {
            let value = row.get::<_, Raw<'_>>(at).0;
            // The length distinguishes ("a", "bc") from ("ab", "c"), and NULL from an empty value.
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
            "the probe returns more than {} rows or {} bytes; return a single value, such as max(changed)",
            PROBE_MAX.0, PROBE_MAX.1
        ))],
    }
}
