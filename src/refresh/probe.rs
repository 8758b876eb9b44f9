//! Probes: a small question asked often, so that the large ones are asked only when its answer changed.

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior};

use super::Changes;
use super::timetable::place;
use crate::cache::Unchanged;
use crate::observe::{Event, Observer, Trigger};
use crate::plan::{EndpointId, Plan, Probe};
use crate::repository::{ProbeAnswer, Repository};

/// What a probe said last, and since when.
struct Said {
    answer: ProbeAnswer,
    since: Instant,
}

/// Asks the probe's question until it is dropped, and tells every endpoint that names it.
pub(super) async fn watch(
    plan: Arc<Plan>,
    probe: Probe,
    repository: Repository,
    changes: Changes,
    observer: Observer,
) {
    let endpoints: Vec<EndpointId> = plan
        .endpoints()
        .iter()
        .filter(|endpoint| endpoint.refresh.probe == Some(probe.id))
        .map(|endpoint| endpoint.id)
        .collect();
    let first = Instant::now() + probe.every.mul_f64(place(&probe.sql));
    let mut ticks = tokio::time::interval_at(first, probe.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said: Option<Said> = None;
    let mut is_failing = false;
    loop {
        ticks.tick().await;
        let began = changes.read_through.now();
        let answer = match repository.probe(&probe).await {
            Ok(answer) => answer,
            Err(error) => {
                // Nothing is known now: what it kept fresh goes by its age until it answers again.
                if !std::mem::replace(&mut is_failing, true) {
                    let (fault, cause) = (error.fault(), error.to_string());
                    let probe = probe.id;
                    observer.emit(&Event::ProbeFailing {
                        probe,
                        fault,
                        cause,
                    });
                }
                continue;
            }
        };
        if std::mem::take(&mut is_failing) {
            observer.emit(&Event::ProbeRecovered { probe: probe.id });
        }
        match &said {
            Some(Said {
                answer: last,
                since,
            }) if *last == answer => {
                let unchanged = Unchanged {
                    since: *since,
                    until: began,
                };
                for endpoint in &endpoints {
                    changes.read_through.confirm(*endpoint, unchanged);
                }
            }
            // At first nobody knows what was missed.
            Some(_) | None => {
                let since = changes.read_through.now();
                said = Some(Said { answer, since });
                changes.tell(&endpoints, Trigger::Probe);
            }
        }
    }
}
