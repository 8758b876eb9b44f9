//! Runs a transaction as a role, with settings that hold the caller's claims: row-level security.
//!
//! `set_config(…, true)` lasts until the end of the transaction, which is a rollback. Everything is pipelined:
//! the transaction's beginning, the role, the statement and the end take one round trip. If the role cannot be
//! set, the transaction has failed, and Postgres ignores the statement behind it.
//!
//! A setting that was set once is `''` in later transactions of the session, and no longer NULL. No answer
//! depends on that: an endpoint that reads a setting sets it each time, or `larder check` reports it.

use std::fmt::Write;

use tokio_postgres::types::{ToSql, Type};

use super::RepositoryError;
use super::bind::Text;
use super::disclosure::Disclosure;
use super::lease::Lease;
use crate::plan::{Arguments, Endpoint};

/// The role of a transaction, and its settings.
pub(super) struct Identity<'a> {
    /// Names and values: the role first.
    assignments: Vec<(&'a str, &'a str)>,
}

impl<'a> Identity<'a> {
    /// That of a load with these arguments; `None` if the endpoint leaves the session's role.
    pub(super) fn of_load(endpoint: &'a Endpoint, arguments: &'a Arguments) -> Option<Self> {
        let run_as = endpoint.run_as.as_ref()?;
        let values = arguments.caller_values(endpoint.parameters.len());
        let assignments = run_as.assignments(values);
        Some(Self { assignments })
    }

    /// That in which the statement is described: names and types are the same for all of the roles.
    pub(super) fn of_description(endpoint: &'a Endpoint) -> Option<Self> {
        let role = endpoint.run_as.as_ref()?.first_role();
        let assignments = vec![("role", role)];
        Some(Self { assignments })
    }

    /// Its name.
    pub(super) fn role(&self) -> &'a str {
        self.assignments.first().map_or("", |(_, role)| role)
    }

    /// Sets it in the transaction that was begun. What is sent after the first poll runs with it, or not at all.
    pub(super) async fn assume(
        &self,
        lease: &Lease,
        disclosure: Disclosure,
    ) -> Result<(), RepositoryError> {
        lease.mark_identity();
        let sql = sql(self.assignments.len());
        let texts: Vec<Text<'_>> = self.assignments.iter().flat_map(bound).collect();
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> = texts
            .iter()
            .map(|text| (text as &(dyn ToSql + Sync), Type::TEXT))
            .collect();
        let set = lease.query_typed(&sql, &parameters).await;
        set.map(drop).map_err(|error| {
            let error = RepositoryError::of_session(&error, disclosure);
            error.or_refused(|refusal| RepositoryError::RoleRefused {
                role: self.role().into(),
                refusal,
            })
        })
    }
}

fn bound<'a>((name, value): &(&'a str, &'a str)) -> [Text<'a>; 2] {
    [Text::new(name), Text::new(value)]
}

/// Sets this many names to values.
fn sql(assignments: usize) -> String {
    let mut sql = "SELECT ".to_owned();
    for at in 0..assignments {
        let comma = if at == 0 { "" } else { ", " };
        let (name, value) = (2 * at + 1, 2 * at + 2);
        // Writing to a String does not fail.
        let _ = write!(sql, "{comma}pg_catalog.set_config(${name}, ${value}, true)");
    }
    sql
}

/// Begins a transaction with this identity.
pub(super) async fn begin(
    lease: &Lease,
    identity: Option<&Identity<'_>>,
    disclosure: Disclosure,
) -> Result<(), RepositoryError> {
    let assuming = async {
        match identity {
            Some(identity) => identity.assume(lease, disclosure).await,
            None => Ok(()),
        }
    };
    let (begun, assumed) = tokio::join!(biased; lease.begin(), assuming);
    begun?;
    assumed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_bound() {
        assert_eq!(
            sql(2),
            "SELECT pg_catalog.set_config($1, $2, true), pg_catalog.set_config($3, $4, true)"
        );
    }
}
