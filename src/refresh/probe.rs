//! Probes: a cheap query that runs often, so that the expensive ones run only when its answer changes.

use tokio::time::{Instant, MissedTickBehavior};

use super::WatcherParts;
use super::timetable::place;
use crate::cache::Validated;
use crate::observe::{Event, Trigger};
use crate::plan::{Endpoint, Probe};
use crate::repository::ProbeAnswer;

/// A probe's last answer.
struct Last {
    answer: ProbeAnswer,
    /// When the first answer equal to it had arrived.
    since: Instant,
}

/// Runs the probe until it is dropped, and revalidates or invalidates the endpoints that name it.
pub(super) async fn watch(probe: Probe, parts: WatcherParts) {
    let WatcherParts {
        repository,
        invalidator,
        observer,
        ..
    } = parts;
    let names_it = |endpoint: &Endpoint| endpoint.refresh.probe == Some(probe.id);
    let clock = invalidator.clock();
    let first = Instant::now() + probe.every.mul_f64(place(&probe.sql));
    let mut ticks = tokio::time::interval_at(first, probe.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<Last> = None;
    let mut is_failing = false;
    loop {
        ticks.tick().await;
        let began = clock.now();
        let answer = match repository.probe(&probe).await {
            Ok(answer) => answer,
            Err(error) => {
                // The entries it kept fresh age until it succeeds again.
                if !std::mem::replace(&mut is_failing, true) {
                    observer.emit(&Event::ProbeFailing {
                        probe: probe.id,
                        fault: error.fault(),
                        cause: error.to_string(),
                    });
                }
                continue;
            }
        };
        if std::mem::take(&mut is_failing) {
            observer.emit(&Event::ProbeRecovered { probe: probe.id });
        }
        match &last {
            Some(last) if last.answer == answer => {
                let validated = Validated {
                    since: last.since,
                    until: began,
                };
                invalidator.revalidate(validated, names_it);
            }
            // The first answer counts as a change: there may have been one since the entries were loaded.
            Some(_) | None => {
                let since = clock.now();
                last = Some(Last { answer, since });
                invalidator.invalidate(Trigger::Probe, names_it);
            }
        }
    }
}
