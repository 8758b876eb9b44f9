//! An endpoint's parameters: whether its path, its declarations and its SQL agree on them. What depends on
//! types is checked once Postgres has described the statement.

use std::cmp::Ordering;

use super::field;
use super::type_name::is_type_name;
use crate::config::field::WrongParams;
use crate::config::schema::{EndpointSection, ParamSection};
use crate::config::suggest;
use crate::config::{At, Field, Mistake, Report, Span};
use crate::plan::parameter::ARGUMENT_BYTES_MAX;
use crate::plan::path::is_parameter_name;
use crate::plan::{Parameter, PathPattern, Place, Presence, Statement};

/// Enough for any name or list of identifiers, and too little to fill memory with long keys.
const MAX_LENGTH: u64 = 1_000;

/// The parameters in the order of the statement's `$1`…; `None` if the path or the SQL is wrong.
pub(super) fn read(
    section: &EndpointSection,
    path: Option<&At<PathPattern>>,
    sql: Option<(&At<String>, &Statement)>,
    report: &mut Report,
) -> Option<Vec<Parameter>> {
    let in_path = |name: &str| path.is_some_and(|path| path.value.parameters().any(|p| p == name));
    let mut declared: Vec<Parameter> = section
        .params
        .iter()
        .filter_map(|param| {
            check_name(&param.name, report)?;
            let place = match &param.claim {
                Field::Given(claim) => {
                    check_claim(param, claim, in_path(&param.name.value), report);
                    Place::Claim(claim.value.clone())
                }
                // Never from the query string: a wrong claim must not open that way.
                Field::Wrong => Place::Claim(String::new()),
                Field::Absent if in_path(&param.name.value) => Place::Path,
                Field::Absent => Place::Query,
            };
            Some(parameter(param, place, report))
        })
        .collect();
    for name in path.into_iter().flat_map(|path| path.value.parameters()) {
        if !section.params.iter().any(|param| param.name.value == name) {
            declared.push(undecorated(name));
        }
    }
    let (sql, statement) = sql?;
    check_unused(section, path, statement, report);
    // Without the path, not all parameters are known.
    path?;

    let mut parameters = Vec::with_capacity(declared.len());
    for name in statement.parameters() {
        match declared
            .iter()
            .position(|parameter| parameter.name == *name)
        {
            Some(index) => parameters.push(declared.swap_remove(index)),
            None if section.params.iter().any(|param| param.name.value == *name) => {}
            None if is_wrong(section, name) => {}
            None => {
                let span = statement.first_use(name).map(|at| sql.span.within(at));
                let span = span.as_ref().unwrap_or(&sql.span);
                report.push(undeclared(
                    name,
                    span,
                    declared.iter().map(|p| p.name.as_str()),
                ));
            }
        }
    }
    (parameters.len() == statement.parameters().len()).then_some(parameters)
}

/// A claim is there, or the request is refused.
fn check_claim(param: &ParamSection, claim: &At<String>, is_in_path: bool, report: &mut Report) {
    let name = &param.name.value;
    if claim.value.is_empty() {
        report.push(Mistake::new("`claim` is empty").at(&claim.span, "names no claim"));
    }
    if is_in_path {
        report.push(
            Mistake::new(format!(
                "parameter `{name}` is in the path and in the credential"
            ))
            .at(&claim.span, "it can come from one of them only")
            .help("remove it from the path, or rename one of them"),
        );
    }
    let default = param.default.given().map(|at| ("default", &at.span));
    let optional = param.optional.given().map(|at| ("optional", &at.span));
    for (key, span) in default.into_iter().chain(optional) {
        report.push(
            Mistake::new(format!("`{key}` on a parameter that is a claim"))
                .at(span, "has no effect")
                .help("remove it: a credential without the claim is refused"),
        );
    }
}

/// Whether `params` has something for this parameter that is not a declaration.
fn is_wrong(section: &EndpointSection, name: &str) -> bool {
    match &section.wrong_params {
        None => false,
        Some(WrongParams::All) => true,
        Some(WrongParams::Named(names)) => names.iter().any(|wrong| wrong == name),
    }
}

fn check_name(name: &At<String>, report: &mut Report) -> Option<()> {
    if is_parameter_name(&name.value) {
        return Some(());
    }
    report.push(
        Mistake::new("this is not a valid parameter name")
            .at(&name.span, "")
            .help("names consist of letters, digits and `_`, and do not begin with a digit"),
    );
    None
}

fn undeclared<'n>(name: &str, span: &Span, unused: impl Iterator<Item = &'n str>) -> Mistake {
    let help = match suggest::nearest(name, unused) {
        Some(near) => format!("did you mean `:{near}`?"),
        None => format!(
            "add `params.{name} = {{}}` to the endpoint or `{{{name}}}` to its path; write array slices \
             with spaces: `[a : b]`"
        ),
    };
    Mistake::new(format!(
        "parameter `{name}` is used in the SQL but not declared"
    ))
    .at(span, "not declared")
    .help(help)
}

/// An unused parameter would split the cache without effect.
fn check_unused(
    section: &EndpointSection,
    path: Option<&At<PathPattern>>,
    statement: &Statement,
    report: &mut Report,
) {
    let is_used = |name: &str| statement.parameters().iter().any(|used| used == name);
    let mut names: Vec<(&str, Span)> = Vec::new();
    if let Some(path) = path {
        for name in path.value.parameters() {
            let at = path.value.parameter_at(name);
            let span = at.map_or_else(|| path.span.clone(), |at| path.span.within(at));
            names.push((name, span));
        }
    }
    for param in &section.params {
        let name = param.name.value.as_str();
        if is_parameter_name(name) && !names.iter().any(|(known, _)| *known == name) {
            names.push((&param.name.value, param.name.span.clone()));
        }
    }
    for (name, span) in names.into_iter().filter(|(name, _)| !is_used(name)) {
        report.push(
            Mistake::new(format!("parameter `{name}` is not used in the SQL"))
                .at(&span, "has no effect")
                .help(format!("use it as `:{name}`, or remove it")),
        );
    }
}

/// A path parameter without a declaration.
fn undecorated(name: &str) -> Parameter {
    Parameter {
        name: name.to_owned(),
        place: Place::Path,
        presence: Presence::Required,
        declared_type: None,
        minimum: None,
        maximum: None,
        values: Vec::new(),
        pattern: None,
        max_length: MAX_LENGTH as usize,
        description: None,
    }
}

fn parameter(section: &ParamSection, place: Place, report: &mut Report) -> Parameter {
    let text = |field: &Field<String>| field.given().map(|at| at.value.clone());
    let presence = presence(section, &place, report);
    check_range(section, report);
    let pattern = section.pattern.given().and_then(|written| {
        let pattern = Parameter::whole_pattern(&written.value);
        let pattern = pattern.map_err(|error| report.push(bad_pattern(written, &error)));
        pattern.ok()
    });
    let allowed = 1..=ARGUMENT_BYTES_MAX as u64;
    let max_length = field::count("max_length", &section.max_length, allowed, report);
    let values = section.values.given();
    if let Some(empty) = values.filter(|values| values.value.is_empty()) {
        report.push(
            Mistake::new("`values` is empty")
                .at(&empty.span, "no value would be allowed")
                .help("remove it to allow any value"),
        );
    }
    let parameter = Parameter {
        name: section.name.value.clone(),
        place,
        presence,
        declared_type: declared_type(&section.declared_type, report),
        minimum: text(&section.minimum),
        maximum: text(&section.maximum),
        values: values.map_or_else(Vec::new, |values| {
            values
                .value
                .iter()
                .map(|value| value.value.clone())
                .collect()
        }),
        pattern,
        max_length: max_length.map_or(MAX_LENGTH, |at| at.value) as usize,
        description: text(&section.description),
    };
    check_texts(&parameter, section, report);
    parameter
}

fn presence(section: &ParamSection, place: &Place, report: &mut Report) -> Presence {
    let default = section.default.given();
    let optional = section.optional.given().filter(|optional| optional.value);
    if place.is_claim() {
        return Presence::Required;
    }
    if *place == Place::Path {
        let written = [default.map(|at| &at.span), optional.map(|at| &at.span)];
        for span in written.into_iter().flatten() {
            report.push(
                Mistake::new(format!("`{}` is part of the path", section.name.value))
                    .at(span, "has no effect")
                    .help("remove it: a path parameter is always given"),
            );
        }
        return Presence::Required;
    }
    if let (Some(default), Some(optional)) = (default, optional) {
        report.push(
            Mistake::new(format!(
                "`{}` has both a default and `optional`",
                section.name.value
            ))
            .at(&optional.span, "has no effect")
            .at(&default.span, "bound when the parameter is not given")
            .help("remove one of them"),
        );
    }
    match (default, optional) {
        (Some(default), _) => Presence::Default(default.value.clone()),
        (None, Some(_)) => Presence::Optional,
        (None, None) => Presence::Required,
    }
}

fn declared_type(field: &Field<String>, report: &mut Report) -> Option<String> {
    let name = field.given()?;
    if is_type_name(&name.value) {
        return Some(name.value.clone());
    }
    report.push(
        Mistake::new("this is not a type name")
            .at(&name.span, "")
            .help("for example \"bigint\", \"numeric(10,2)\", \"text[]\" or \"app.state\""),
    );
    None
}

fn bad_pattern(written: &At<String>, error: &regex::Error) -> Mistake {
    // The last line says what is wrong; the others show the pattern, as the report does.
    let words = error.to_string();
    let reason = words
        .lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned();
    Mistake::new("this is not a valid regular expression")
        .at(&written.span, reason)
        .help(
            "look-around and back-references are not supported; in a '…' string, \\ is not doubled",
        )
}

/// Numbers can be compared before their type is known.
fn check_range(section: &ParamSection, report: &mut Report) {
    let is_above = |a: &At<String>, b: &At<String>| {
        let number = |at: &At<String>| at.value.parse::<f64>().ok();
        let order = number(a)
            .zip(number(b))
            .and_then(|(a, b)| a.partial_cmp(&b));
        order == Some(Ordering::Greater)
    };
    let (minimum, maximum) = (section.minimum.given(), section.maximum.given());
    if let (Some(minimum), Some(maximum)) = (minimum, maximum)
        && is_above(minimum, maximum)
    {
        report.push(
            Mistake::new("`minimum` is above `maximum`")
                .at(&minimum.span, "no value would be allowed")
                .at(&maximum.span, ""),
        );
        return;
    }
    let Some(default) = section.default.given() else {
        return;
    };
    let name = &section.name.value;
    let too_small = minimum.filter(|minimum| is_above(minimum, default));
    let too_large = maximum.filter(|maximum| is_above(default, maximum));
    let violated = [
        (too_small, "below `minimum`"),
        (too_large, "above `maximum`"),
    ];
    for (limit, label) in violated {
        if let Some(limit) = limit {
            report.push(
                Mistake::new(format!("the default of `{name}` is not allowed"))
                    .at(&default.span, label)
                    .at(&limit.span, ""),
            );
        }
    }
}

/// Checks the default and the listed values against the rules that need no type.
fn check_texts(parameter: &Parameter, section: &ParamSection, report: &mut Report) {
    let values = section
        .values
        .given()
        .map_or(&[][..], |values| &values.value);
    for text in section.default.given().into_iter().chain(values) {
        if text.value.chars().count() > parameter.max_length {
            let label = format!("longer than {} characters", parameter.max_length);
            report.push(
                Mistake::new(format!(
                    "`{}` does not allow a text this long",
                    parameter.name
                ))
                .at(&text.span, label)
                .help("raise `max_length`"),
            );
        }
        if let Some(pattern) = parameter
            .pattern
            .as_ref()
            .filter(|p| !p.is_match(&text.value))
        {
            let pattern = Parameter::written_pattern(pattern);
            report.push(
                Mistake::new(format!("`{}` does not allow this value", parameter.name))
                    .at(&text.span, format!("does not match `{pattern}`"))
                    .help("the pattern must match the whole text"),
            );
        }
    }
    let Some(default) = section.default.given() else {
        return;
    };
    // Whether `1.0` and `1` are one value depends on the type, which is not known yet.
    let is_same = |value: &At<String>| {
        let number = |text: &str| text.parse::<f64>().ok();
        value.value.eq_ignore_ascii_case(&default.value)
            || number(&value.value).is_some_and(|n| number(&default.value) == Some(n))
    };
    if !values.is_empty() && !values.iter().any(is_same) {
        let mistake = Mistake::new(format!(
            "the default of `{}` is not allowed",
            parameter.name
        ));
        let mistake = mistake.at(&default.span, "not one of the allowed values");
        report.push(match section.values.given() {
            Some(values) => mistake.at(&values.span, "the allowed values"),
            None => mistake,
        });
    }
}
