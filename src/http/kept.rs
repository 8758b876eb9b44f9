//! Header fields that were made for one request and hold for the next as well.
//!
//! Whoever asks for an entry within a moment gets the same fields, and to make them takes longer than
//! everything else that Larder does for a hit. Each thread keeps its own: what threads share is passed
//! around between cores.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use warp::http::HeaderMap;

use crate::cache::Entry;
use crate::encode::Variant;
use crate::observe::CacheStatus;

/// Places for fields, on each thread; a power of two. Those of an answer take about 2 KiB, and so all of
/// them 2 MiB at most.
const PLACES: usize = 1024;

/// What fields depend on, beside the entry and its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) status: CacheStatus,
    /// Whose tag they have.
    pub(super) variant: Variant,
    pub(super) is_not_modified: bool,
}

/// Fields, and the ages of the entry at which they say the same, unless the clock is set back.
pub(super) struct Fields {
    pub(super) headers: HeaderMap,
    pub(super) ages: Range<Duration>,
    /// By the wall clock.
    pub(super) made: SystemTime,
}

/// For what fields are wanted.
pub(super) struct Asked<'a> {
    pub(super) entry: &'a Arc<Entry>,
    pub(super) kind: Kind,
    pub(super) age: Duration,
    /// By the wall clock.
    pub(super) now: SystemTime,
}

struct Kept {
    /// Keeps no bytes of the answer, but its address from being another's.
    entry: Weak<Entry>,
    kind: Kind,
    fields: Fields,
}

impl Kept {
    fn is_of(&self, asked: &Asked<'_>) -> bool {
        std::ptr::eq(self.entry.as_ptr(), Arc::as_ptr(asked.entry))
            && self.kind == asked.kind
            && self.fields.ages.contains(&asked.age)
            && self.fields.made <= asked.now
    }
}

thread_local! {
    static KEPT: RefCell<Vec<Option<Kept>>> = const { RefCell::new(Vec::new()) };
}

/// The fields of an answer with this entry at this age: those that are kept, or else new ones.
pub(super) fn fields(asked: &Asked<'_>, make: impl FnOnce() -> Fields) -> HeaderMap {
    KEPT.with_borrow_mut(|places| {
        if places.is_empty() {
            places.resize_with(PLACES, || None);
        }
        let place = &mut places[place(asked.entry, asked.kind)];
        let kept = match place {
            Some(kept) if kept.is_of(asked) => kept,
            _ => place.insert(Kept {
                entry: Arc::downgrade(asked.entry),
                kind: asked.kind,
                fields: make(),
            }),
        };
        kept.fields.headers.clone()
    })
}

/// Spreads addresses, which are multiples of an allocation's size, with the kinds beside one another:
/// Fibonacci hashing, with the golden ratio of 2^64.
fn place(entry: &Arc<Entry>, kind: Kind) -> usize {
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
    (hash >> (64 - PLACES.ilog2())) as usize
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
    fn fields_are_those_of_the_entry_the_kind_and_the_age() {
        const SECOND: Duration = Duration::from_secs(1);
        let kind = Kind {
            status: CacheStatus::Hit,
            variant: Variant::PLAIN,
            is_not_modified: false,
        };
        let made = std::cell::Cell::new(0_u32);
        let then = SystemTime::now();
        let ask_at = |now, entry: &Arc<Entry>, kind, age| {
            let asked = Asked {
                entry,
                kind,
                age,
                now,
            };
            let fields = fields(&asked, || {
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
        // As of a moment that was told of later, it is younger.
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
        // Who asks for one kind and who asks for another are not in each other's way.
        assert_eq!(ask(&other, stale, SECOND), 5);
        assert_eq!(ask(&other, not_modified, SECOND), 6);
        // Another at the same address, if there ever is one, gets its own.
        for _ in 0..100 {
            let before = made.get();
            assert_eq!(ask(&entry(), kind, SECOND), before + 1);
        }
        // What the wall clock said before it was set back holds no longer.
        let last = entry();
        let first = ask(&last, kind, SECOND);
        assert_eq!(ask_at(then + SECOND, &last, kind, SECOND), first);
        assert_eq!(ask_at(then - SECOND, &last, kind, SECOND), first + 1);
    }
}
