//! Bytes of answers that nobody keeps any more, and that are in memory only because somebody has not let
//! go of them: as a rule, clients that have not taken them yet.
//!
//! What keeps an answer is counted where it is kept. So a hit costs nothing here: what is counted changes
//! when an answer is made, when whatever keeps it lets go, and when the last reader does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Less than this is not counted: it takes thousands of loads until it is worth a look, and it is most of
/// what there is.
const COUNTED_MIN: usize = 4 * 1024;

/// From this size on it is known of each answer whether it is kept.
pub const LARGE: usize = 64 * 1024;

/// Counted bytes that nobody keeps.
static LOOSE: AtomicU64 = AtomicU64::new(0);

/// The large answers among them: where their bytes are, and how many.
static LARGE_ONES: LazyLock<Mutex<HashMap<usize, usize>>> = LazyLock::new(Mutex::default);

fn large_ones() -> MutexGuard<'static, HashMap<usize, usize>> {
    LARGE_ONES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that somebody keeps, to be sent any number of times.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept(Bytes, Counting);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counting {
    Yes,
    No,
}

/// The bytes themselves, until nobody has any part of them.
struct Counted(Box<[u8]>);

impl Kept {
    /// Keeps these bytes, without the slack a growing vector leaves.
    pub fn new(bytes: Vec<u8>) -> Self {
        let bytes = bytes.into_boxed_slice();
        if bytes.len() < COUNTED_MIN {
            Self(Bytes::from(bytes), Counting::No)
        } else {
            Self(Bytes::from_owner(Counted(bytes)), Counting::Yes)
        }
    }

    /// Bytes that are part of the program, and never let go.
    pub fn forever(bytes: &'static [u8]) -> Self {
        Self(Bytes::from_static(bytes), Counting::No)
    }

    /// The bytes. Whoever has a clone of them has them when they are no longer kept.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Drop for Kept {
    /// What was cloned is loose from now on. Where nothing was, it is for the moment until the field is
    /// dropped.
    fn drop(&mut self) {
        if self.1 == Counting::No {
            return;
        }
        let length = self.0.len();
        LOOSE.fetch_add(length as u64, Ordering::Relaxed);
        if length > LARGE {
            large_ones().insert(self.0.as_ptr().addr(), length);
        }
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let length = self.0.len();
        LOOSE.fetch_sub(length as u64, Ordering::Relaxed);
        if length > LARGE {
            large_ones().remove(&self.0.as_ptr().addr());
        }
    }
}

/// Bytes in memory that nobody keeps.
pub fn loose() -> u64 {
    LOOSE.load(Ordering::Relaxed)
}

/// How many bytes are freed when the last reader lets go of the large answer at each address: none while
/// it is kept.
pub fn loose_at(addresses: impl Iterator<Item = usize>) -> Vec<usize> {
    let ones = large_ones();
    addresses
        .map(|address| ones.get(&address).copied().unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_loose_while_only_readers_have_them() {
        // Other tests of this process keep and drop answers, too; none as large.
        const LENGTH: usize = 64 << 20;
        let is_loose = |address| {
            assert_eq!(
                loose() >= LENGTH as u64,
                loose_at([address].into_iter()) == [LENGTH]
            );
            loose_at([address].into_iter()) == [LENGTH]
        };
        let kept = Kept::new(vec![0; LENGTH]);
        let address = kept.bytes().as_ptr().addr();
        let mut reader = kept.bytes().clone();
        assert!(!is_loose(address));
        drop(kept);
        assert!(is_loose(address));
        let other = reader.split_to(1);
        drop(reader);
        assert!(is_loose(address), "a part holds the whole");
        drop(other);
        assert!(!is_loose(address));
        let unread = Kept::new(vec![0; LENGTH]);
        let address = unread.bytes().as_ptr().addr();
        drop(unread);
        assert!(!is_loose(address));
    }
}
