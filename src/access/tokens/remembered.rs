//! Tokens that have been verified, by their SHA-256: a signature is verified once per token. Finding one takes
//! no lock and allocates nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use crate::access::Identity;
use crate::plan::{IssuerId, KeyDigest};

/// How many tokens have the same place to choose from.
const WAYS: usize = 8;
/// With [`WAYS`], room for 10,000 tokens.
const SETS: usize = 1_250;

/// A token that has been verified.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) digest: KeyDigest,
    pub(super) identity: Arc<Identity>,
    pub(super) issuer: IssuerId,
    /// Which keys of the issuer it was verified with.
    pub(super) generation: u64,
}

/// Room for one.
#[derive(Debug, Default)]
struct Slot {
    /// The start of the digest, so that others are passed over without a look at them.
    tag: AtomicU64,
    token: ArcSwapOption<Remembered>,
}

/// The tokens. A token that finds no room replaces another one, which then has to be verified again.
#[derive(Debug)]
pub(super) struct RememberedTokens(Box<[Slot]>);

impl RememberedTokens {
    pub(super) fn new() -> Self {
        Self((0..SETS * WAYS).map(|_| Slot::default()).collect())
    }

    /// The identity behind a token, if `is_current` says so of what is remembered.
    pub(super) fn find(
        &self,
        digest: &KeyDigest,
        is_current: impl Fn(&Remembered) -> bool,
    ) -> Option<Arc<Identity>> {
        let (set, tag) = self.place(digest);
        let mut slots = set.iter();
        slots.find_map(|slot| {
            if slot.tag.load(Ordering::Relaxed) != tag {
                return None;
            }
            let token = slot.token.load();
            let token = token.as_ref().filter(|token| token.digest == *digest)?;
            is_current(token).then(|| Arc::clone(&token.identity))
        })
    }

    pub(super) fn insert(&self, token: Remembered) {
        let (set, tag) = self.place(&token.digest);
        let is_own = |slot: &&Slot| slot.tag.load(Ordering::Relaxed) == tag;
        let is_free = |slot: &&Slot| slot.token.load().is_none();
        let slot = set.iter().find(is_own).or_else(|| set.iter().find(is_free));
        let Some(slot) = slot.or_else(|| set.get(fastrand::usize(..WAYS))) else {
            return;
        };
        slot.token.store(Some(Arc::new(token)));
        slot.tag.store(tag, Ordering::Relaxed);
    }

    /// Where a token would be, and the start of its digest.
    fn place(&self, digest: &KeyDigest) -> (&[Slot], u64) {
        let [a, b, c, d, e, f, g, h, rest @ ..] = digest;
        let tag = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
        let set = usize::from(rest[0]) << 8 | usize::from(rest[1]);
        let start = set % SETS * WAYS;
        (&self.0[start..start + WAYS], tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::key;

    fn token(number: usize) -> Remembered {
        Remembered {
            digest: key::digest(&number.to_string()),
            identity: crate::access::tests::identity(&number.to_string()),
            issuer: IssuerId::new(0),
            generation: 0,
        }
    }

    #[test]
    fn each_digest_finds_its_own_token_and_their_number_is_bounded() {
        let tokens = RememberedTokens::new();
        assert_eq!(tokens.0.len(), 10_000);
        let find = |number: usize| tokens.find(&token(number).digest, |_| true);
        for number in 0..30_000 {
            assert!(find(number).is_none());
            tokens.insert(token(number));
            let found = find(number).expect("it was remembered just now");
            assert_eq!(found.name, number.to_string());
        }
        let left: Vec<_> = (0..30_000)
            .filter_map(|number| Some((number, find(number)?)))
            .collect();
        assert!(
            left.iter()
                .all(|(number, found)| found.name == number.to_string())
        );
        assert!((9_990..=10_000).contains(&left.len()), "{}", left.len());
    }

    #[test]
    fn a_digest_that_begins_like_another_finds_nothing() {
        let tokens = RememberedTokens::new();
        let mut digest = token(1).digest;
        tokens.insert(token(1));
        assert!(tokens.find(&digest, |_| true).is_some());
        digest[31] ^= 1;
        assert!(tokens.find(&digest, |_| true).is_none());
    }

    #[test]
    fn a_token_has_one_place() {
        let tokens = RememberedTokens::new();
        for generation in 0..20 {
            tokens.insert(Remembered {
                generation,
                ..token(1)
            });
        }
        let digest = token(1).digest;
        assert!(
            tokens
                .find(&digest, |token| token.generation < 19)
                .is_none()
        );
        assert!(
            tokens
                .find(&digest, |token| token.generation == 19)
                .is_some()
        );
    }
}
