//! `larder serve` as a process, seen from outside.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::larder::config::Config;
use ::larder::plan::Plan;
use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::client::Connection;

/// How long Larder may take to start or to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The time between two checks for readiness.
const POLL: Duration = Duration::from_millis(10);

/// A running Larder on a port of its own. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    pub(crate) larder: PathBuf,
    pub(crate) plan: Plan,
    pub(crate) address: SocketAddr,
    pub(crate) config: ConfigFile,
}

impl Server {
    /// Starts it with a configuration in which `LISTEN` stands for the address, and waits until it is ready.
    pub(crate) async fn start(larder: &Path, url: &str, config: &str) -> anyhow::Result<Self> {
        // Free until the server takes it.
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let text = config.replace("LISTEN", &address.to_string());
        let environment = |name: &str| (name == "DATABASE_URL").then(|| url.to_owned());
        let plan = Config::parse("config.toml", text.clone(), Path::new("."), &environment)
            .and_then(Plan::compile)
            .map_err(|report| anyhow::anyhow!("the configuration is wrong:\n{report}"))?;
        let config = ConfigFile::write(&text)?;
        let child = Command::new(larder)
            .args(["serve".as_ref(), "-c".as_ref(), config.0.as_os_str()])
            .env("DATABASE_URL", url)
            .env("RUST_LOG", "error")
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", larder.display()))?;
        let mut server = Self {
            child,
            larder: larder.to_owned(),
            plan,
            address,
            config,
        };
        server.wait_until_ready().await?;
        Ok(server)
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!("larder exited before it was ready: {status}");
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

    /// Resident memory, in KiB.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))
            .context("the memory of the process is not in /proc")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let size = line.and_then(|line| line.split_whitespace().next());
        Ok(size.context("VmRSS is missing")?.parse()?)
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("larder has exited")
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.pid()?.try_into()?), Signal::SIGTERM)?;
        let status = self.child.wait().await?;
        ensure!(status.success(), "larder did not drain: {status}");
        Ok(())
    }
}

/// A configuration file in Cargo's folder for temporary files. Dropped, it is removed.
pub(crate) struct ConfigFile(pub(crate) PathBuf);

impl ConfigFile {
    fn write(text: &str) -> anyhow::Result<Self> {
        let name = format!("larder-{}.toml", std::process::id());
        let file = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        std::fs::write(&file.0, text).context("the configuration cannot be written")?;
        Ok(file)
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        // If it cannot be removed, it stays in Cargo's folder.
        let _ = std::fs::remove_file(&self.0);
    }
}
