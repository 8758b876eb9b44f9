//! What the stores keep and for how long, and which keys of an endpoint are evicted.

use std::path::Path;
use std::sync::Mutex;

use tokio::time::{Instant, advance};

use super::*;
use crate::config::Config;
use crate::plan::{EndpointId, FreshnessPolicy, ParameterType, Signature};

#[tokio::test(start_paused = true)]
async fn a_validated_entry_is_kept_as_long_as_it_is_read() {
    let lifetime = FreshnessPolicy {
        max_age: Some(Duration::from_secs(10)),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::from_secs(50),
    }
    .lifetime(None, Duration::ZERO);
    let began = Instant::now();
    let origin = Origin {
        began,
        generation: 0,
    };
    let entry = Entry::new(Answer::NoRow, origin, Duration::ZERO, lifetime, None);
    let (entry, key) = (
        Arc::new(entry),
        Key::new(EndpointId::new(0), Default::default()),
    );
    let left = Some(Duration::from_secs(1));
    let moment = Moment::now();
    let after_read = || AfterLimit.expire_after_read(&key, &entry, moment, left, moment);
    assert_eq!(after_read(), left);
    let validated = Some(Validated {
        since: began,
        until: began + Duration::from_secs(59),
    });
    let version = EndpointVersion {
        generation: 0,
        validated,
    };
    entry.record_validation(&version);
    assert_eq!(after_read(), Some(Duration::from_secs(60) + KEPT_EXPIRED));
}

/// A cache for one endpoint with at most `max_keys` keys, and the number of evictions.
struct Limited {
    cache: Cache,
    plan: Plan,
    evicted: Arc<Mutex<usize>>,
}

impl Limited {
    fn new(max_keys: usize) -> Self {
        let text = format!(
            "[repository]\nurl = \"postgres://localhost/d\"\n[[endpoint]]\npath = \"/{{k}}\"\n\
             sql = \"SELECT :k::int\"\nmax_keys = {max_keys}\n"
        );
        let config = Config::parse("config.toml", text, Path::new("."), &|_| None).unwrap();
        let plan = Plan::compile(config).unwrap();
        let evicted = Arc::<Mutex<usize>>::default();
        let counted = Arc::clone(&evicted);
        let count = move |event: &Event| {
            *counted.lock().unwrap() += usize::from(matches!(event, Event::EntryEvicted));
        };
        let cache = Cache::new(&plan, Observer::new(vec![Box::new(count)]));
        Self {
            cache,
            plan,
            evicted,
        }
    }

    fn key(&self, k: usize) -> Key {
        let (text, endpoint) = (k.to_string(), self.plan.endpoint(EndpointId::new(0)));
        let signature = Signature::new(endpoint, vec![ParameterType::Int4]).unwrap();
        let path = [("k", text.as_str().into())];
        let arguments = signature.arguments(endpoint, &path, &[]).unwrap();
        Key::new(endpoint.id, arguments)
    }

    fn load(&self, k: usize) {
        let origin = Origin {
            began: Instant::now(),
            generation: 0,
        };
        let lifetime = FreshnessPolicy {
            max_age: Some(Duration::from_secs(3_600)),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
        }
        .lifetime(None, Duration::ZERO);
        let entry = Entry::new(Answer::NoRow, origin, Duration::ZERO, lifetime, None);
        self.cache.put(&self.key(k), Arc::new(entry));
    }

    /// Requests a key, and returns whether it is in the cache.
    fn request(&self, k: usize) -> bool {
        let entry = self.cache.get(&self.key(k));
        entry.is_some_and(|entry| {
            entry.mark_used();
            true
        })
    }

    fn evicted(&self) -> usize {
        *self.evicted.lock().unwrap()
    }

    fn entries(&self) -> usize {
        self.cache.maintain();
        self.cache.keyed.iter().count()
    }

    /// The quota counts exactly the keys in the cache.
    fn assert_consistent(&self) {
        let quotas = self.cache.keys.quotas.read().unwrap();
        let quota = &quotas[&EndpointId::new(0)];
        assert_eq!(quota.live(), self.entries());
    }
}

#[tokio::test(start_paused = true)]
async fn the_least_used_keys_are_evicted_when_there_are_too_many() {
    let limited = Limited::new(20);
    for k in 0..20 {
        limited.load(k);
    }
    assert_eq!((limited.entries(), limited.evicted()), (20, 0));
    advance(Duration::from_secs(1)).await;
    let in_use = [0, 7, 19];
    for k in in_use {
        assert!(limited.request(k));
    }
    for k in 100..1_000 {
        limited.load(k);
        assert!(
            limited.cache.get(&limited.key(k)).is_some(),
            "the latest key is in the cache"
        );
        assert!(limited.entries() <= 20);
    }
    assert_eq!((limited.entries(), limited.evicted()), (20, 900));
    for k in 0..20 {
        assert_eq!(limited.request(k), in_use.contains(&k), "{k}");
    }
    limited.assert_consistent();
}

#[tokio::test(start_paused = true)]
async fn keys_without_requests_make_room_for_others_in_use() {
    let limited = Limited::new(10);
    for k in 0..10 {
        limited.load(k);
    }
    for _ in 0..60 {
        advance(Duration::from_secs(1)).await;
        (0..9).for_each(|k| assert!(limited.request(k)));
        limited.load(100);
    }
    // Others replace them, but not at once.
    let mut seconds = 0;
    while (0..9).any(|k| limited.cache.get(&limited.key(k)).is_some()) {
        advance(Duration::from_millis(100)).await;
        seconds += 1;
        for k in 20..30 {
            if !limited.request(k) {
                limited.load(k);
                limited.request(k);
            }
        }
        assert!(seconds < 400, "they are never evicted");
    }
    assert!(
        seconds > 250,
        "the longer a key was in use, the longer it may pause: {seconds}"
    );
    assert!((20..30).all(|k| limited.request(k)));
    limited.assert_consistent();
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_in_use_is_remembered_for_a_while() {
    let limited = Limited::new(1);
    limited.load(1);
    advance(Duration::from_secs(2)).await;
    limited.load(2);
    assert!(
        !limited.cache.was_in_use(&limited.key(1)),
        "it was not requested again"
    );
    limited.request(2);
    limited.load(3);
    assert!(
        !limited.cache.was_in_use(&limited.key(2)),
        "a request right after the load is not a second one"
    );
    limited.request(3);
    advance(Duration::from_secs(2)).await;
    limited.load(4);
    assert!(limited.cache.was_in_use(&limited.key(3)));
    // It stays remembered when it is evicted once more.
    limited.load(3);
    limited.load(5);
    advance(Duration::from_secs(59)).await;
    assert!(limited.cache.was_in_use(&limited.key(3)));
    advance(Duration::from_secs(61)).await;
    assert!(!limited.cache.was_in_use(&limited.key(3)));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_moka_removes_makes_room_at_once() {
    let limited = Limited::new(3);
    for k in 0..1_000 {
        limited.load(k);
        if k >= 2 {
            limited.cache.expire(&limited.key(k - 2));
        }
    }
    assert_eq!((limited.entries(), limited.evicted()), (2, 0));
    limited.assert_consistent();
}

#[test]
fn keys_that_are_added_and_removed_concurrently_are_counted_correctly() {
    let limited = Limited::new(50);
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let limited = &limited;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed);
                for _ in 0..2_000 {
                    let k = rng.usize(..120);
                    match rng.u8(..10) {
                        0..5 => limited.load(k),
                        5..9 => drop(limited.request(k)),
                        _ => limited.cache.expire(&limited.key(k)),
                    }
                }
            });
        }
    });
    assert!(limited.entries() <= 50);
    limited.assert_consistent();
}
