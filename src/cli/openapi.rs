//! `larder openapi`: the contract on stdout.

use std::path::Path;

use super::{Failure, check, load, say};
use crate::app;

/// Prints the document.
pub(super) async fn openapi(config: &Path, server: Option<&str>) -> Result<(), Failure> {
    let plan = load(config)?;
    let described =
        check::describe(&plan, "the types of the statements can not be found out").await?;
    let document = app::openapi(&plan, &described, server);
    Ok(say(&format!("{document}\n"))?)
}
