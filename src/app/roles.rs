//! Whether Larder may become the roles of `run_as`.

use super::rejection::{Rejection, unusable};
use crate::plan::run_as::quoted;
use crate::plan::{Plan, Subject};
use crate::repository::{Repository, RoleStatus};

/// The roles that it may not become.
pub(super) async fn check(plan: &Plan, repository: &Repository) -> Vec<Rejection> {
    let mut rejections = Vec::new();
    for endpoint in plan.endpoints() {
        let Some(run_as) = &endpoint.run_as else {
            continue;
        };
        let subject = Subject::RunAs(endpoint.id);
        let statuses = repository.roles(&run_as.roles, endpoint.timeout).await;
        match statuses {
            Ok(statuses) => {
                let mistakes = statuses.iter().filter_map(role_mistake);
                rejections.extend(mistakes.map(|text| Rejection {
                    subject,
                    error: unusable(text),
                }));
            }
            Err(error) => rejections.push(Rejection { subject, error }),
        }
    }
    rejections
}

fn role_mistake(status: &RoleStatus) -> Option<String> {
    let (role, session_role) = (quoted(&status.role), quoted(&status.session_role));
    if !status.exists {
        return Some(format!(
            "there is no role {role}; CREATE ROLE {role} NOLOGIN, or correct `roles`"
        ));
    }
    (!status.is_allowed).then(|| {
        format!("Larder connects as {session_role}, which cannot become {role}; GRANT {role} TO {session_role}")
    })
}
