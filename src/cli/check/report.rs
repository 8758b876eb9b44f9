//! The output of `larder check`: a table of the endpoints, and the load they put on Postgres.

use std::time::Duration;

use super::demand::{Bound, Busy, Demand, Late, Query, Verdict};
use crate::app::{self, Descriptions, Measurement, Measurements};
use crate::cli::table::Table;
use crate::plan::{Endpoint, EndpointId, Plan, Presence};
use crate::repository::Description;

/// The most endpoints that a sentence names; there may be thousands.
const NAMED_MAX: usize = 3;

/// The whole output. Times are included if queries were run, and what follows from them only if none failed:
/// a missing one may be the slowest.
pub(super) fn of(plan: &Plan, described: &Descriptions, measured: Option<&Measurements>) -> String {
    let mut text = table(plan, described, measured);
    text.push('\n');
    text.push_str(&bound(plan));
    if let Some(measured) = measured.filter(|measured| measured.rejections.is_empty()) {
        let demand = Demand::of(plan, measured);
        text.push('\n');
        text.push_str(&shares(plan, &demand));
        text.push_str(&warnings(plan, &demand));
    }
    text.push_str(&general_warnings(plan));
    text
}

/// Warnings that do not concern any endpoint.
pub(super) fn general_warnings(plan: &Plan) -> String {
    let warnings = app::warnings(plan);
    warnings.iter().map(|sentence| warning(sentence)).collect()
}

fn warning(sentence: &str) -> String {
    format!("\nwarning: {sentence}\n")
}

fn table(plan: &Plan, described: &Descriptions, measured: Option<&Measurements>) -> String {
    let mut head = vec![
        "endpoint",
        "parameters",
        "columns",
        "refresh",
        "queries/minute, at most",
    ];
    head.extend(measured.map(|_| "query time"));
    let mut table = Table::new(&head);
    for endpoint in plan.endpoints() {
        let description = described.of(endpoint.id);
        let most = Bound::of_endpoint(plan, endpoint);
        let most = most.map_or("up to clients".to_owned(), |most| most.to_string());
        let columns = description.columns.iter();
        let mut row = vec![
            vec![endpoint.path.as_str().to_owned()],
            parameters(endpoint, description),
            columns
                .map(|column| format!("{}: {}", column.name, column.type_name))
                .collect(),
            refresh(plan, endpoint),
            vec![most],
        ];
        row.extend(measured.map(|measured| took(endpoint, measured)));
        table.row(row);
    }
    table.to_string()
}

fn parameters(endpoint: &Endpoint, description: &Description) -> Vec<String> {
    let described = &description.parameters;
    let parameters = endpoint.parameters.iter().zip(described);
    parameters
        .map(|(parameter, described)| {
            let presence = match &parameter.presence {
                Presence::Required => String::new(),
                Presence::Optional => ", optional".to_owned(),
                Presence::Default(value) => format!(" = {value}"),
            };
            format!("{}: {}{presence}", parameter.name, described.type_name)
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
    let probe = endpoint.refresh.probe.and_then(|id| plan.probe(id));
    let probe = probe.map(|probe| format!("probe, every {:?}", probe.every));
    let notify = endpoint.refresh.notify.as_ref();
    let notify = notify.map(|channel| format!("notify {channel}"));
    let ahead = endpoint.refresh.ahead.then(|| "ahead".to_owned());
    let lines = every.into_iter().chain(cron).chain(probe);
    let mut lines: Vec<String> = lines.chain(notify).chain(ahead).collect();
    if lines.is_empty() {
        lines.push("on request".to_owned());
    }
    lines
}

/// How long an endpoint's query took, and its probe's.
fn took(endpoint: &Endpoint, measured: &Measurements) -> Vec<String> {
    let words = |run: Measurement| match run {
        Measurement::Took(time) => short(time),
        Measurement::NeedsArguments => "needs arguments".to_owned(),
        Measurement::Failed => "failed".to_owned(),
    };
    let mut lines = vec![words(measured.endpoints[endpoint.id.number()])];
    let probe = endpoint
        .refresh
        .probe
        .map(|id| measured.probes[id.number()]);
    lines.extend(probe.map(|run| format!("probe {}", words(run))));
    lines
}

fn bound(plan: &Plan) -> String {
    let Bound {
        by_itself,
        by_clients,
    } = Bound::of(plan);
    let repository = plan.repository();
    format!(
        "At most {} queries a minute, {} at a time: {by_itself} by schedules, probes and notifications, \
         and up to {by_clients} by clients (max_loads_per_second = {}), however many clients there are. \
         A failed query is retried before its schedule is due, with growing waits.\n",
        by_itself + by_clients,
        repository.max_connections,
        repository.max_loads_per_second,
    )
}

/// The connections that the queries keep busy.
fn shares(plan: &Plan, demand: &Demand) -> String {
    let verdict = demand.verdict();
    let scheduled = demand.by_schedule();
    let fits = match verdict {
        Verdict::Fits | Verdict::FitsWithoutChanges => ", which fits",
        Verdict::Exceeds => "",
    };
    let mut text = format!(
        "Each query was run once, alone, on the current data. If queries keep taking this long:\n- \
         Schedules need {} of {} connections on average ({}){fits}.\n",
        count(scheduled),
        demand.connections,
        percent(scheduled / demand.connections as f64),
    );
    if demand.by_changes > 0.0 {
        let limit = match verdict {
            Verdict::FitsWithoutChanges => ", which would not fit",
            Verdict::Fits | Verdict::Exceeds => "",
        };
        let by_changes = count(demand.by_changes);
        text.push_str(&format!(
            "- Changes could need {by_changes} more{limit}, if every probe found one and notifications \
             never paused.\n",
        ));
    }
    if let Some((slowest, time)) = demand.slowest {
        text.push_str(&format!(
            "- Clients could need {} more{}: with {} loads a second (max_loads_per_second), the \
             slowest of them {} ({}).\n",
            count(demand.clients),
            waiting(demand),
            plan.repository().max_loads_per_second,
            plan.endpoint(slowest).path.as_str(),
            short(time),
        ));
    }
    if !demand.unknown.is_empty() {
        text.push_str(&format!(
            "- Not included, for lack of arguments: {}. Adding a key to `warm` is enough.\n",
            paths(plan, &demand.unknown),
        ));
    }
    text
}

/// What happens to clients' loads that find no free connection.
fn waiting(demand: &Demand) -> String {
    if demand.clients <= demand.slots as f64 {
        return String::new();
    }
    let slots = demand.slots;
    format!(", of which they get {slots}; the rest of the loads wait")
}

fn warnings(plan: &Plan, demand: &Demand) -> String {
    let mut warnings = Vec::new();
    for (query, time, late) in &demand.late {
        let (subject, took) = (name(plan, *query), short(*time));
        warnings.push(match late {
            Late::Schedule(due) => format!(
                "{subject} took {took}, but is due every {}: it cannot keep up. Run it less often, or make \
                 it faster.",
                short(*due)
            ),
            Late::Ahead(max_age) => format!(
                "{subject} took {took}, more than half of its max_age ({max_age:?}): answers in use go \
                 stale before they are refreshed ahead of time. Raise max_age, or make it faster."
            ),
            Late::Stale(max_age) => format!(
                "{subject} took {took}, and its max_age ({max_age:?}) counts from the start of the query: its \
                 answers are never fresh. Raise max_age, or make it faster."
            ),
        });
    }
    if demand.verdict() == Verdict::Exceeds {
        let room = match demand.connections {
            1 => "there is 1 (max_connections)".to_owned(),
            many => format!(
                "they get {} of {many} (max_connections): one is reserved for clients",
                demand.slots
            ),
        };
        warnings.push(format!(
            "the schedules do not fit: they need {} connections on average, and {room}. Loads will \
             wait for each other and be late. The most expensive are {}. Run them less often, make them \
             faster, or raise max_connections.",
            count(demand.by_schedule()),
            busiest(plan, &demand.scheduled),
        ));
    }
    warnings.iter().map(|sentence| warning(sentence)).collect()
}

fn busiest(plan: &Plan, scheduled: &[Busy]) -> String {
    let most = scheduled.iter().take(NAMED_MAX);
    let most = most.map(|busy| format!("{} ({})", name(plan, busy.query), count(busy.connections)));
    most.collect::<Vec<_>>().join(", ")
}

fn name(plan: &Plan, query: Query) -> String {
    match query {
        Query::Endpoint(id) => plan.endpoint(id).path.as_str().to_owned(),
        Query::Probe(id) => {
            let mut endpoints = plan.endpoints().iter();
            let first = endpoints.find(|endpoint| endpoint.refresh.probe == Some(id));
            let path = first.map_or("", |endpoint| endpoint.path.as_str());
            format!("the probe of {path}")
        }
    }
}

fn paths(plan: &Plan, endpoints: &[EndpointId]) -> String {
    let named = endpoints.iter().take(NAMED_MAX);
    let named: Vec<&str> = named.map(|id| plan.endpoint(*id).path.as_str()).collect();
    let named = named.join(", ");
    match endpoints.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// A time with as many digits as a single run justifies.
fn short(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ..1.0 => format!("{ms:.2}ms"),
        ..10.0 => format!("{ms:.1}ms"),
        ..1000.0 => format!("{ms:.0}ms"),
        _ => format!("{:.1}s", ms / 1000.0),
    }
}

/// A number of connections.
fn count(connections: f64) -> String {
    match connections {
        0.0 => "0".to_owned(),
        ..0.01 => "under 0.01".to_owned(),
        ..1.0 => format!("{connections:.2}"),
        ..100.0 => format!("{connections:.1}"),
        _ => format!("{connections:.0}"),
    }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "0 %".to_owned(),
        ..1.0 => "under 1 %".to_owned(),
        _ => format!("{percent:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_as_many_digits_as_one_run_justifies() {
        let short = |micros| short(Duration::from_micros(micros));
        assert_eq!(short(420), "0.42ms");
        assert_eq!(short(4_200), "4.2ms");
        assert_eq!(short(12_345), "12ms");
        assert_eq!(short(2_000_000), "2.0s");
        assert_eq!(count(0.0), "0");
        assert_eq!(count(0.0004), "under 0.01");
        assert_eq!(count(0.125), "0.12");
        assert_eq!(count(1.0), "1.0");
        assert_eq!(count(1234.5), "1234");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.001), "under 1 %");
        assert_eq!(percent(0.25), "25 %");
    }
}
