//! The Larder that is held to its promises: `larder serve`, a process of its own, on a configuration
//! with one endpoint of each kind.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use larder::config::Config;
use larder::plan::Plan;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::clients::Connection;
use crate::ledger::Ledger;

/// What the endpoints read.
pub(crate) const SCHEMA: &str = "CREATE TABLE state AS SELECT 0::int8 AS version";

/// Every kind of endpoint; `/brief` expires in most outages, the other resident ones in none.
const CONFIG: &str = r#"
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

/// How long Larder may take to start, or to answer a question of ours.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait between looks at a server that is not ready yet.
const POLL: Duration = Duration::from_millis(10);

/// A running Larder on a port of its own. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    larder: PathBuf,
    pub(crate) plan: Plan,
    pub(crate) address: SocketAddr,
    config: ConfigFile,
}

impl Server {
    pub(crate) async fn start(larder: &Path, url: &str) -> anyhow::Result<Self> {
        // Free until a moment before the server takes it.
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let text = CONFIG.replace("LISTEN", &address.to_string());
        let environment = |name: &str| (name == "DATABASE_URL").then(|| url.to_owned());
        let plan = Config::parse("soak.toml", text.clone(), Path::new("."), &environment)
            .and_then(Plan::compile)
            .map_err(|report| anyhow::anyhow!("the configuration is wrong:\n{report}"))?;
        let config = ConfigFile::write(&text)?;
        let child = Command::new(larder)
            .args(["serve".as_ref(), "-c".as_ref(), config.0.as_os_str()])
            .env("DATABASE_URL", url)
            .env("RUST_LOG", "error")
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can not run {}", larder.display()))?;
        let mut server = Self {
            child,
            larder: larder.to_owned(),
            plan,
            address,
            config,
        };
        server.is_ready().await?;
        Ok(server)
    }

    async fn is_ready(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!("larder ended before it was ready: {status}");
            }
            if let Ok(mut connection) = Connection::open(self.address).await
                && let Ok(answer) = connection.get("/readyz").await
                && answer.status == 200
            {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("larder is not ready after {PATIENCE:?}")
    }

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
        let bound = bound.with_context(|| format!("`larder check` names no bound: {text}"))?;
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

    /// Resident memory, in KiB.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))
            .context("the system does not tell how much memory a process holds")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let size = line.and_then(|line| line.split_whitespace().next());
        Ok(size.context("a process has a size")?.parse()?)
    }

    /// Which resident endpoint does not answer, or not with what is current, though all faults are over.
    pub(crate) async fn complaints_after_recovery(&self, ledger: &Ledger) -> Vec<String> {
        let mut complaints = Vec::new();
        // The rest shares what clients may cause with those who ask for ever new keys.
        let resident = self.plan.endpoints().iter();
        let resident = resident.filter(|endpoint| endpoint.is_resident());
        let targets = resident.map(|endpoint| endpoint.path.as_str().to_owned());
        for target in targets {
            let asked = ledger.versions.newest();
            let answer = async { Connection::open(self.address).await?.get(&target).await };
            match answer.await {
                Ok(answer) if answer.status == 200 => {
                    let behind = asked.saturating_sub(answer.version().unwrap_or(0));
                    // The writer has five versions a second, and the oldest fresh answer is 2 s old.
                    if behind > 20 {
                        complaints.push(format!("{target} is {behind} versions behind at the end"));
                    }
                }
                Ok(answer) => {
                    complaints.push(format!("{target} is a {} at the end", answer.status));
                }
                Err(error) => complaints.push(format!("{target} at the end: {error}")),
            }
        }
        complaints
    }

    fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("larder has ended")
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.pid()?.try_into()?), Signal::SIGTERM)?;
        let status = self.child.wait().await?;
        ensure!(status.success(), "larder did not drain: {status}");
        Ok(())
    }
}

/// A configuration in a folder of cargo's, gone when it is dropped.
struct ConfigFile(PathBuf);

impl ConfigFile {
    fn write(text: &str) -> anyhow::Result<Self> {
        let name = format!("soak-{}.toml", std::process::id());
        let file = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        std::fs::write(&file.0, text).context("the configuration can not be written")?;
        Ok(file)
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        // What can not be removed lies in cargo's own folder.
        let _ = std::fs::remove_file(&self.0);
    }
}
