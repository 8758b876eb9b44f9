//! `:name` placeholders in SQL.

/// One statement, ready to prepare.
#[derive(Debug)]
pub struct Statement {}
