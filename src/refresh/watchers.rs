//! Which probes run, and which channels are listened on.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;

use super::{WatcherParts, notify, probe};
use crate::observe::Task;
use crate::plan::{Plan, ProbeId};
use crate::supervise;

/// The tasks that watch for changes of data, each with what ends it.
#[derive(Debug)]
pub(super) struct Watchers {
    parts: WatcherParts,
    probes: HashMap<ProbeId, CancellationToken>,
    listener: Option<(Vec<String>, CancellationToken)>,
}

impl Watchers {
    pub(super) fn new(parts: WatcherParts) -> Self {
        Self {
            parts,
            probes: HashMap::new(),
            listener: None,
        }
    }

    /// Starts what the plan needs, and ends what it does not need any more. What it has in common with the plan before
    /// goes on.
    pub(super) fn follow(&mut self, plan: &Plan) {
        self.probes.retain(|id, end| {
            let is_needed = plan.probe(*id).is_some();
            if !is_needed {
                end.cancel();
            }
            is_needed
        });
        for probe in plan.probes() {
            self.probes.entry(probe.id).or_insert_with(|| {
                let (end, parts) = (self.parts.shutdown.child_token(), self.parts.clone());
                let probe = probe.clone();
                supervise::spawn(&self.parts.observer, Task::Probe, &end, move || {
                    probe::watch(probe.clone(), parts.clone())
                });
                end
            });
        }
        let channels: Vec<String> = plan.channels().into_iter().map(str::to_owned).collect();
        if self
            .listener
            .as_ref()
            .is_some_and(|(known, _)| *known == channels)
        {
            return;
        }
        if let Some((_, end)) = self.listener.take() {
            end.cancel();
        }
        if !channels.is_empty() {
            let (end, parts) = (self.parts.shutdown.child_token(), self.parts.clone());
            let listened = channels.clone();
            supervise::spawn(&self.parts.observer, Task::Notify, &end, move || {
                notify::listen(listened.clone(), parts.clone())
            });
            self.listener = Some((channels, end));
        }
    }
}
