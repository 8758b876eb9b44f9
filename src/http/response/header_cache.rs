//! Caches header fields that were made for one response and hold for the next as well.
//!
//! Responses from one entry have the same fields within a second, and making them takes longer than
//! everything else that Larder does for a hit. Each thread has its own cache: memory that threads share
//! moves between cores.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use warp::http::HeaderMap;

use crate::cache::Entry;
use crate::encode::Variant;
use crate::observe::CacheStatus;

/// Slots on each thread; a power of two. The fields of a response take about 2 KiB, and so all of them at
/// most 2 MiB.
const SLOTS: usize = 1024;

/// What fields depend on, besides the entry and its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Kind {
    pub(in crate::http) status: CacheStatus,
    /// The variant whose tag they contain.
    pub(in crate::http) variant: Variant,
    pub(in crate::http) is_not_modified: bool,
}

/// Fields, and the ages of the entry for which they hold, unless the clock is set back.
pub(super) struct Fields {
    pub(super) headers: HeaderMap,
    pub(super) ages: Range<Duration>,
    /// By the wall clock.
    pub(super) made: SystemTime,
}

/// What fields are wanted for.
pub(super) struct Wanted<'a> {
    pub(super) entry: &'a Arc<Entry>,
    pub(super) kind: Kind,
    pub(super) age: Duration,
    /// By the wall clock.
    pub(super) now: SystemTime,
}

struct Cached {
    /// Keeps no bytes of the response, only its address from being reused.
    entry: Weak<Entry>,
    kind: Kind,
    fields: Fields,
}

impl Cached {
    fn is_for(&self, wanted: &Wanted<'_>) -> bool {
        std::ptr::eq(self.entry.as_ptr(), Arc::as_ptr(wanted.entry))
            && self.kind == wanted.kind
            && self.fields.ages.contains(&wanted.age)
            && self.fields.made <= wanted.now
    }
}

thread_local! {
    static CACHE: RefCell<Vec<Option<Cached>>> = const { RefCell::new(Vec::new()) };
}

/// The cached fields for this entry at this age, or new ones.
pub(super) fn fields(wanted: &Wanted<'_>, make: impl FnOnce() -> Fields) -> HeaderMap {
    CACHE.with_borrow_mut(|slots| {
        if slots.is_empty() {
            slots.resize_with(SLOTS, || None);
        }
        let slot = &mut slots[slot_of(wanted.entry, wanted.kind)];
        let cached = match slot {
            Some(cached) if cached.is_for(wanted) => cached,
            _ => slot.insert(Cached {
                entry: Arc::downgrade(wanted.entry),
                kind: wanted.kind,
                fields: make(),
            }),
        };
        cached.fields.headers.clone()
    })
}

/// Fibonacci hashing, with the golden ratio of 2^64: spreads addresses, which are multiples of an allocation's
/// size, and puts the kinds of one entry next to each other.
fn slot_of(entry: &Arc<Entry>, kind: Kind) -> usize {
    let address = Arc::as_ptr(entry) as u64;
    let kinds = [
        kind.status as u64,
        kind.variant.format as u64,
        kind.variant.coding as u64,
        u64::from(kind.is_not_modified),
    ];
    // None of them has as many as eight values.
    let kind = kinds.iter().fold(0, |all, one| all * 8 + one);
    let hash = address
        .wrapping_add(kind)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (hash >> (64 - SLOTS.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::cache::{Answer, Origin};
    use crate::plan::FreshnessPolicy;

    fn entry() -> Arc<Entry> {
        let origin = Origin {
            began: Instant::now(),
            generation: 0,
        };
        let policy = FreshnessPolicy {
            max_age: None,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
        };
        let lifetime = policy.lifetime(None, Duration::ZERO);
        Arc::new(Entry::new(
            Answer::NoRow,
            origin,
            Duration::ZERO,
            lifetime,
            None,
        ))
    }

    #[test]
    fn fields_depend_on_the_entry_the_kind_and_the_age() {
        const SECOND: Duration = Duration::from_secs(1);
        let kind = Kind {
            status: CacheStatus::Hit,
            variant: Variant::PLAIN,
            is_not_modified: false,
        };
        let made = std::cell::Cell::new(0_u32);
        let then = SystemTime::now();
        let ask_at = |now, entry: &Arc<Entry>, kind, age| {
            let wanted = Wanted {
                entry,
                kind,
                age,
                now,
            };
            let fields = fields(&wanted, || {
                made.set(made.get() + 1);
                let mut headers = HeaderMap::new();
                headers.insert("age", made.get().into());
                Fields {
                    headers,
                    ages: age..age + SECOND,
                    made: now,
                }
            });
            fields["age"].to_str().unwrap().parse::<u32>().unwrap()
        };
        let ask = |entry: &Arc<Entry>, kind, age| ask_at(then, entry, kind, age);
        let (one, other) = (entry(), entry());
        assert_eq!(ask(&one, kind, SECOND), 1);
        assert_eq!(ask(&one, kind, SECOND * 3 / 2), 1);
        assert_eq!(ask(&one, kind, 2 * SECOND), 2);
        // Once the entry is revalidated, it is younger.
        assert_eq!(ask(&one, kind, SECOND), 3);
        assert_eq!(ask(&other, kind, SECOND), 4);
        let stale = Kind {
            status: CacheStatus::Stale,
            ..kind
        };
        assert_eq!(ask(&other, stale, SECOND), 5);
        assert_eq!(ask(&other, stale, SECOND), 5);
        let not_modified = Kind {
            is_not_modified: true,
            ..stale
        };
        assert_eq!(ask(&other, not_modified, SECOND), 6);
        // Two kinds do not displace each other.
        assert_eq!(ask(&other, stale, SECOND), 5);
        assert_eq!(ask(&other, not_modified, SECOND), 6);
        // Another entry at the same address, if there ever is one, gets its own.
        for _ in 0..100 {
            let before = made.get();
            assert_eq!(ask(&entry(), kind, SECOND), before + 1);
        }
        // Fields from before the wall clock was set back do not hold.
        let last = entry();
        let first = ask(&last, kind, SECOND);
        assert_eq!(ask_at(then + SECOND, &last, kind, SECOND), first);
        assert_eq!(ask_at(then - SECOND, &last, kind, SECOND), first + 1);
    }
}
