//! The Larder that is measured: `larder serve`, a process of its own, on the shipped configuration.

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

use crate::load::{SILENCE, Wire};

/// Linux counts a process's time in hundredths of a second on everything but Alpha.
const TICK: Duration = Duration::from_millis(10);

/// How long to wait between looks at a server that is not ready yet.
const POLL: Duration = Duration::from_millis(10);

/// A running Larder on a port of its own. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    pub(crate) plan: Plan,
    pub(crate) address: SocketAddr,
    _config: ConfigFile,
}

impl Server {
    pub(crate) async fn start(larder: &Path, url: &str) -> anyhow::Result<Self> {
        let shipped = include_str!("../../config.toml");
        let environment = |name: &str| (name == "DATABASE_URL").then(|| url.to_owned());
        let plan = Config::parse(
            "config.toml",
            shipped.to_owned(),
            Path::new("."),
            &environment,
        )
        .and_then(Plan::compile)
        .map_err(|report| anyhow::anyhow!("the shipped configuration is wrong:\n{report}"))?;
        // Free until a moment before the server takes it.
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let moved = shipped.replace(&plan.server().listen.to_string(), &address.to_string());
        let config = ConfigFile::write(&moved)?;
        let child = Command::new(larder)
            .args(["serve".as_ref(), "-c".as_ref(), config.0.as_os_str()])
            .env("DATABASE_URL", url)
            .env("RUST_LOG", "warn")
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", larder.display()))?;
        let mut server = Self {
            child,
            plan,
            address,
            _config: config,
        };
        server.is_ready().await?;
        Ok(server)
    }

    async fn is_ready(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < SILENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!("larder ended before it was ready: {status}");
            }
            let ready = Wire::open(self.address).and_then(|mut wire| wire.get("/readyz"));
            if matches!(ready, Ok(200)) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("larder is not ready after {SILENCE:?}")
    }

    fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("larder has ended")
    }

    /// Processor time so far, of all its threads; where the system tells.
    pub(crate) fn cpu(&self) -> anyhow::Result<Option<Duration>> {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?)) else {
            return Ok(None);
        };
        // The second field is the program's name in brackets, which may hold anything; user and
        // system time are the fourteenth and the fifteenth.
        let (_, fields) = stat
            .rsplit_once(')')
            .context("a stat file names its program")?;
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<u32>);
        Ok(Some(TICK * ticks.sum::<Result<u32, _>>()?))
    }

    /// Returns when nearly all of a core has been idle for a while: what was asked before is answered.
    pub(crate) async fn rest(&self) -> anyhow::Result<()> {
        const WHILE: Duration = Duration::from_millis(500);
        let begun = Instant::now();
        while begun.elapsed() < SILENCE {
            let before = self.cpu()?;
            tokio::time::sleep(WHILE).await;
            let spent = self.cpu()?.unwrap_or_default() - before.unwrap_or_default();
            if spent < WHILE / 10 {
                return Ok(());
            }
        }
        bail!("larder is still at work after {SILENCE:?}")
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
        let name = format!("hits-{}.toml", std::process::id());
        let file = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        std::fs::write(&file.0, text).context("the configuration cannot be written")?;
        Ok(file)
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        // What cannot be removed stays in cargo's own folder.
        let _ = std::fs::remove_file(&self.0);
    }
}
