//! The configuration, with one endpoint of each kind, and checks through the server itself.

use anyhow::Context;
use tokio::process::Command;

use crate::client::Connection;
use crate::larder::Server;
use crate::ledger::Ledger;

/// The table that the endpoints read.
pub(crate) const SCHEMA: &str = "CREATE TABLE state AS SELECT 0::int8 AS version";

/// Every kind of endpoint; `/brief` expires in most outages, the other resident ones in none.
pub(crate) const CONFIG: &str = r#"
[server]
listen = "LISTEN"

[repository]
url = "${DATABASE_URL}"
max_connections = 4
statement_timeout = "3s"
max_loads_per_second = 30

[cache]
max_size = "32MiB"

[defaults]
shape = "row"
timeout = "1s"
stale_while_revalidate = "2s"
stale_if_error = "5m"
max_keys = 5_000

[[endpoint]]
path = "/scheduled"
sql = "SELECT version, extract(epoch FROM clock_timestamp())::float8 AS at FROM state"
refresh = { every = "500ms" }

[[endpoint]]
path = "/brief"
sql = "SELECT version, extract(epoch FROM clock_timestamp())::float8 AS at FROM state"
refresh = { every = "250ms" }
max_age = "500ms"
stale_while_revalidate = "500ms"
stale_if_error = "1500ms"

[[endpoint]]
path = "/probed"
sql = "SELECT version, extract(epoch FROM clock_timestamp())::float8 AS at FROM state"
refresh.probe = { sql = "SELECT version / 20 FROM state", every = "250ms" }
max_age = "1s"

[[endpoint]]
path = "/notified"
sql = "SELECT version, extract(epoch FROM clock_timestamp())::float8 AS at FROM state"
refresh = { notify = "soak" }
max_age = "2s"

[[endpoint]]
path = "/large"
sql = """
SELECT version, extract(epoch FROM clock_timestamp())::float8 AS at, repeat('x', 100) AS filler
FROM state, generate_series(1, 1000)"""
shape = "rows"
refresh = { every = "1s" }

[[endpoint]]
path = "/hot/{n}"
sql = "SELECT version, extract(epoch FROM clock_timestamp())::float8 AS at, :n::int AS n FROM state"
max_age = "2s"
stale_if_error = "5s"
refresh = { ahead = true }

[[endpoint]]
path = "/cold/{n}"
sql = "SELECT version, extract(epoch FROM clock_timestamp())::float8 AS at, :n::int AS n FROM state"
max_age = "1s"
stale_while_revalidate = "0s"
stale_if_error = "5s"
"#;

impl Server {
    /// The most queries a minute, as `larder check` computes them.
    pub(crate) async fn checked_bound(&self, url: &str) -> anyhow::Result<u64> {
        let check = Command::new(&self.larder)
            .args(["check", "--no-measure", "-c"])
            .arg(&self.config.0)
            .env("DATABASE_URL", url)
            .output()
            .await?;
        let text = String::from_utf8(check.stdout)?;
        let bound = text
            .split("At most ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let bound = bound.with_context(|| format!("`larder check` prints no bound: {text}"))?;
        Ok(bound.parse()?)
    }

    /// Queries that ended since the start.
    pub(crate) async fn queries(&self) -> anyhow::Result<u64> {
        let answer = Connection::open(self.address)
            .await?
            .get("/metrics")
            .await?;
        let text = String::from_utf8(answer.body)?;
        let samples = text
            .lines()
            .filter(|line| line.starts_with("larder_repository_queries_total{"));
        let counts = samples.map(|sample| {
            let (_, count) = sample.rsplit_once(' ').context("a sample has a value")?;
            anyhow::Ok(count.parse::<f64>()? as u64)
        });
        counts.sum()
    }

    /// Which resident endpoints do not answer, or not with current data, although all faults are over.
    pub(crate) async fn complaints_after_recovery(&self, ledger: &Ledger) -> Vec<String> {
        let mut complaints = Vec::new();
        // Others compete for max_loads_per_second with clients that keep requesting new keys.
        let resident = self.plan.endpoints().iter();
        let resident = resident.filter(|endpoint| endpoint.is_resident());
        let targets = resident.map(|endpoint| endpoint.path.as_str().to_owned());
        for target in targets {
            let asked = ledger.versions.newest();
            let answer = async { Connection::open(self.address).await?.get(&target).await };
            match answer.await {
                Ok(answer) if answer.status == 200 => {
                    let behind = asked.saturating_sub(answer.version().unwrap_or(0));
                    // The writer commits five versions a second, and the oldest fresh answer is 2 s old.
                    if behind > 20 {
                        complaints.push(format!("{target} is {behind} versions behind at the end"));
                    }
                }
                Ok(answer) => {
                    complaints.push(format!("{target} returns {} at the end", answer.status));
                }
                Err(error) => complaints.push(format!("{target} at the end: {error}")),
            }
        }
        complaints
    }
}
