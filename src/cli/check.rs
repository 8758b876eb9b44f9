//! `larder check`: every mistake in a configuration, and the load it puts on Postgres.

mod demand;
mod report;

use std::path::Path;

use super::{Failure, load, print};
use crate::app::{self, Descriptions, Rejection};
use crate::plan::Plan;

/// Context for an error that kept Postgres from checking anything.
const UNCHECKED: &str = "the statements cannot be checked (--offline checks only the file)";

/// Checks only the file.
pub(super) fn offline(config: &Path) -> Result<(), Failure> {
    let plan = load(config)?;
    let endpoints = match plan.endpoints().len() {
        1 => "1 endpoint".to_owned(),
        many => format!("{many} endpoints"),
    };
    print(&format!(
        "{}: no mistakes in {endpoints}; not checked against Postgres\n{}",
        config.display(),
        report::general_warnings(&plan),
    ))?;
    Ok(())
}

/// Has Postgres prepare every statement.
pub(super) async fn described(config: &Path) -> Result<(), Failure> {
    let plan = load(config)?;
    let described = describe(&plan, UNCHECKED).await?;
    print(&report::of(&plan, &described, None))?;
    let rejections = app::check_row_security(&plan, &described).await;
    if rejections.is_empty() {
        return Ok(());
    }
    Err(failure(&plan, rejections, UNCHECKED))
}

/// Has Postgres prepare every statement and run it once. A failure is a mistake; a slow query is only a
/// warning, since the next run may be faster.
pub(super) async fn measured(config: &Path) -> Result<(), Failure> {
    let plan = load(config)?;
    let described = describe(&plan, UNCHECKED).await?;
    let measured = app::measure_all(&plan, &described).await;
    print(&report::of(&plan, &described, Some(&measured)))?;
    let mut rejections = app::check_row_security(&plan, &described).await;
    rejections.extend(measured.rejections);
    if rejections.is_empty() {
        return Ok(());
    }
    let alternative = "the queries cannot be measured (--no-measure only prepares them)";
    Err(failure(&plan, rejections, alternative))
}

/// Has Postgres describe every statement; where it cannot be asked, the error names the `alternative`.
pub(super) async fn describe(
    plan: &Plan,
    alternative: &'static str,
) -> Result<Descriptions, Failure> {
    let described = app::describe_all(plan).await;
    described.map_err(|rejections| failure(plan, rejections, alternative))
}

fn failure(plan: &Plan, rejections: Vec<Rejection>, alternative: &'static str) -> Failure {
    match app::rejected(plan, rejections) {
        Ok(mistakes) => Failure::Mistakes(mistakes),
        Err(error) => Failure::Other(anyhow::Error::from(error).context(alternative)),
    }
}
