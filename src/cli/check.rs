//! `larder check`: what Postgres says of every statement, and the most queries a configuration allows.

use std::fmt::Write;
use std::path::Path;

use super::table::Table;
use super::{Failure, load, misfits, say};
use crate::app;
use crate::plan::{Endpoint, EndpointId, Plan, Presence};
use crate::repository::Description;

pub(super) fn offline(config: &Path) -> Result<(), Failure> {
    let plan = load(config)?;
    let endpoints = match plan.endpoints().len() {
        1 => "1 endpoint".to_owned(),
        many => format!("{many} endpoints"),
    };
    say(&format!(
        "{}: no mistake in {endpoints}; not checked against Postgres\n",
        config.display(),
    ));
    Ok(())
}

pub(super) async fn online(config: &Path) -> Result<(), Failure> {
    let plan = load(config)?;
    let described =
        app::describe_all(&plan)
            .await
            .map_err(|found| match misfits(&plan, found) {
                Failure::Other(error) => Failure::Other(error.context(
                    "the statements can not be checked (--offline looks at the file alone)",
                )),
                mistakes @ Failure::Mistakes(_) => mistakes,
            })?;
    say(&report(&plan, &described));
    Ok(())
}

fn report(plan: &Plan, described: &[(EndpointId, Description)]) -> String {
    let mut table = Table::new(&[
        "endpoint",
        "parameters",
        "columns",
        "refresh",
        "queries a minute, at most",
    ]);
    for (id, description) in described {
        let endpoint = plan.endpoint(*id);
        table.row(vec![
            vec![endpoint.path.as_str().to_owned()],
            parameters(endpoint, description),
            description
                .columns
                .iter()
                .map(|c| format!("{}: {}", c.name, c.type_name))
                .collect(),
            refresh(endpoint),
            vec![most_queries(endpoint)],
        ]);
    }
    let scheduled: f64 = plan.endpoints().iter().map(scheduled_per_minute).sum();
    let by_clients = u64::from(plan.repository().max_loads_per_second) * 60;
    let mut text = table.to_string();
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "\nAt most {} queries a minute, {} at a time: {} by schedules, and up to {by_clients} \
         that clients cause (max_loads_per_second = {}), however many clients there are.\n",
        number(scheduled + by_clients as f64),
        plan.repository().max_connections,
        number(scheduled),
        plan.repository().max_loads_per_second,
    );
    text
}

fn parameters(endpoint: &Endpoint, description: &Description) -> Vec<String> {
    let types = &description.parameter_types;
    let parameters = endpoint.parameters.iter().zip(types);
    parameters
        .map(|(parameter, type_name)| {
            let presence = match &parameter.presence {
                Presence::Required => String::new(),
                Presence::Optional => ", optional".to_owned(),
                Presence::Default(value) => format!(" = {value}"),
            };
            format!("{}: {type_name}{presence}", parameter.name)
        })
        .collect()
}

fn refresh(endpoint: &Endpoint) -> Vec<String> {
    let every = endpoint
        .refresh
        .every
        .map(|every| format!("every {every:?}"));
    let cron = endpoint
        .refresh
        .cron
        .as_ref()
        .map(|line| format!("cron {line} ({})", line.timezone()));
    let mut lines: Vec<String> = every.into_iter().chain(cron).collect();
    if lines.is_empty() {
        lines.push("when asked for".to_owned());
    }
    lines
}

fn most_queries(endpoint: &Endpoint) -> String {
    if scheduled_per_minute(endpoint) > 0.0 {
        number(scheduled_per_minute(endpoint))
    } else if let (true, Some(max_age)) = (endpoint.is_resident(), endpoint.freshness.max_age) {
        number(60.0 / max_age.as_secs_f64())
    } else {
        "as clients cause".to_owned()
    }
}

/// How often its schedule loads an endpoint in any minute, at most.
fn scheduled_per_minute(endpoint: &Endpoint) -> f64 {
    let every = endpoint
        .refresh
        .every
        .map_or(0.0, |every| 60.0 / every.as_secs_f64());
    let cron = endpoint
        .refresh
        .cron
        .as_ref()
        .map_or(0, |line| line.most_per_minute());
    every + f64::from(cron)
}

/// Without a fraction where there is none.
fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}
