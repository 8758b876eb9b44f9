//! The engine on a clock that only the test moves: keys loaded ahead of time, what a probe confirmed,
//! and keys in use beside a flood of new ones.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::time::{sleep, sleep_until};

use super::simulation::Broken;
use super::simulation::model::document;
use super::*;
use crate::cache::Answer;
use crate::config::Config;
use crate::observe::Event;
use crate::plan::{ParameterType, Signature};

/// Answers after a time that does not change.
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

/// An endpoint with keys, whose queries all take the same time, and somebody who keeps the time.
struct Kept {
    read: ReadThrough<Steady>,
    signature: Signature,
    answers: Arc<AtomicUsize>,
    too_slow: Arc<AtomicUsize>,
}

impl Kept {
    fn ahead(max_age: Duration, query_time: Duration) -> Self {
        let policy = format!(
            "max_age = \"{}ms\"\nrefresh = {{ ahead = true }}",
            max_age.as_millis()
        );
        Self::new(&policy, query_time)
    }

    fn new(policy: &str, query_time: Duration) -> Self {
        Self::with(20, policy, query_time, Broken::Nothing)
    }

    fn with(loads_per_second: u32, policy: &str, query_time: Duration, broken: Broken) -> Self {
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
        let told = Arc::clone(&too_slow);
        let hear = move |event: &Event| {
            let is_it = matches!(event, Event::AheadTooSlow { .. });
            told.fetch_add(usize::from(is_it), Ordering::Relaxed);
        };
        let observer = Observer::new(vec![Box::new(hear)]);
        let answers = Arc::default();
        let source = Steady {
            query_time,
            answers: Arc::clone(&answers),
        };
        let cache = Cache::new(&plan, observer.clone());
        let mut read = ReadThrough::new(plan, source, cache, observer);
        Arc::get_mut(&mut read.shared).unwrap().broken = broken;
        let (keeper, mut looks) = mpsc::unbounded_channel::<AheadCheck>();
        read.maintenance().send_ahead_checks_to(keeper);
        let reader = read.clone();
        tokio::spawn(async move {
            while let Some(look) = looks.recv().await {
                let read = reader.clone();
                tokio::spawn(async move {
                    sleep_until(look.at).await;
                    read.refresh_ahead(&look);
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

    /// Asks at this distance until there were so many answers; says what was seen of stale ones.
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
        let kept = Kept::ahead(max_age, max_age / 3);
        let stale = kept.poll(Duration::from_millis(poll), 500).await;
        assert_eq!(stale, 0, "{max_age:?}, asked for every {poll} ms");
        assert_eq!(kept.too_slow.load(Ordering::Relaxed), 0, "{max_age:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_that_is_too_slow_to_be_ahead_is_told_of_once() {
    let max_age = Duration::from_secs(1);
    let kept = Kept::ahead(max_age, max_age * 2 / 3);
    assert!(kept.poll(Duration::from_millis(100), 50).await > 0);
    assert_eq!(kept.too_slow.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_nobody_asks_for_is_left_to_lapse() {
    let kept = Kept::ahead(Duration::from_secs(1), Duration::from_millis(300));
    kept.poll(Duration::from_millis(100), 10).await;
    sleep(Duration::from_secs(10)).await;
    let answers = kept.answers.load(Ordering::Relaxed);
    assert!(answers <= 12, "{answers}");
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(kept.answers.load(Ordering::Relaxed), answers);
}

#[tokio::test(start_paused = true)]
async fn what_a_probe_confirmed_for_long_is_no_older_than_that_when_it_changes() {
    let policy = "max_age = \"1s\"\nstale_while_revalidate = \"2s\"\nstale_if_error = \"2s\"\n\
                  refresh = { probe = { sql = \"SELECT 1\", every = \"500ms\" } }";
    let kept = Kept::new(policy, Duration::from_millis(100));
    let (id, every) = (EndpointId::new(0), Duration::from_millis(500));
    let since = Instant::now();
    kept.get(1).await.unwrap();
    for _ in 0..7_200 {
        sleep(every).await;
        let until = Instant::now();
        kept.read.revalidate(id, Validated { since, until });
        let served = kept.get(1).await.unwrap();
        assert_eq!(
            (served.status, served.age),
            (CacheStatus::Hit, Duration::ZERO)
        );
        // moka keeps time by a clock of its own.
        kept.read.maintenance().tidy();
    }
    assert_eq!(kept.answers.load(Ordering::Relaxed), 1);
    sleep(every).await;
    kept.read.invalidate(id);
    let served = kept.get(1).await.unwrap();
    assert_eq!((served.status, served.age), (CacheStatus::Stale, every));
    sleep(every).await;
    let served = kept.get(1).await.unwrap();
    assert_eq!(served.status, CacheStatus::Hit);
    assert_eq!(kept.answers.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_sleep_of_the_machine_makes_answers_older() {
    let seconds = Duration::from_secs;
    let kept = Kept::new(
        "max_age = \"10s\"\nstale_while_revalidate = \"1m\"\nstale_if_error = \"1m\"",
        seconds(1),
    );
    kept.get(1).await.unwrap();
    let of = |served: &Served| (served.status, served.age);
    let hit = kept.get(1).await.unwrap();
    assert_eq!(of(&hit), (CacheStatus::Hit, seconds(1)));
    assert!(kept.read.clock().record_sleep(seconds(30)));
    let stale = kept.get(1).await.unwrap();
    assert_eq!(of(&stale), (CacheStatus::Stale, seconds(31)));
    // It is loaded again behind that, and is as young as ever.
    sleep(seconds(2)).await;
    let again = kept.get(1).await.unwrap();
    assert_eq!(of(&again), (CacheStatus::Hit, seconds(2)));
    kept.read.clock().record_sleep(seconds(8 * 3_600));
    let expired = kept.get(1).await.unwrap();
    assert_eq!(of(&expired), (CacheStatus::Miss, seconds(1)));
}

#[tokio::test(start_paused = true)]
async fn keys_in_use_are_loaded_while_new_ones_are_asked_for_without_end() {
    // Twenty loads a second through three of four connections, each for 150 ms: what new keys take.
    let kept = Arc::new(Kept::ahead(
        Duration::from_secs(2),
        Duration::from_millis(150),
    ));
    kept.get(0).await.unwrap();
    let flood = tokio::spawn(flood(Arc::clone(&kept), 1, Duration::from_millis(2)));
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        let served = kept.get(0).await.unwrap();
        assert_eq!(served.status, CacheStatus::Hit, "{:?}", served.age);
    }
    flood.abort();
}

/// Asks for one key after the other, each so many times, without waiting for any; says how many were
/// refused, and that none was for another reason than the rate.
async fn flood(kept: Arc<Kept>, times: usize, distance: Duration) -> usize {
    const KEYS: usize = 10_000;
    let refused = Arc::new(AtomicUsize::new(0));
    for k in 1_000..1_000 + KEYS {
        for _ in 0..times {
            let (kept, refused) = (Arc::clone(&kept), Arc::clone(&refused));
            tokio::spawn(async move {
                match kept.get(k).await {
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

/// Keys asked for once a second each, before a flood of new ones and during it: how each was found.
async fn in_use_under_flood(kept: Kept, keys: usize, times: usize) -> Vec<Option<CacheStatus>> {
    let kept = Arc::new(kept);
    for _ in 0..3 {
        for k in 0..keys {
            kept.get(k).await.unwrap();
        }
        sleep(Duration::from_secs(1)).await;
    }
    let flood = tokio::spawn(flood(Arc::clone(&kept), times, Duration::from_millis(2)));
    let mut found = Vec::new();
    while !flood.is_finished() {
        for k in 0..keys {
            let kept = Arc::clone(&kept);
            let asked = tokio::spawn(async move { kept.get(k).await });
            found.push(asked);
            // Not in step with the budget, which has another load every 50 ms.
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
    // As many loads as there are requests; each key asked for once, or a second time at once.
    for times in [1, 2] {
        let policy = "max_age = \"1h\"\nmax_keys = 100";
        let kept = Kept::with(10_000, policy, Duration::from_millis(1), Broken::Nothing);
        let found = in_use_under_flood(kept, 20, times).await;
        assert!(found.len() >= 400);
        let hits = found
            .iter()
            .filter(|found| **found == Some(CacheStatus::Hit));
        assert_eq!(hits.count(), found.len(), "asked for {times} times");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_in_use_are_never_refused_for_the_sake_of_new_ones() {
    let lapsing = "stale_while_revalidate = \"0s\"\nstale_if_error = \"0s\"\nmax_keys = 100";
    let policies = [
        // Loaded again each time; every second time; never, but for what is evicted.
        format!("max_age = \"900ms\"\n{lapsing}"),
        format!("max_age = \"1900ms\"\n{lapsing}"),
        "max_age = \"1h\"\nmax_keys = 10".to_owned(),
    ];
    for policy in &policies {
        let kept = Kept::new(policy, Duration::from_millis(20));
        let found = in_use_under_flood(kept, 10, 1).await;
        let refused = found.iter().filter(|found| found.is_none()).count();
        assert_eq!(refused, 0, "of {}, with {policy}", found.len());
    }
    for policy in &policies {
        let kept = Kept::with(20, policy, Duration::from_millis(20), Broken::Reserve);
        let found = in_use_under_flood(kept, 10, 1).await;
        assert!(found.contains(&None), "without a reserve, with {policy}");
    }
}
