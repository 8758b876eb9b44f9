//! What a configuration asks of Postgres: how many queries a minute at most, and how many connections
//! they keep busy, if each always takes as long as when it was measured. Pure.

use std::time::Duration;

use crate::app::{Measurement, Measurements};
use crate::plan::schedule::NOTIFIED_EVERY;
use crate::plan::{Endpoint, EndpointId, Plan, ProbeId};

/// The most queries a minute.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// That schedules, probes and notifications cause.
    pub(super) by_itself: u64,
    /// That clients cause, however many there are.
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

    /// Of one endpoint; `None` where that is up to clients.
    pub(super) fn of_endpoint(plan: &Plan, endpoint: &Endpoint) -> Option<u64> {
        if !endpoint.is_resident() {
            return None;
        }
        // One that goes stale between two runs is loaded again when it is asked for.
        let by_clients = endpoint.freshness.max_age.map_or(0, per_minute);
        Some(by_itself_per_minute(plan, endpoint) + by_clients)
    }
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
    let told = told_every(plan, endpoint).map(per_minute);
    every + cron + told.sum::<u64>()
}

/// The distances at which news can load an endpoint.
fn told_every(plan: &Plan, endpoint: &Endpoint) -> impl Iterator<Item = Duration> {
    let refresh = &endpoint.refresh;
    let probe = refresh.probe.map(|id| plan.probes()[id.index()].every);
    let notified = refresh.notify.as_ref().map(|_| NOTIFIED_EVERY);
    probe.into_iter().chain(notified)
}

/// How often something that happens at this distance can fall into one minute.
fn per_minute(distance: Duration) -> u64 {
    let distance = distance.as_millis().max(1);
    u64::try_from(60_000_u128.div_ceil(distance)).unwrap_or(u64::MAX)
}

/// Connections kept busy, each figure an average over the busiest hour: what is due in a minute may be
/// due in that minute alone, and waits for its turn then.
#[derive(Debug)]
pub(super) struct Demand {
    /// `max_connections`.
    pub(super) connections: usize,
    /// How many of them loads of one class may take, those of schedules or those of clients: as in
    /// `read_through::turns`, all but one.
    pub(super) turns: usize,
    /// By schedules, and by probes, which are asked on a schedule; who keeps most of them comes first.
    pub(super) scheduled: Vec<Busy>,
    /// As many more, while every probe finds a change and notifications never pause.
    pub(super) told: f64,
    /// As many more, by the worst that clients can do.
    pub(super) clients: f64,
    /// The slowest query that clients can cause.
    pub(super) slowest: Option<(EndpointId, Duration)>,
    /// Queries that are too slow for what is declared of them.
    pub(super) late: Vec<(Query, Duration, Late)>,
    /// Endpoints whose queries took nobody knows how long.
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

/// Why a query's time does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// The next one is due this soon.
    Rhythm(Duration),
    /// Its answer, fresh for so long, is to be replaced before it goes stale, and there is time for
    /// that in the second half: see `read_through::ahead`.
    Ahead(Duration),
    /// Its answer is fresh for so long from its beginning, and so never.
    Stale(Duration),
}

/// Whether there are connections enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There are.
    Fits,
    /// Not while every probe finds a change and notifications never pause.
    FitsUntilTold,
    /// There are not, whatever happens.
    Exceeds,
}

impl Demand {
    pub(super) fn of(plan: &Plan, measured: &Measurements) -> Self {
        let connections = plan.repository().max_connections;
        let mut demand = Self {
            connections,
            turns: connections.saturating_sub(1).max(1),
            scheduled: Vec::new(),
            told: 0.0,
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

    /// An endpoint that has one answer: its loads never overlap, so they keep one connection at most.
    fn add_resident(&mut self, plan: &Plan, endpoint: &Endpoint, time: Duration) {
        let scheduled = scheduled_per_second(endpoint);
        let told = told_every(plan, endpoint).map(|every| 1.0 / seconds(every));
        let told = busy(scheduled + told.sum::<f64>(), time) - busy(scheduled, time);
        self.told += told;
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
            self.late.push((query, time, Late::Rhythm(due)));
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
        let turns = self.turns as f64;
        let scheduled = self.by_schedule();
        // At the very limit every load waits for the one before, longer and longer.
        if scheduled >= turns {
            Verdict::Exceeds
        } else if scheduled + self.told >= turns {
            Verdict::FitsUntilTold
        } else {
            Verdict::Fits
        }
    }
}

/// How often schedules load an endpoint a second, in the busiest hour.
fn scheduled_per_second(endpoint: &Endpoint) -> f64 {
    let refresh = &endpoint.refresh;
    let every = refresh.every.map_or(0.0, |every| 1.0 / seconds(every));
    let cron = refresh.cron.as_ref();
    every + cron.map_or(0.0, |line| f64::from(line.most_per_hour()) / 3600.0)
}

/// The share of its time that one connection spends on queries one after the other.
fn busy(per_second: f64, time: Duration) -> f64 {
    (per_second * seconds(time)).min(1.0)
}

/// Why answers of an endpoint do not last long enough, if they do not.
fn late(endpoint: &Endpoint, time: Duration) -> Option<Late> {
    let max_age = endpoint.freshness.max_age?;
    if endpoint.refresh.ahead && time > max_age / 2 {
        Some(Late::Ahead(max_age))
    } else if endpoint.refresh.probe.is_none() && time >= max_age {
        // Where there is a probe, its answer makes fresh what was loaded before.
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
