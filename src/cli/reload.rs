//! When `larder serve` reads its configuration again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::Stop;
use crate::app::{self, Reloader};
use crate::config::{Config, FileHash, Report, hash_of_file};
use crate::mutex::lock;
use crate::plan::Plan;

/// How often the files are compared with what was read. Contents and not times, because a file system may keep
/// coarse times, and a ConfigMap of Kubernetes is a symbolic link that is changed.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// The configuration file and the files that it names, as they were read last.
#[derive(Debug, Clone)]
pub(super) struct Files {
    config: PathBuf,
    read: Arc<Mutex<Read>>,
}

/// What was in the files, and how often they have been read.
#[derive(Debug, Clone, Default)]
struct Read {
    times: u64,
    hashes: Hashes,
}

type Hashes = HashMap<PathBuf, FileHash>;

impl Files {
    pub(super) fn new(config: &Path) -> Self {
        Self {
            config: config.to_owned(),
            read: Arc::default(),
        }
    }

    /// Reads and compiles them.
    ///
    /// # Errors
    /// All mistakes in them.
    pub(super) fn read(&self) -> Result<Plan, Report> {
        let config = Config::load(&self.config, &|name| std::env::var(name).ok())?;
        let mut read = lock(&self.read);
        read.times += 1;
        read.hashes.clone_from(&config.files);
        drop(read);
        let plan = Plan::compile(config)?;
        app::check_files(&plan).map_err(|error| app::unusable_file(&plan, &error))?;
        Ok(plan)
    }

    fn last_read(&self) -> Read {
        lock(&self.read).clone()
    }
}

/// Reloads on SIGHUP. A terminal sends it as well when it closes, which ends the server.
pub(super) fn on_hangup(reloader: Reloader, stop: Stop) -> anyhow::Result<()> {
    // Before it is received, which ends that it is ignored.
    let ends_with_terminal = has_terminal() && !super::is_hangup_ignored();
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            if ends_with_terminal && !has_terminal() {
                return stop.graceful.cancel();
            }
            // The log says what came of it.
            let _ = reloader.reload().await;
        }
    });
    Ok(())
}

/// Whether the process has a terminal, which is gone when it hangs up: tty(4).
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Reloads when a file changes.
pub(super) fn on_change(reloader: Reloader, files: Files) {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(WATCH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let Read {
            mut times,
            mut hashes,
        } = files.last_read();
        loop {
            ticks.tick().await;
            let now = hashes_of(hashes.keys().cloned().collect()).await;
            if now == hashes {
                continue;
            }
            // The log says what came of it.
            let _ = reloader.reload().await;
            let read = files.last_read();
            // A file that is no TOML was not read to its end. Until it changes, there is nothing to do.
            hashes = if read.times == times {
                now
            } else {
                read.hashes
            };
            times = read.times;
        }
    });
}

async fn hashes_of(paths: Vec<PathBuf>) -> Hashes {
    let hash_all = move || {
        let hashes = paths.into_iter().map(|path| {
            let hash = hash_of_file(&path);
            (path, hash)
        });
        hashes.collect()
    };
    let hashes = tokio::task::spawn_blocking(hash_all).await;
    hashes.unwrap_or_default()
}
