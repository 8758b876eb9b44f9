//! `larder check`: every mistake in a configuration, and what it would ask of Postgres.

mod demand;
mod report;

use std::path::Path;

use super::{Failure, load, misfits, say};
use crate::app::{self, Descriptions, Misfit};
use crate::plan::Plan;

/// With a way out, where Postgres could not be asked.
const UNCHECKED: &str = "the statements can not be checked (--offline looks at the file alone)";

/// Looks at the file alone.
pub(super) fn offline(config: &Path) -> Result<(), Failure> {
    let plan = load(config)?;
    let endpoints = match plan.endpoints().len() {
        1 => "1 endpoint".to_owned(),
        many => format!("{many} endpoints"),
    };
    say(&format!(
        "{}: no mistake in {endpoints}; not checked against Postgres\n{}",
        config.display(),
        report::cautions(&plan),
    ))?;
    Ok(())
}

/// Has Postgres prepare every statement.
pub(super) async fn described(config: &Path) -> Result<(), Failure> {
    let plan = load(config)?;
    let described = describe(&plan, UNCHECKED).await?;
    Ok(say(&report::of(&plan, &described, None))?)
}

/// Has Postgres prepare every statement and run it once. What fails then is a mistake; that the rest
/// is slow is said and no more, for the next run may be faster.
pub(super) async fn measured(config: &Path) -> Result<(), Failure> {
    let plan = load(config)?;
    let described = describe(&plan, UNCHECKED).await?;
    let measured = app::measure_all(&plan, &described).await;
    say(&report::of(&plan, &described, Some(&measured)))?;
    if measured.misfits.is_empty() {
        return Ok(());
    }
    let way_out = "the queries can not be measured (--no-measure has them prepared alone)";
    Err(failure(&plan, measured.misfits, way_out))
}

/// What Postgres says of every statement, or why it could not be asked.
pub(super) async fn describe(plan: &Plan, way_out: &'static str) -> Result<Descriptions, Failure> {
    let described = app::describe_all(plan).await;
    described.map_err(|found| failure(plan, found, way_out))
}

/// What Postgres found, or with a way out why it could not be asked.
fn failure(plan: &Plan, found: Vec<Misfit>, way_out: &'static str) -> Failure {
    match misfits(plan, found) {
        Failure::Other(error) => Failure::Other(error.context(way_out)),
        mistakes @ Failure::Mistakes(_) => mistakes,
    }
}
