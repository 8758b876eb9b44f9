//! `larder check`: what Postgres says of every statement, and the most queries a configuration allows.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::table::Table;
use super::{Failure, load, misfits, say};
use crate::app;
use crate::plan::schedule::NOTIFIED_EVERY;
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

fn report(plan: &Plan, described: &[(EndpointId, Arc<Description>)]) -> String {
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
            refresh(plan, endpoint),
            vec![most_queries(plan, endpoint)],
        ]);
    }
    let probes = plan.probes().iter().map(|probe| per_minute(probe.every));
    let by_itself = plan
        .endpoints()
        .iter()
        .map(|e| by_itself_per_minute(plan, e));
    let by_itself: u64 = by_itself.chain(probes).sum();
    let by_clients = u64::from(plan.repository().max_loads_per_second) * 60;
    let mut text = table.to_string();
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "\nAt most {} queries a minute, {} at a time: {by_itself} by itself, and up to \
         {by_clients} that clients cause (max_loads_per_second = {}), however many clients there \
         are. What fails is tried again sooner than its schedule says, at growing distances.\n",
        by_itself + by_clients,
        plan.repository().max_connections,
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

fn refresh(plan: &Plan, endpoint: &Endpoint) -> Vec<String> {
    let every = endpoint
        .refresh
        .every
        .map(|every| format!("every {every:?}"));
    let cron = endpoint
        .refresh
        .cron
        .as_ref()
        .map(|line| format!("cron {line} ({})", line.timezone()));
    let probe = endpoint.refresh.probe.map(|id| {
        let every = plan.probes()[id.index()].every;
        format!("probe, every {every:?}")
    });
    let notify = endpoint.refresh.notify.as_ref();
    let notify = notify.map(|channel| format!("notify {channel}"));
    let ahead = endpoint.refresh.ahead.then(|| "ahead".to_owned());
    let lines = every.into_iter().chain(cron).chain(probe);
    let mut lines: Vec<String> = lines.chain(notify).chain(ahead).collect();
    if lines.is_empty() {
        lines.push("when asked for".to_owned());
    }
    lines
}

fn most_queries(plan: &Plan, endpoint: &Endpoint) -> String {
    if !endpoint.is_resident() {
        return "as clients cause".to_owned();
    }
    // One that goes stale between two runs is loaded again when it is asked for.
    let by_clients = endpoint.freshness.max_age.map_or(0, per_minute);
    (by_itself_per_minute(plan, endpoint) + by_clients).to_string()
}

/// How often schedules, probes and notifications load an endpoint in any minute, at most. One with
/// parameters is loaded again when it is asked for.
fn by_itself_per_minute(plan: &Plan, endpoint: &Endpoint) -> u64 {
    if !endpoint.is_resident() {
        return 0;
    }
    let refresh = &endpoint.refresh;
    let every = refresh.every.map_or(0, per_minute);
    let cron = refresh.cron.as_ref();
    let cron = cron.map_or(0, |line| u64::from(line.most_per_minute()));
    let probe = refresh.probe.map(|id| plan.probes()[id.index()].every);
    let notified = refresh.notify.as_ref().map(|_| NOTIFIED_EVERY);
    let told = probe.into_iter().chain(notified).map(per_minute);
    every + cron + told.sum::<u64>()
}

/// How often something that happens at this distance can fall into one minute.
fn per_minute(distance: Duration) -> u64 {
    let distance = distance.as_millis().max(1);
    u64::try_from(60_000_u128.div_ceil(distance)).unwrap_or(u64::MAX)
}
