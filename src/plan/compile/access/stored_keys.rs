//! `[access.keys]`

use std::time::Duration;

use super::super::limit::limit;
use super::super::{field, statement};
use crate::config::schema::StoredKeysSection;
use crate::config::{Field, Mistake, Report};
use crate::plan::StoredKeys;

/// As for probes.
const SHORTEST_EVERY: Duration = Duration::from_millis(100);

pub(super) fn stored_keys(
    field: &Field<StoredKeysSection>,
    report: &mut Report,
) -> Option<StoredKeys> {
    let section = field.given()?;
    let absent = [
        ("sql", section.value.sql.is_absent()),
        ("every", section.value.every.is_absent()),
    ];
    for (key, _) in absent.into_iter().filter(|(_, is_absent)| *is_absent) {
        report.push(
            Mistake::new(format!("[access.keys] has no `{key}`"))
                .at(&section.span, format!("`{key}` is missing"))
                .help(
                    "for example sql = \"SELECT name, sha256, scopes, claims, expires FROM larder_keys\" and \
                     every = \"10s\"",
                ),
        );
    }
    let every = field::duration("every", &section.value.every, SHORTEST_EVERY, report);
    let limit = limit(&section.value.limit, report);
    let sql = section.value.sql.given()?;
    let help = "it runs in the background, for all requests";
    let name = "the statement of [access.keys]";
    Some(StoredKeys {
        statement: statement::query_without_parameters(name, help, sql, report)?,
        every: every?.value,
        limit,
        sql: sql.clone(),
    })
}
