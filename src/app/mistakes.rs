//! What Postgres and the files reveal, as mistakes with their places in the configuration.

use super::{FileError, Rejection};
use crate::config::{Mistake, Report};
use crate::plan::{Endpoint, Finding, Mismatch, Plan, Subject};
use crate::repository::{Refusal, RepositoryError};

/// A file that cannot be used, shown where it is named.
pub fn unusable_file(plan: &Plan, error: &FileError) -> Report {
    let (subject, help) = match error {
        FileError::Tls(error) => (Subject::TlsFile(error.file), error.help),
        FileError::Issuer(error) => (
            Subject::IssuerKeys(error.issuer),
            "it must be a JWK set, {\"keys\": […]}, with a public key for one of `algorithms`; its path is \
             relative to the folder of config.toml",
        ),
    };
    let finding = Finding {
        help: Some(help.to_owned()),
        ..Finding::new(error.to_string())
    };
    plan.mistake(subject, &finding)
}

/// What cannot be served, shown where the configuration declares it.
///
/// # Errors
/// What keeps everything from being checked, where nothing else is wrong.
pub fn rejected(plan: &Plan, rejections: Vec<Rejection>) -> Result<Report, RepositoryError> {
    let mut report = Report::new();
    let mut other = None;
    for Rejection { subject, error } in rejections {
        match error {
            RepositoryError::Refused { refusal } => report.append(refused(plan, subject, refusal)),
            RepositoryError::Failed { refusal } => {
                let finding = Finding {
                    detail: refusal.detail,
                    ..Finding::new(format!(
                        "the query fails: {} ({})",
                        refusal.message, refusal.code
                    ))
                };
                report.append(plan.mistake(subject, &finding));
            }
            RepositoryError::RoleRefused { .. } => {
                let subject = if let Subject::Statement(id) = subject {
                    Subject::RunAs(id)
                } else {
                    subject
                };
                report.append(plan.mistake(subject, &Finding::new(error.to_string())));
            }
            RepositoryError::Unusable { mistakes } => {
                for mismatch in mistakes {
                    report.append(unusable(plan, subject, mismatch));
                }
            }
            // These concern the whole repository: one is enough, and what Postgres did find comes first.
            RepositoryError::Settings { .. }
            | RepositoryError::Unavailable { .. }
            | RepositoryError::TimedOut { .. }
            | RepositoryError::Cancelled { .. }
            | RepositoryError::SessionEnded { .. }
            | RepositoryError::TooManyRows { .. }
            | RepositoryError::ArgumentRefused { .. }
            | RepositoryError::Busy { .. }
            | RepositoryError::Outdated { .. } => other = other.or(Some(error)),
        }
    }
    match other {
        Some(error) if report.is_empty() => Err(error),
        Some(error) => {
            report.push(Mistake::new(format!(
                "not everything could be checked: {error}"
            )));
            Ok(report)
        }
        None => Ok(report),
    }
}

/// SQLSTATEs for a parameter whose type Postgres cannot determine, or determines to be two:
/// indeterminate_datatype and ambiguous_parameter.
const UNTYPED: [&str; 2] = ["42P18", "42P08"];

fn refused(plan: &Plan, subject: Subject, refusal: Refusal) -> Report {
    let is_untyped = UNTYPED.contains(&refusal.code.as_str());
    let subject = match (subject, is_untyped) {
        (Subject::Statement(id), true) => Subject::ParameterTypes(id),
        (subject, _) => subject,
    };
    let finding = Finding {
        detail: refusal.detail,
        position: refusal.position,
        ..Finding::new(format!(
            "Postgres refuses this statement: {}",
            refusal.message
        ))
    };
    plan.mistake(subject, &finding)
}

fn unusable(plan: &Plan, subject: Subject, mismatch: Mismatch) -> Report {
    let index_of = |endpoint: &Endpoint, name: &String| {
        let mut parameters = endpoint.parameters.iter();
        parameters.position(|parameter| parameter.name == *name)
    };
    let subject = match (subject, &mismatch.parameter) {
        (Subject::Statement(id), Some(name)) => {
            index_of(plan.endpoint(id), name).map_or(subject, |index| Subject::Parameter(id, index))
        }
        (subject, _) => subject,
    };
    plan.mistake(subject, &Finding::new(mismatch.text))
}
