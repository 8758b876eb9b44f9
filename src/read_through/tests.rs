//! The engine on a clock that only the test advances: keys loaded ahead of time, entries that a probe
//! validates, and keys in use during a flood of new ones.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::time::{sleep, sleep_until};

use super::simulation::Defect;
use super::simulation::model::document;
use super::*;
use crate::cache::Answer;
use crate::config::Config;
use crate::observe::Event;
use crate::plan::{ParameterType, Signature};

/// Answers after a constant time.
struct Steady {
    query_time: Duration,
    answers: Arc<AtomicUsize>,
}

impl Source for Steady {
    async fn answer(&self, _: &Endpoint, _: &Arguments) -> Result<Answer, LoadError> {
        sleep(self.query_time).await;
        let number = self.answers.fetch_add(1, Ordering::Relaxed);
        Ok(Answer::Document(document(number.to_string().into_bytes())))
    }

    fn retry_in(&self) -> Duration {
        Duration::ZERO
    }
}

/// An endpoint with parameters whose queries all take the same time, with its background tasks.
struct Fixture {
    read: ReadThrough<Steady>,
    signature: Signature,
    answers: Arc<AtomicUsize>,
    too_slow: Arc<AtomicUsize>,
}

impl Fixture {
    fn ahead(max_age: Duration, query_time: Duration) -> Self {
        let policy = format!(
            "max_age = \"{}ms\"\nrefresh = {{ ahead = true }}",
            max_age.as_millis()
        );
        Self::new(&policy, query_time)
    }

    fn new(policy: &str, query_time: Duration) -> Self {
        Self::with(20, policy, query_time, Defect::None)
    }

    fn with(loads_per_second: u32, policy: &str, query_time: Duration, defect: Defect) -> Self {
        let text = format!(
            "[repository]\nurl = \"postgres://localhost/d\"\nmax_connections = 4\n\
             max_loads_per_second = {loads_per_second}\n[[endpoint]]\npath = \"/{{k}}\"\n\
             sql = \"SELECT :k::int\"\n{policy}"
        );
        let config = Config::parse("config.toml", text, Path::new("."), &|_| None).unwrap();
        let plan = Arc::new(Plan::compile(config).unwrap());
        let endpoint = plan.endpoint(EndpointId::new(0));
        let signature = Signature::new(endpoint, vec![ParameterType::Int4]).unwrap();
        let too_slow = Arc::new(AtomicUsize::new(0));
        let reports = Arc::clone(&too_slow);
        let record = move |event: &Event| {
            let is_report = matches!(event, Event::AheadTooSlow { .. });
            reports.fetch_add(usize::from(is_report), Ordering::Relaxed);
        };
        let observer = Observer::new(vec![Box::new(record)]);
        let answers = Arc::default();
        let source = Steady {
            query_time,
            answers: Arc::clone(&answers),
        };
        let cache = Cache::new(&plan, observer.clone());
        let mut read = ReadThrough::new(plan, source, cache, observer);
        Arc::get_mut(&mut read.engine).unwrap().defect = defect;
        let (sender, mut checks) = mpsc::unbounded_channel::<AheadCheck>();
        read.maintenance().send_ahead_checks_to(sender);
        let reader = read.clone();
        tokio::spawn(async move {
            while let Some(check) = checks.recv().await {
                let read = reader.clone();
                tokio::spawn(async move {
                    sleep_until(check.at).await;
                    read.refresh_ahead(&check);
                });
            }
        });
        Self {
            read,
            signature,
            answers,
            too_slow,
        }
    }

    fn arguments(&self, k: usize) -> Arguments {
        let (text, endpoint) = (k.to_string(), self.read.endpoint(EndpointId::new(0)));
        let path = [("k", text.as_str().into())];
        self.signature.arguments(endpoint, &path, &[]).unwrap()
    }

    async fn get(&self, k: usize) -> Result<Served, ReadError> {
        let key = Key::new(EndpointId::new(0), self.arguments(k));
        self.read.get(&key).await
    }

    /// Requests a key at this interval until there were this many loads, and returns the number of stale
    /// responses.
    async fn poll(&self, distance: Duration, answers: usize) -> usize {
        self.get(1).await.unwrap();
        let mut stale = 0;
        while self.answers.load(Ordering::Relaxed) < answers {
            let served = self.get(1).await.unwrap();
            let is_late = served.age > served.entry.lifetime().fresh;
            assert_eq!(is_late, served.status == CacheStatus::Stale);
            stale += usize::from(is_late);
            sleep(distance).await;
        }
        stale
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_polled_steadily_is_never_stale_while_its_query_takes_a_third_of_max_age() {
    for (max_age, poll) in [
        (300, 30),
        (300, 99),
        (600, 173),
        (1_000, 100),
        (60_000, 100),
    ] {
        let max_age = Duration::from_millis(max_age);
        let fixture = Fixture::ahead(max_age, max_age / 3);
        let stale = fixture.poll(Duration::from_millis(poll), 500).await;
        assert_eq!(stale, 0, "{max_age:?}, requested every {poll} ms");
        assert_eq!(fixture.too_slow.load(Ordering::Relaxed), 0, "{max_age:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_too_slow_to_refresh_ahead_is_reported_once() {
    let max_age = Duration::from_secs(1);
    let fixture = Fixture::ahead(max_age, max_age * 2 / 3);
    assert!(fixture.poll(Duration::from_millis(100), 50).await > 0);
    assert_eq!(fixture.too_slow.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_nobody_requests_is_left_to_expire() {
    let fixture = Fixture::ahead(Duration::from_secs(1), Duration::from_millis(300));
    fixture.poll(Duration::from_millis(100), 10).await;
    sleep(Duration::from_secs(10)).await;
    let answers = fixture.answers.load(Ordering::Relaxed);
    assert!(answers <= 12, "{answers}");
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(fixture.answers.load(Ordering::Relaxed), answers);
}

#[tokio::test(start_paused = true)]
async fn an_entry_validated_for_long_is_as_old_as_its_last_validation_when_the_data_change() {
    let policy = "max_age = \"1s\"\nstale_while_revalidate = \"2s\"\nstale_if_error = \"2s\"\n\
                  refresh = { probe = { sql = \"SELECT 1\", every = \"500ms\" } }";
    let fixture = Fixture::new(policy, Duration::from_millis(100));
    let (id, every) = (EndpointId::new(0), Duration::from_millis(500));
    let since = Instant::now();
    fixture.get(1).await.unwrap();
    for _ in 0..7_200 {
        sleep(every).await;
        let until = Instant::now();
        fixture.read.revalidate(id, Validated { since, until });
        let served = fixture.get(1).await.unwrap();
        assert_eq!(
            (served.status, served.age),
            (CacheStatus::Hit, Duration::ZERO)
        );
        // moka has a clock of its own.
        fixture.read.engine.cache.maintain();
    }
    assert_eq!(fixture.answers.load(Ordering::Relaxed), 1);
    sleep(every).await;
    fixture.read.invalidate(id);
    let served = fixture.get(1).await.unwrap();
    assert_eq!((served.status, served.age), (CacheStatus::Stale, every));
    sleep(every).await;
    let served = fixture.get(1).await.unwrap();
    assert_eq!(served.status, CacheStatus::Hit);
    assert_eq!(fixture.answers.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn entries_age_while_the_machine_sleeps() {
    let seconds = Duration::from_secs;
    let fixture = Fixture::new(
        "max_age = \"10s\"\nstale_while_revalidate = \"1m\"\nstale_if_error = \"1m\"",
        seconds(1),
    );
    fixture.get(1).await.unwrap();
    let of = |served: &Served| (served.status, served.age);
    let hit = fixture.get(1).await.unwrap();
    assert_eq!(of(&hit), (CacheStatus::Hit, seconds(1)));
    assert!(fixture.read.clock().record_sleep(seconds(30)));
    let stale = fixture.get(1).await.unwrap();
    assert_eq!(of(&stale), (CacheStatus::Stale, seconds(31)));
    // It is refreshed in the background.
    sleep(seconds(2)).await;
    let again = fixture.get(1).await.unwrap();
    assert_eq!(of(&again), (CacheStatus::Hit, seconds(2)));
    fixture.read.clock().record_sleep(seconds(8 * 3_600));
    let expired = fixture.get(1).await.unwrap();
    assert_eq!(of(&expired), (CacheStatus::Miss, seconds(1)));
}

#[tokio::test(start_paused = true)]
async fn keys_in_use_are_refreshed_during_an_endless_flood_of_new_keys() {
    // New keys take twenty loads per second through three of four connections, for 150 ms each.
    let fixture = Arc::new(Fixture::ahead(
        Duration::from_secs(2),
        Duration::from_millis(150),
    ));
    fixture.get(0).await.unwrap();
    let flood = tokio::spawn(flood(Arc::clone(&fixture), 1, Duration::from_millis(2)));
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        let served = fixture.get(0).await.unwrap();
        assert_eq!(served.status, CacheStatus::Hit, "{:?}", served.age);
    }
    flood.abort();
}

/// Requests many keys, each `times` times, without waiting for the responses. Returns how many were refused,
/// and panics if one was refused for another reason than the rate or the load.
async fn flood(fixture: Arc<Fixture>, times: usize, distance: Duration) -> usize {
    const KEYS: usize = 10_000;
    let refused = Arc::new(AtomicUsize::new(0));
    for k in 1_000..1_000 + KEYS {
        for _ in 0..times {
            let (fixture, refused) = (Arc::clone(&fixture), Arc::clone(&refused));
            tokio::spawn(async move {
                match fixture.get(k).await {
                    Ok(_) => {}
                    Err(ReadError::TooManyLoads { .. }) => {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(ReadError::Load { error, .. })
                        if matches!(*error, LoadError::Overloaded) => {}
                    Err(error) => panic!("{error}"),
                }
            });
            sleep(distance).await;
        }
    }
    refused.load(Ordering::Relaxed)
}

/// Requests each of some keys once per second, before and during a flood of new ones, and returns how each
/// was found during the flood.
async fn in_use_under_flood(
    fixture: Fixture,
    keys: usize,
    times: usize,
) -> Vec<Option<CacheStatus>> {
    let fixture = Arc::new(fixture);
    for _ in 0..3 {
        for k in 0..keys {
            fixture.get(k).await.unwrap();
        }
        sleep(Duration::from_secs(1)).await;
    }
    let flood = tokio::spawn(flood(Arc::clone(&fixture), times, Duration::from_millis(2)));
    let mut found = Vec::new();
    while !flood.is_finished() {
        for k in 0..keys {
            let fixture = Arc::clone(&fixture);
            let request = tokio::spawn(async move { fixture.get(k).await });
            found.push(request);
            // Not in step with the rate limit, which admits a load every 50 ms.
            sleep(Duration::from_millis(1_030) / u32::try_from(keys).unwrap()).await;
        }
    }
    let found = join_all(found).await.into_iter();
    found
        .map(|served| served.unwrap().ok().map(|served| served.status))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn keys_in_use_stay_while_new_ones_come_and_go() {
    // No rate limit; each key is requested once, or twice in a row.
    for times in [1, 2] {
        let policy = "max_age = \"1h\"\nmax_keys = 100";
        let fixture = Fixture::with(10_000, policy, Duration::from_millis(1), Defect::None);
        let found = in_use_under_flood(fixture, 20, times).await;
        assert!(found.len() >= 400);
        let hits = found
            .iter()
            .filter(|found| **found == Some(CacheStatus::Hit));
        assert_eq!(hits.count(), found.len(), "requested {times} times");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_in_use_are_never_refused_in_favour_of_new_ones() {
    let expiring = "stale_while_revalidate = \"0s\"\nstale_if_error = \"0s\"\nmax_keys = 100";
    let policies = [
        // Loaded at every request; at every second one; only after an eviction.
        format!("max_age = \"900ms\"\n{expiring}"),
        format!("max_age = \"1900ms\"\n{expiring}"),
        "max_age = \"1h\"\nmax_keys = 10".to_owned(),
    ];
    for policy in &policies {
        let fixture = Fixture::new(policy, Duration::from_millis(20));
        let found = in_use_under_flood(fixture, 10, 1).await;
        let refused = found.iter().filter(|found| found.is_none()).count();
        assert_eq!(refused, 0, "of {}, with {policy}", found.len());
    }
    for policy in &policies {
        let fixture = Fixture::with(20, policy, Duration::from_millis(20), Defect::NoReserve);
        let found = in_use_under_flood(fixture, 10, 1).await;
        assert!(found.contains(&None), "without a reserve, with {policy}");
    }
}
