//! Runs `warm_sql`, whose rows are keys: names and texts.

use super::RepositoryError;
use super::lease::Lease;

/// A row as names and texts; NULLs are left out.
pub type NamedTexts = Vec<(String, String)>;

/// The columns of a statement.
pub(super) async fn columns(lease: &Lease, sql: &str) -> Result<Vec<String>, RepositoryError> {
    let statement = lease.prepare(sql).await?;
    let columns = statement.columns().iter();
    Ok(columns.map(|column| column.name().to_owned()).collect())
}

/// At most `max_rows` rows of a statement, each value in Postgres's text format.
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
