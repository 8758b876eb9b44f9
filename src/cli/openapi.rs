//! `larder openapi`: the OpenAPI document on stdout.

use std::path::Path;

use super::{Failure, check, load, print};
use crate::app;

/// Prints the document.
pub(super) async fn openapi(config: &Path, server: Option<&str>) -> Result<(), Failure> {
    let plan = load(config)?;
    let described =
        check::describe(&plan, "the types of the statements cannot be determined").await?;
    let document = app::openapi(&plan, &described, server);
    Ok(print(&format!("{document}\n"))?)
}
