//! `warm` and `warm_sql`: the keys to load at startup. Their texts are checked once Postgres has described
//! the types of the parameters.

use std::collections::HashMap;

use super::policy::ResolvedPolicy;
use super::statement;
use crate::config::field::NamedTexts;
use crate::config::schema::EndpointSection;
use crate::config::suggest;
use crate::config::{At, Mistake, Report, Span};
use crate::plan::{Parameter, Presence, RunAs, Warm};

/// Reports keys of an endpoint without parameters.
pub(super) fn check_absent(section: &EndpointSection, report: &mut Report) {
    let warm = section.warm.given().map(|at| ("warm", &at.span));
    let warm_sql = section.warm_sql.given().map(|at| ("warm_sql", &at.span));
    for (key, span) in warm.into_iter().chain(warm_sql) {
        report.push(
            Mistake::new(format!("`{key}` on an endpoint without parameters"))
                .at(span, "has no effect")
                .help("remove it: the only answer is loaded at startup in any case"),
        );
    }
}

/// The keys of an endpoint with these parameters; `None` if they are not known.
pub(super) fn read(
    section: &EndpointSection,
    parameters: Option<&[Parameter]>,
    run_as: Option<&RunAs>,
    policy: &ResolvedPolicy,
    report: &mut Report,
) -> Warm {
    let statement = section.warm_sql.given().and_then(|sql| {
        let help = "each row is a key, and its columns are named like the endpoint's parameters";
        statement::query_without_parameters("`warm_sql`", help, sql, report)
    });
    let Some(keys) = section.warm.given() else {
        return Warm {
            arguments: Vec::new(),
            statement,
        };
    };
    if keys.value.is_empty() {
        report.push(
            Mistake::new("`warm` is empty")
                .at(&keys.span, "lists no keys")
                .help("remove it, or list the keys to load at startup: [{ country = \"USA\" }]"),
        );
    }
    check_room(keys, policy, report);
    if let Some(parameters) = parameters {
        for key in &keys.value {
            check_names(key, parameters, run_as, report);
        }
    }
    check_repeated(&keys.value, report);
    let texts = |(name, text): &(At<String>, At<String>)| (name.value.clone(), text.value.clone());
    Warm {
        arguments: keys
            .value
            .iter()
            .map(|key| key.value.iter().map(texts).collect())
            .collect(),
        statement,
    }
}

/// If not all keys fit, some would be evicted before any request.
fn check_room(keys: &At<Vec<At<NamedTexts>>>, policy: &ResolvedPolicy, report: &mut Report) {
    let count = keys.value.len();
    if count as u64 <= policy.max_keys {
        return;
    }
    let mistake = Mistake::new("`warm` lists more keys than `max_keys` allows")
        .at(&keys.span, format!("{count} keys"))
        .help("raise `max_keys`, or list only the keys that are requested most");
    report.push(match &policy.max_keys_written {
        Some(written) => mistake.at(written, "no more keys are kept"),
        None => mistake.note(format!("`max_keys` is {}", policy.max_keys)),
    });
}

fn check_names(
    key: &At<NamedTexts>,
    parameters: &[Parameter],
    run_as: Option<&RunAs>,
    report: &mut Report,
) {
    let of_caller = || run_as.into_iter().flat_map(RunAs::names);
    let known = || {
        let parameters = parameters.iter().map(|parameter| parameter.name.as_str());
        parameters.chain(of_caller())
    };
    let mut is_misspelled = false;
    for (name, _) in &key.value {
        if known().any(|known| known == name.value) {
            continue;
        }
        is_misspelled = true;
        let mistake = Mistake::new(format!("there is no parameter `{}`", name.value))
            .at(&name.span, "not a parameter of this endpoint");
        report.push(match suggest::nearest(&name.value, known()) {
            Some(near) => mistake.help(format!("did you mean `{near}`?")),
            None => mistake.help(format!("the parameters are {}", suggest::list(known()))),
        });
    }
    // A misspelled name would also be reported as missing.
    if is_misspelled {
        return;
    }
    let is_given = |name: &str| key.value.iter().any(|(given, _)| given.value == name);
    let required = parameters
        .iter()
        .filter(|p| p.presence == Presence::Required);
    let required = required.map(|parameter| parameter.name.as_str());
    let missing = |name: &str, help: &str| {
        Mistake::new(format!("this key has no `{name}`"))
            .at(&key.span, format!("`{name}` is missing"))
            .help(help)
    };
    for name in required.filter(|name| !is_given(name)) {
        report.push(missing(name, "a key must have every required parameter"));
    }
    for name in of_caller().filter(|name| !is_given(name)) {
        report.push(missing(
            name,
            "a key must have the role and every setting of `run_as` that depend on the caller",
        ));
    }
}

fn check_repeated(keys: &[At<NamedTexts>], report: &mut Report) {
    let mut first: HashMap<Vec<(&str, &str)>, &Span> = HashMap::new();
    for key in keys {
        let mut texts: Vec<(&str, &str)> = key
            .value
            .iter()
            .map(|(name, text)| (name.value.as_str(), text.value.as_str()))
            .collect();
        texts.sort_unstable();
        if let Some(first) = first.get(&texts) {
            report.push(
                Mistake::new("this key is listed twice")
                    .at(&key.span, "has no effect")
                    .at(first, "first listed here")
                    .help("remove one of them"),
            );
        } else {
            first.insert(texts, &key.span);
        }
    }
}
