//! `warm` and `warm_sql`: the keys that are loaded at start. Whether their texts suit the parameters'
//! types is found out once Postgres has said these.

use std::collections::HashMap;

use super::policy::Settled;
use super::statement;
use crate::config::field::NamedTexts;
use crate::config::schema::EndpointSection;
use crate::config::suggest;
use crate::config::{At, Mistake, Report, Span};
use crate::plan::{Parameter, Presence, Warm};

/// Reports keys of an endpoint that has but one.
pub(super) fn check_absent(section: &EndpointSection, report: &mut Report) {
    let warm = section.warm.given().map(|at| ("warm", &at.span));
    let warm_sql = section.warm_sql.given().map(|at| ("warm_sql", &at.span));
    for (key, span) in warm.into_iter().chain(warm_sql) {
        report.push(
            Mistake::new(format!("`{key}` on an endpoint without parameters"))
                .at(span, "would have no effect")
                .help("remove it: the only answer is loaded at start in any case"),
        );
    }
}

/// The keys of an endpoint whose parameters are `parameters`, `None` where these are not known.
pub(super) fn read(
    section: &EndpointSection,
    parameters: Option<&[Parameter]>,
    policy: &Settled,
    report: &mut Report,
) -> Warm {
    let statement = section.warm_sql.given().and_then(|sql| {
        let help = "each of its rows is a key, its columns named like the endpoint's parameters";
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
                .at(&keys.span, "names no key")
                .help("remove it, or name the keys to load at start: [{ country = \"USA\" }]"),
        );
    }
    check_room(keys, policy, report);
    if let Some(parameters) = parameters {
        for key in &keys.value {
            check_names(key, parameters, report);
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

/// Of more keys than may be resident some would be gone before anyone asks for them.
fn check_room(keys: &At<Vec<At<NamedTexts>>>, policy: &Settled, report: &mut Report) {
    let count = keys.value.len();
    if count as u64 <= policy.max_keys {
        return;
    }
    let mistake = Mistake::new("`warm` names more keys than `max_keys` allows")
        .at(&keys.span, format!("{count} keys"))
        .help("raise `max_keys`, or name only the keys that are asked for most");
    report.push(match &policy.max_keys_written {
        Some(written) => mistake.at(written, "no more are kept"),
        None => mistake.note(format!("`max_keys` is {}", policy.max_keys)),
    });
}

fn check_names(key: &At<NamedTexts>, parameters: &[Parameter], report: &mut Report) {
    let known = || parameters.iter().map(|parameter| parameter.name.as_str());
    let mut is_misspelt = false;
    for (name, _) in &key.value {
        if known().any(|known| known == name.value) {
            continue;
        }
        is_misspelt = true;
        let mistake = Mistake::new(format!("there is no parameter `{}`", name.value))
            .at(&name.span, "not one of the endpoint's");
        report.push(match suggest::nearest(&name.value, known()) {
            Some(near) => mistake.help(format!("did you mean `{near}`?")),
            None => mistake.help(format!("its parameters are {}", suggest::list(known()))),
        });
    }
    // A name that was meant to be another would be reported twice.
    if is_misspelt {
        return;
    }
    let is_given = |name: &str| key.value.iter().any(|(given, _)| given.value == name);
    for parameter in parameters {
        if parameter.presence == Presence::Required && !is_given(&parameter.name) {
            let name = &parameter.name;
            report.push(
                Mistake::new(format!("this key has no `{name}`"))
                    .at(&key.span, format!("`{name}` is missing"))
                    .help("a key names every parameter that a request must give"),
            );
        }
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
                Mistake::new("this key is named twice")
                    .at(&key.span, "would have no effect")
                    .at(first, "named first here")
                    .help("remove one of them"),
            );
        } else {
            first.insert(texts, &key.span);
        }
    }
}
