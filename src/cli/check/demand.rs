//! The load that a configuration puts on Postgres: how many queries a minute at most, and how many
//! connections they keep busy if each always takes as long as when it was measured. Pure.

use std::time::Duration;

use crate::app::{Measurement, Measurements};
use crate::plan::schedule::NOTIFIED_EVERY;
use crate::plan::{Endpoint, EndpointId, Plan, ProbeId};

/// The most queries a minute.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// Caused by schedules, probes and notifications.
    pub(super) by_itself: u64,
    /// Caused by clients, however many there are.
    pub(super) by_clients: u64,
}

impl Bound {
    pub(super) fn of(plan: &Plan) -> Self {
        let probes = plan.probes().iter().map(|probe| per_minute(probe.every));
        let endpoints = plan.endpoints().iter();
        let endpoints = endpoints.map(|endpoint| by_itself_per_minute(plan, endpoint));
        Self {
            by_itself: endpoints.chain(probes).sum(),
            by_clients: u64::from(plan.repository().max_loads_per_second) * 60,
        }
    }

    /// The bound of one endpoint; `None` if it depends on its clients.
    pub(super) fn of_endpoint(plan: &Plan, endpoint: &Endpoint) -> Option<u64> {
        if !endpoint.is_resident() {
            return None;
        }
        // If the answer goes stale between two runs, the next request loads it.
        let by_clients = endpoint.freshness.max_age.map_or(0, per_minute);
        Some(by_itself_per_minute(plan, endpoint) + by_clients)
    }
}

/// How often schedules, probes and notifications load an endpoint in any minute, at most. They do not load
/// an endpoint with parameters; the next request does.
fn by_itself_per_minute(plan: &Plan, endpoint: &Endpoint) -> u64 {
    if !endpoint.is_resident() {
        return 0;
    }
    let refresh = &endpoint.refresh;
    let every = refresh.every.map_or(0, per_minute);
    let cron = refresh.cron.as_ref();
    let cron = cron.map_or(0, |line| u64::from(line.most_per_minute()));
    let by_changes = change_intervals(plan, endpoint).map(per_minute);
    every + cron + by_changes.sum::<u64>()
}

/// The shortest intervals at which changes can load an endpoint.
fn change_intervals(plan: &Plan, endpoint: &Endpoint) -> impl Iterator<Item = Duration> {
    let refresh = &endpoint.refresh;
    let probe = refresh.probe.and_then(|id| Some(plan.probe(id)?.every));
    let notified = refresh.notify.as_ref().map(|_| NOTIFIED_EVERY);
    probe.into_iter().chain(notified)
}

/// How often something that happens at this interval can happen within one minute.
fn per_minute(interval: Duration) -> u64 {
    let interval = interval.as_millis().max(1);
    u64::try_from(60_000_u128.div_ceil(interval)).unwrap_or(u64::MAX)
}

/// Connections kept busy, each figure an average over the busiest hour. Loads that are due at the same moment
/// wait for each other.
#[derive(Debug)]
pub(super) struct Demand {
    /// `max_connections`.
    pub(super) connections: usize,
    /// How many of them loads of one class, schedules or clients, may take: all but one, as in
    /// `read_through::concurrency`.
    pub(super) slots: usize,
    /// What schedules and probes keep busy, the most first.
    pub(super) scheduled: Vec<Busy>,
    /// How many more are busy while every probe finds a change and notifications never pause.
    pub(super) by_changes: f64,
    /// How many more clients can keep busy in the worst case.
    pub(super) clients: f64,
    /// The slowest query that clients can cause.
    pub(super) slowest: Option<(EndpointId, Duration)>,
    /// Queries that are too slow for their endpoint's settings.
    pub(super) late: Vec<(Query, Duration, Late)>,
    /// Endpoints whose queries were not measured.
    pub(super) unknown: Vec<EndpointId>,
}

/// A query that is run on a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    /// An endpoint's statement.
    Endpoint(EndpointId),
    /// A probe.
    Probe(ProbeId),
}

/// A query that keeps connections busy.
#[derive(Debug)]
pub(super) struct Busy {
    pub(super) query: Query,
    pub(super) connections: f64,
}

/// Why a query is too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// It is due again this soon.
    Schedule(Duration),
    /// Its answer is fresh for this long, and refreshing ahead takes place in the second half of that: see
    /// `read_through::refresh_ahead`.
    Ahead(Duration),
    /// Its answer is fresh for this long from the start of the query, and thus never.
    Stale(Duration),
}

/// Whether there are enough connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There are.
    Fits,
    /// There are, except while every probe finds a change and notifications never pause.
    FitsWithoutChanges,
    /// There are not.
    Exceeds,
}

impl Demand {
    pub(super) fn of(plan: &Plan, measured: &Measurements) -> Self {
        let connections = plan.repository().max_connections;
        let mut demand = Self {
            connections,
            slots: connections.saturating_sub(1).max(1),
            scheduled: Vec::new(),
            by_changes: 0.0,
            clients: 0.0,
            slowest: None,
            late: Vec::new(),
            unknown: Vec::new(),
        };
        let mut of_any_key = Duration::ZERO;
        for (endpoint, run) in plan.endpoints().iter().zip(&measured.endpoints) {
            let Measurement::Took(time) = *run else {
                demand.unknown.push(endpoint.id);
                continue;
            };
            if endpoint.is_resident() {
                demand.add_resident(plan, endpoint, time);
            } else {
                of_any_key = of_any_key.max(time);
                demand.can_be_caused(endpoint.id, time);
            }
            let late = late(endpoint, time).map(|late| (Query::Endpoint(endpoint.id), time, late));
            demand.late.extend(late);
        }
        for (probe, run) in plan.probes().iter().zip(&measured.probes) {
            if let Measurement::Took(time) = *run {
                demand.add_scheduled(Query::Probe(probe.id), time, 1.0 / seconds(probe.every));
            }
        }
        let loads = f64::from(plan.repository().max_loads_per_second);
        let slowest = demand.slowest.map_or(0.0, |(_, time)| seconds(time));
        demand.clients = (demand.clients + loads * seconds(of_any_key)).min(loads * slowest);
        let most_first = |a: &Busy, b: &Busy| b.connections.total_cmp(&a.connections);
        demand.scheduled.sort_by(most_first);
        demand
    }

    /// Adds an endpoint that has one answer. Its loads never overlap, so they keep at most one connection busy.
    fn add_resident(&mut self, plan: &Plan, endpoint: &Endpoint, time: Duration) {
        let scheduled = scheduled_per_second(endpoint);
        let changes = change_intervals(plan, endpoint).map(|every| 1.0 / seconds(every));
        self.by_changes += busy(scheduled + changes.sum::<f64>(), time) - busy(scheduled, time);
        self.add_scheduled(Query::Endpoint(endpoint.id), time, scheduled);
        if let Some(max_age) = endpoint.freshness.max_age {
            self.clients += busy(1.0 / seconds(max_age), time);
            self.can_be_caused(endpoint.id, time);
        }
    }

    fn add_scheduled(&mut self, query: Query, time: Duration, per_second: f64) {
        if per_second > 0.0 {
            self.scheduled.push(Busy {
                query,
                connections: busy(per_second, time),
            });
        }
        if per_second * seconds(time) > 1.0 {
            let due = Duration::from_secs_f64(1.0 / per_second);
            self.late.push((query, time, Late::Schedule(due)));
        }
    }

    fn can_be_caused(&mut self, endpoint: EndpointId, time: Duration) {
        if self.slowest.is_none_or(|(_, slowest)| time > slowest) {
            self.slowest = Some((endpoint, time));
        }
    }

    /// Connections that schedules keep busy.
    pub(super) fn by_schedule(&self) -> f64 {
        self.scheduled.iter().map(|busy| busy.connections).sum()
    }

    pub(super) fn verdict(&self) -> Verdict {
        let slots = self.slots as f64;
        let scheduled = self.by_schedule();
        // At the limit itself, loads wait for each other longer and longer.
        if scheduled >= slots {
            Verdict::Exceeds
        } else if scheduled + self.by_changes >= slots {
            Verdict::FitsWithoutChanges
        } else {
            Verdict::Fits
        }
    }
}

/// How often per second schedules load an endpoint, in the busiest hour.
fn scheduled_per_second(endpoint: &Endpoint) -> f64 {
    let refresh = &endpoint.refresh;
    let every = refresh.every.map_or(0.0, |every| 1.0 / seconds(every));
    let cron = refresh.cron.as_ref();
    every + cron.map_or(0.0, |line| f64::from(line.most_per_hour()) / 3600.0)
}

/// The share of time that one connection is busy with queries that run one after the other.
fn busy(per_second: f64, time: Duration) -> f64 {
    (per_second * seconds(time)).min(1.0)
}

/// Why an endpoint's query is too slow for its `max_age`, if it is.
fn late(endpoint: &Endpoint, time: Duration) -> Option<Late> {
    let max_age = endpoint.freshness.max_age?;
    if endpoint.refresh.ahead && time > max_age / 2 {
        Some(Late::Ahead(max_age))
    } else if endpoint.refresh.probe.is_none() && time >= max_age {
        // A probe that finds no change makes an older answer fresh again.
        Some(Late::Stale(max_age))
    } else {
        None
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

#[cfg(test)]
mod tests;
