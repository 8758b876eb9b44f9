//! The server's processor time.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::Instant;

use crate::larder::{PATIENCE, Server};

/// Linux accounts processor time in hundredths of a second, except on Alpha.
const TICK: Duration = Duration::from_millis(10);

impl Server {
    /// Processor time so far, of all threads. None where the system has no `/proc`.
    pub(crate) fn cpu(&self) -> anyhow::Result<Option<Duration>> {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?)) else {
            return Ok(None);
        };
        // proc_pid_stat(5): the second field is the name in parentheses, which may contain anything; fields 14
        // and 15 are user and system time.
        let (_, fields) = stat
            .rsplit_once(')')
            .context("a stat file contains the name")?;
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<u32>);
        Ok(Some(TICK * ticks.sum::<Result<u32, _>>()?))
    }

    /// Waits until the server uses less than a tenth of a core: earlier requests are answered.
    pub(crate) async fn wait_until_idle(&self) -> anyhow::Result<()> {
        const WINDOW: Duration = Duration::from_millis(500);
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let before = self.cpu()?;
            tokio::time::sleep(WINDOW).await;
            let spent = self.cpu()?.unwrap_or_default() - before.unwrap_or_default();
            if spent < WINDOW / 10 {
                return Ok(());
            }
        }
        bail!("larder is still busy after {PATIENCE:?}")
    }
}
