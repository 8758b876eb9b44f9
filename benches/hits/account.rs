//! Statements that reached Postgres while hits were served, by the server's metrics, and how many were due at
//! most: see [`due`].

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use ::larder::plan::{Endpoint, EndpointId, Plan, Probe, Route};
use anyhow::{Context, ensure};

use crate::larder::Server;
use crate::load::Wire;

/// Runs of a cron line are spread over this time at most.
const CRON_SPREAD: Duration = Duration::from_secs(10);

/// The state of the server at a moment.
pub(crate) struct Snapshot {
    at: SystemTime,
    pub(crate) cpu: Option<Duration>,
    /// Resident, in bytes.
    pub(crate) memory: u64,
    /// Statements sent to Postgres, by endpoint.
    statements: BTreeMap<String, u64>,
}

impl Snapshot {
    pub(crate) fn take(server: &Server) -> anyhow::Result<Self> {
        let at = SystemTime::now();
        let cpu = server.cpu()?;
        let mut wire = Wire::open(server.address).context("larder no longer answers")?;
        ensure!(wire.get("/metrics")? == 200, "cannot read /metrics");
        let mut statements = BTreeMap::new();
        let mut memory = 0;
        for line in wire.text()?.lines() {
            if let Some(bytes) = line.strip_prefix("process_resident_memory_bytes ") {
                memory = bytes.parse()?;
            }
            let Some(sample) = line.strip_prefix("larder_repository_queries_total{") else {
                continue;
            };
            let endpoint = sample
                .split('"')
                .nth(1)
                .context("its first label is `endpoint`")?;
            let (_, count) = sample.rsplit_once(' ').context("a sample has a value")?;
            *statements.entry(endpoint.to_owned()).or_default() += count.parse::<u64>()?;
        }
        Ok(Self {
            at,
            cpu,
            memory,
            statements,
        })
    }
}

/// Statements of an endpoint, and how many its declaration allows.
pub(crate) struct Account {
    endpoint: String,
    pub(crate) statements: u64,
    pub(crate) at_most: u64,
}

impl Account {
    pub(crate) fn complaint(&self) -> Option<String> {
        let Self {
            endpoint,
            statements,
            at_most,
        } = self;
        (statements > at_most).then(|| {
            format!("{endpoint} sent {statements} statements to Postgres, but at most {at_most} were due")
        })
    }
}

/// Accounts for every endpoint. The targets are requested in turn, and a recent one may be loaded once more.
pub(crate) fn accounts(
    plan: &Plan,
    targets: &[&str],
    before: &Snapshot,
    after: &Snapshot,
) -> Vec<Account> {
    let asked: Vec<EndpointId> = targets
        .iter()
        .filter_map(|target| match plan.route(target)? {
            Route::Endpoint(routed) => Some(routed.endpoint),
            Route::Page(_) => None,
        })
        .collect();
    let count =
        |look: &Snapshot, endpoint: &str| look.statements.get(endpoint).copied().unwrap_or(0);
    let account = |endpoint: &Endpoint| {
        let name = endpoint.path.as_str();
        Account {
            endpoint: name.to_owned(),
            statements: count(after, name).saturating_sub(count(before, name)),
            at_most: due(
                plan,
                endpoint,
                asked.contains(&endpoint.id),
                before.at,
                after.at,
            ),
        }
    };
    plan.endpoints().iter().map(account).collect()
}

/// The most loads that an endpoint's declaration allows between two moments: those of its schedule, one for each
/// run of its probe, and if one of its keys is requested all the time, one each time that its entry goes stale.
fn due(plan: &Plan, endpoint: &Endpoint, is_asked: bool, from: SystemTime, to: SystemTime) -> u64 {
    let span = to.duration_since(from).unwrap_or_default();
    // One more at each end: a load that is due at once, and one that was running.
    let rhythm = |every: Duration| (span.as_nanos() / every.as_nanos().max(1)) as u64 + 2;
    let every = endpoint.refresh.every.map_or(0, rhythm);
    let stale = endpoint
        .freshness
        .max_age
        .filter(|_| is_asked)
        .map_or(0, rhythm);
    let cron = endpoint.refresh.cron.as_ref().map_or(0, |line| {
        let times = std::iter::successors(line.next_after(from - CRON_SPREAD), |time| {
            line.next_after(*time)
        });
        times.take_while(|time| *time <= to).count() as u64 + 1
    });
    let is_its_probe = |probe: &&Probe| Some(probe.id) == endpoint.refresh.probe;
    let probe = plan.probes().iter().find(is_its_probe);
    every + stale + cron + probe.map_or(0, |probe| rhythm(probe.every))
}
