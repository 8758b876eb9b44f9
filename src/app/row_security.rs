//! Whether row-level security is there where the configuration relies on it: a table that nothing protects
//! looks like one whose policies allow everything.

use super::preflight::Descriptions;
use super::rejection::{Rejection, unusable};
use crate::plan::run_as::quoted;
use crate::plan::sql::SessionValue;
use crate::plan::{Endpoint, Plan, Subject};
use crate::repository::{Bypass, ProtectedTable, UnprotectedParent};

/// What each statement would show to callers who should not see it.
pub async fn check_row_security(plan: &Plan, descriptions: &Descriptions) -> Vec<Rejection> {
    let repository = descriptions.repository();
    let mut rejections = Vec::new();
    for endpoint in plan.endpoints() {
        let subject = Subject::Statement(endpoint.id);
        let reject = |text| Rejection {
            subject,
            error: unusable(text),
        };
        let values = endpoint.statement.session_values().iter();
        let mut mistakes = values.filter_map(|value| session_value_mistake(endpoint, value));
        rejections.extend(mistakes.next().map(reject));
        let description = descriptions.of(endpoint.id);
        match repository.row_security(endpoint, description).await {
            Ok(reached) => {
                let tables = reached.tables.iter();
                let tables = tables.filter_map(|table| table_mistake(endpoint, table));
                let parents = reached.parents.iter();
                let parents = parents.filter_map(|parent| parent_mistake(endpoint, parent));
                let mut mistakes: Vec<_> = tables.chain(parents).collect();
                mistakes.dedup();
                rejections.extend(mistakes.into_iter().map(reject));
            }
            Err(error) => rejections.push(Rejection { subject, error }),
        }
    }
    rejections
}

/// Without `run_as`, no caller has a value of its own. With it, only the settings that it sets are the caller's:
/// another one is NULL or empty, depending on what ran in the session before.
fn session_value_mistake(endpoint: &Endpoint, value: &SessionValue) -> Option<String> {
    let written = match value {
        SessionValue::Role(word) => word.clone(),
        SessionValue::Setting(name) => format!("current_setting('{name}')"),
        SessionValue::AnySetting => "current_setting()".to_owned(),
    };
    let Some(run_as) = &endpoint.run_as else {
        return Some(format!(
            "`{written}` is the same for all callers, since this endpoint has no `run_as`; add `run_as`, or use a \
             parameter with a `claim`"
        ));
    };
    let SessionValue::Setting(name) = value else {
        return None;
    };
    let mut settings = run_as.settings.iter();
    let is_set = settings.any(|setting| setting.name.eq_ignore_ascii_case(name));
    (!is_set).then(|| {
        format!(
            "`{written}` says nothing about the caller, since `run_as` of this endpoint does not set it; add \
             \"{name}\" to its `settings`"
        )
    })
}

/// A claim in the statement shows that its author restricts the rows there.
fn restricts_rows_itself(endpoint: &Endpoint) -> bool {
    endpoint.run_as.is_none() && endpoint.claims().next().is_some()
}

fn table_mistake(endpoint: &Endpoint, protected: &ProtectedTable) -> Option<String> {
    let ProtectedTable { table, role, .. } = protected;
    if endpoint.run_as.is_none() {
        return (!restricts_rows_itself(endpoint)).then(|| {
            format!(
                "{table} has row-level security, but this endpoint has neither `run_as` nor a parameter with a \
                 `claim`, so all callers get the rows of Larder's own role; add one of them"
            )
        });
    }
    let role = quoted(role);
    let (reason, way_out) = match protected.bypass? {
        Bypass::Superuser => ("a superuser", "use a role that is none".to_owned()),
        Bypass::Attribute => (
            "a role with BYPASSRLS",
            format!("ALTER ROLE {role} NOBYPASSRLS"),
        ),
        Bypass::Owner => (
            "the owner of the table",
            format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY"),
        ),
    };
    Some(match &protected.view {
        None => {
            format!("row-level security of {table} does not apply to {role}, {reason}; {way_out}")
        }
        Some(view) => format!(
            "the view {view} reads {table} with the rights of {role}, {reason}, to whom its row-level security \
             does not apply; ALTER VIEW {view} SET (security_invoker = true), which Postgres has since \
             version 15, or give the view another owner"
        ),
    })
}

fn parent_mistake(endpoint: &Endpoint, unprotected: &UnprotectedParent) -> Option<String> {
    let UnprotectedParent { parent, child } = unprotected;
    (!restricts_rows_itself(endpoint)).then(|| {
        format!(
            "row-level security of {child} does not apply, because it is read through {parent}, which has none; \
             ALTER TABLE {parent} ENABLE ROW LEVEL SECURITY, and give it the policies"
        )
    })
}
