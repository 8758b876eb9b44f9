//! Which state results from which evidence.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::*;
use crate::config::Config;
use crate::metrics::EndpointReadings;
use crate::plan::{FreshnessPolicy, Plan};
use crate::read_through::{LoadError, ResidentEntry};

const SECOND: Duration = Duration::from_secs(1);

/// The evidence for one of three endpoints: on a schedule, loaded on request, with parameters.
struct Case {
    plan: Plan,
    condition: EndpointStatus,
    keyed: KeyStats,
    counted: EndpointReadings,
    repository: Option<Reachability>,
    now: Instant,
}

impl Case {
    fn new() -> Self {
        let text = "[repository]\nurl = \"postgres://h/d\"\n\
            [[endpoint]]\npath = \"/scheduled\"\nsql = \"SELECT 1\"\nrefresh = { every = \"5s\" }\n\
            [[endpoint]]\npath = \"/asked\"\nsql = \"SELECT 1\"\n\
            [[endpoint]]\npath = \"/keyed/{n}\"\nsql = \"SELECT :n::int\"\n";
        let config = Config::parse("config.toml", text.to_owned(), Path::new("."), &|_| None);
        let now = Instant::now() + 1_000 * SECOND;
        Self {
            plan: Plan::compile(config.unwrap()).unwrap(),
            condition: EndpointStatus {
                is_described: true,
                resident: None,
                due: None,
                retry_in: Duration::ZERO,
                last_failure: None,
            },
            keyed: KeyStats::default(),
            counted: EndpointReadings::default(),
            repository: None,
            now,
        }
    }

    fn with_entry(mut self, freshness: Freshness) -> Self {
        let policy = FreshnessPolicy {
            max_age: Some(SECOND),
            stale_while_revalidate: SECOND,
            stale_if_error: SECOND,
        };
        self.condition.resident = Some(ResidentEntry {
            freshness,
            age: SECOND,
            lifetime: policy.lifetime(None, SECOND),
            bytes: 1,
            query_time: SECOND,
            last_modified: SystemTime::now(),
        });
        self
    }

    fn with_failure(mut self, error: LoadError, seconds_ago: u32, is_unresolved: bool) -> Self {
        self.condition.last_failure = Some(LastFailure {
            error: Arc::new(error),
            at: self.now - SECOND * seconds_ago,
            at_wall: SystemTime::now(),
            is_unresolved,
        });
        self
    }

    fn with_repository(mut self, is_up: bool, seconds_ago: u32) -> Self {
        self.repository = Some(Reachability {
            is_up,
            since: self.now - SECOND * seconds_ago,
            since_wall: SystemTime::now(),
        });
        self
    }

    fn with_answers(mut self, hits: u64, stale: u64, errors: u64) -> Self {
        self.counted = EndpointReadings {
            hits,
            stale,
            misses: errors,
            errors,
            ..Default::default()
        };
        self
    }

    #[track_caller]
    fn check(&self, path: &str, expected: State) {
        let all = self.plan.endpoints();
        let endpoint = all.iter().find(|e| e.path.as_str() == path).unwrap();
        let evidence = Evidence {
            endpoint,
            condition: &self.condition,
            keyed: &self.keyed,
            rates: &Rates::between(&EndpointReadings::default(), &self.counted, 10.0),
            repository: self.repository,
            now: self.now,
        };
        assert_eq!(evidence.state(), expected);
    }
}

fn away() -> LoadError {
    let cause = "refused".to_owned();
    crate::repository::RepositoryError::Unavailable { cause }.into()
}

#[test]
fn an_endpoint_that_cannot_answer_yet_is_warming() {
    Case::new().check("/scheduled", State::Warming);
    let mut undescribed = Case::new();
    undescribed.condition.is_described = false;
    undescribed.check("/keyed/{n}", State::Warming);
}

#[test]
fn an_endpoint_on_a_schedule_is_stale_beyond_its_limit_requested_or_not() {
    let with = |freshness| Case::new().with_entry(freshness);
    with(Freshness::Fresh).check("/scheduled", State::Fresh);
    for freshness in [
        Freshness::Stale,
        Freshness::StaleIfError,
        Freshness::Expired,
    ] {
        with(freshness).check("/scheduled", State::Stale);
        with(freshness).check("/asked", State::Idle);
    }
}

#[test]
fn an_endpoint_loaded_on_request_is_stale_when_most_answers_are() {
    let stale = || Case::new().with_entry(Freshness::Stale);
    stale().with_answers(9, 1, 0).check("/asked", State::Fresh);
    stale().with_answers(1, 9, 0).check("/asked", State::Stale);
    let fresh_again = Case::new().with_entry(Freshness::Fresh);
    fresh_again
        .with_answers(0, 9, 0)
        .check("/asked", State::Fresh);
    Case::new().check("/keyed/{n}", State::Idle);
    Case::new()
        .with_answers(9, 1, 0)
        .check("/keyed/{n}", State::Fresh);
    Case::new()
        .with_answers(1, 9, 0)
        .check("/keyed/{n}", State::Stale);
    let mut held = Case::new();
    held.keyed.fresh = 1;
    held.check("/keyed/{n}", State::Fresh);
}

#[test]
fn a_failure_counts_until_a_load_succeeds() {
    let fresh = || Case::new().with_entry(Freshness::Fresh);
    fresh()
        .with_failure(LoadError::Lost, 500, true)
        .check("/asked", State::Failing);
    fresh()
        .with_failure(LoadError::Lost, 500, false)
        .check("/asked", State::Fresh);
    // The failure of one key of many stops counting.
    Case::new()
        .with_failure(LoadError::Lost, 59, true)
        .check("/keyed/{n}", State::Failing);
    Case::new()
        .with_failure(LoadError::Lost, 60, true)
        .check("/keyed/{n}", State::Idle);
}

#[test]
fn an_outage_ends_when_postgres_is_reachable_again() {
    let failed = || {
        Case::new()
            .with_entry(Freshness::Fresh)
            .with_failure(away(), 20, true)
    };
    failed().check("/asked", State::Failing);
    failed()
        .with_repository(false, 30)
        .check("/asked", State::Failing);
    failed()
        .with_repository(true, 10)
        .check("/asked", State::Fresh);
    failed()
        .with_repository(true, 30)
        .check("/asked", State::Failing);
    let other = Case::new()
        .with_entry(Freshness::Fresh)
        .with_failure(LoadError::Lost, 20, true);
    other
        .with_repository(true, 10)
        .check("/asked", State::Failing);
}

#[test]
fn an_endpoint_with_nothing_to_serve_in_an_outage_is_failing() {
    let away = |case: Case| case.with_repository(false, 10);
    away(Case::new()).check("/scheduled", State::Failing);
    away(Case::new().with_entry(Freshness::Expired)).check("/asked", State::Failing);
    away(Case::new().with_entry(Freshness::StaleIfError)).check("/scheduled", State::Stale);
    away(Case::new()).check("/keyed/{n}", State::Idle);
    away(Case::new().with_answers(9, 0, 1)).check("/keyed/{n}", State::Failing);
    let there = Case::new().with_answers(9, 0, 1).with_repository(true, 10);
    there.check("/keyed/{n}", State::Fresh);
}
