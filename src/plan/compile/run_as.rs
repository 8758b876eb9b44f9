//! `run_as` of an endpoint: the roles, and the settings that hold claims.

use crate::config::field::NamedLists;
use crate::config::schema::{EndpointSection, RunAsSection};
use crate::config::{At, Field, Mistake, Report, Span};
use crate::plan::run_as::{ClaimSetting, ROLE_NAME, RunAs, is_role_name, is_setting_name};
use crate::plan::{Access, AccessSettings};

const ROLES_HELP: &str = "for example roles = [\"web_user\"]";
const SETTING_HELP: &str =
    "use a name with a dot, such as \"request.jwt.claims\" or \"app.claims\"";

/// What the section means; `None` without `run_as`, or if it has no role.
pub(super) fn read(
    section: &EndpointSection,
    access: &Access,
    settings: Option<&At<AccessSettings>>,
    report: &mut Report,
) -> Option<RunAs> {
    let At { value, span } = section.run_as.given()?;
    let run_as = RunAs {
        roles: roles(value, span, report),
        role_claim: role_claim(value, report),
        settings: claim_settings(&value.settings, report),
    };
    if run_as.roles.len() > 1 && value.role_claim.is_absent() {
        report.push(
            Mistake::new("`run_as` lists several roles, and nothing chooses one of them")
                .at(span, "`role_claim` is missing")
                .help("name the claim that has the caller's role: role_claim = \"role\""),
        );
    }
    let needs_caller = !value.role_claim.is_absent() || !value.settings.is_absent();
    if needs_caller && !access.needs_credential() {
        let help = match settings {
            None => "declare [access] with a key first",
            Some(_) => "set access = { scopes = [] } on this endpoint",
        };
        report.push(
            Mistake::new("`run_as` needs claims on an endpoint that anybody may ask")
                .at(span, "a request without a credential has no claims")
                .help(help),
        );
    }
    if needs_caller {
        check_parameter_names(section, report);
    }
    Some(run_as).filter(|run_as| !run_as.roles.is_empty())
}

/// Whether answers depend on the caller because of `run_as`. What is wrong in it counts as present.
pub(super) fn depends_on_caller(section: &EndpointSection) -> bool {
    match &section.run_as {
        Field::Absent => false,
        Field::Wrong => true,
        Field::Given(run_as) => {
            !run_as.value.role_claim.is_absent() || !run_as.value.settings.is_absent()
        }
    }
}

fn roles(section: &RunAsSection, span: &Span, report: &mut Report) -> Vec<String> {
    if section.roles.is_absent() {
        report.push(
            Mistake::new("`run_as` has no `roles`")
                .at(span, "`roles` is missing")
                .help(ROLES_HELP),
        );
    }
    let Some(listed) = section.roles.given() else {
        return Vec::new();
    };
    if listed.value.is_empty() {
        report.push(
            Mistake::new("`roles` is empty")
                .at(&listed.span, "lists no role")
                .help(ROLES_HELP),
        );
    }
    for role in listed
        .value
        .iter()
        .filter(|role| !is_role_name(&role.value))
    {
        report.push(
            Mistake::new("this cannot be the name of a role")
                .at(&role.span, "no role of Postgres has this name")
                .help("up to 63 bytes, exactly as in pg_roles, and not `none` or `public`"),
        );
    }
    check_repeated("role", &listed.value, |role| role.clone(), report);
    listed.value.iter().map(|role| role.value.clone()).collect()
}

fn role_claim(section: &RunAsSection, report: &mut Report) -> Option<String> {
    let claim = section.role_claim.given()?;
    check_claim("`role_claim` is empty", claim, report);
    Some(claim.value.clone())
}

fn claim_settings(field: &Field<NamedLists>, report: &mut Report) -> Vec<ClaimSetting> {
    let Some(settings) = field.given() else {
        return Vec::new();
    };
    if settings.value.is_empty() {
        report.push(
            Mistake::new("`settings` is empty")
                .at(&settings.span, "sets nothing")
                .help("remove it, or set claims: { \"request.jwt.claims\" = [\"sub\"] }"),
        );
    }
    let names: Vec<_> = settings
        .value
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    for name in &names {
        check_setting_name(name, report);
    }
    // As in Postgres, the case of ASCII letters makes no difference.
    check_repeated("setting", &names, |name| name.to_ascii_lowercase(), report);
    let settings = settings.value.iter().map(|(name, listed)| {
        if listed.value.is_empty() {
            report.push(
                Mistake::new(format!("`{}` lists no claim", name.value))
                    .at(&listed.span, "would always be {}")
                    .help("list the claims that the SQL or its policies read: [\"sub\"]"),
            );
        }
        for claim in &listed.value {
            check_claim("this claim has no name", claim, report);
        }
        check_repeated("claim", &listed.value, |claim| claim.clone(), report);
        let mut claims: Vec<_> = listed.value.iter().map(|at| at.value.clone()).collect();
        claims.sort_unstable();
        ClaimSetting {
            name: name.value.clone(),
            claims,
        }
    });
    settings.collect()
}

fn check_setting_name(name: &At<String>, report: &mut Report) {
    if is_setting_name(&name.value) {
        return;
    }
    let mistake = if name.value.eq_ignore_ascii_case("role") {
        Mistake::new("`role` is not a setting of claims")
            .at(&name.span, "a claim could become any role")
            .help("list the roles as `roles`, and name the claim as `role_claim`")
    } else if name.value.contains('.') {
        Mistake::new("this is not a valid name of a setting")
            .at(&name.span, "Postgres would refuse it")
            .help("letters, digits, `_` and `$`, with dots between words that begin with a letter")
    } else {
        Mistake::new("this is not a setting of claims")
            .at(
                &name.span,
                "a name without a dot is a setting of Postgres itself",
            )
            .help(SETTING_HELP)
    };
    report.push(mistake);
}

fn check_claim(message: &str, claim: &At<String>, report: &mut Report) {
    if claim.value.is_empty() {
        report.push(Mistake::new(message).at(&claim.span, "names no claim"));
    }
}

fn check_repeated(
    what: &str,
    listed: &[At<String>],
    identity: impl Fn(&String) -> String,
    report: &mut Report,
) {
    for (index, at) in listed.iter().enumerate() {
        let mut before = listed.iter().take(index);
        let is_same = |other: &&At<String>| identity(&other.value) == identity(&at.value);
        if let Some(first) = before.find(is_same) {
            report.push(
                Mistake::new(format!("this {what} is listed twice"))
                    .at(&at.span, "has no effect")
                    .at(&first.span, "first listed here")
                    .help("remove one of them"),
            );
        }
    }
}

/// In `warm`, the role and the parameters are named side by side. A setting's name has a dot, which no
/// parameter has.
fn check_parameter_names(section: &EndpointSection, report: &mut Report) {
    let mut names = section.params.iter().map(|param| &param.name);
    if let Some(name) = names.find(|name| name.value == ROLE_NAME) {
        report.push(
            Mistake::new("a parameter is named `run_as` on an endpoint with `run_as`")
                .at(&name.span, "in `warm`, this names the role")
                .help("rename the parameter"),
        );
    }
}
