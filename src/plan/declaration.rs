//! Where the parts of an endpoint are written, for mistakes that are found after compilation.

use super::Statement;
use crate::config::{At, Span};

/// The parts of an endpoint that only Postgres can find wrong.
#[derive(Debug)]
pub(super) struct EndpointDeclaration {
    pub(super) sql: At<String>,
    /// The names under `params`, and where each is written.
    pub(super) parameters: Vec<(String, Span)>,
    /// The keys of `warm`.
    pub(super) warm: Vec<Span>,
    pub(super) warm_sql: Option<At<String>>,
    pub(super) run_as: Option<Span>,
}

/// A probe, where it is written first.
#[derive(Debug)]
pub(super) struct ProbeDeclaration {
    pub(super) sql: At<String>,
    pub(super) statement: Statement,
}
