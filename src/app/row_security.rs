//! Whether row-level security is there where the configuration relies on it: a table that nothing protects
//! looks like one whose policies allow everything.

use super::preflight::Descriptions;
use super::rejection::{Rejection, unusable};
use crate::plan::run_as::quoted;
use crate::plan::{Endpoint, Plan, Subject};
use crate::repository::{Bypass, ProtectedTable};

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
        rejections.extend(session_value_mistake(endpoint).map(reject));
        let description = descriptions.of(endpoint.id);
        match repository.protected_tables(endpoint, description).await {
            Ok(tables) => {
                let mut mistakes: Vec<_> = tables
                    .iter()
                    .filter_map(|table| table_mistake(endpoint, table))
                    .collect();
                mistakes.dedup();
                rejections.extend(mistakes.into_iter().map(reject));
            }
            Err(error) => rejections.push(Rejection { subject, error }),
        }
    }
    rejections
}

fn session_value_mistake(endpoint: &Endpoint) -> Option<String> {
    let value = endpoint.statement.session_value()?;
    endpoint.run_as.is_none().then(|| {
        format!(
            "`{value}` is the same for all callers, since this endpoint has no `run_as`; add `run_as`, or use a \
             parameter with a `claim`"
        )
    })
}

/// A claim in the statement shows that its author restricts the rows there.
fn table_mistake(endpoint: &Endpoint, protected: &ProtectedTable) -> Option<String> {
    let ProtectedTable { table, role, .. } = protected;
    if endpoint.run_as.is_none() {
        return endpoint.claims().next().is_none().then(|| {
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
