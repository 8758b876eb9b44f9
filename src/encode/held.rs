//! Bytes of answers that no cache holds any more, and that are in memory only because of readers: usually
//! clients that have not received them yet.
//!
//! The count changes when a cache drops an answer and when its last reader does, so a hit costs nothing here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard};

use bytes::Bytes;

use crate::lock::lock;

/// Smaller answers are not counted: they are most of all answers, and only thousands of them would matter.
const COUNTED_MIN: usize = 4 * 1024;

/// Beyond this size, each answer is tracked by itself.
pub const LARGE: usize = 64 * 1024;

/// Counted bytes that no cache holds.
static LOOSE: AtomicU64 = AtomicU64::new(0);

/// The large answers among them: their addresses and lengths.
static LARGE_ONES: LazyLock<Mutex<HashMap<usize, usize>>> = LazyLock::new(Mutex::default);

fn large_ones() -> MutexGuard<'static, HashMap<usize, usize>> {
    lock(&LARGE_ONES)
}

/// Bytes that a cache holds, to be sent any number of times.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept(Bytes, Counting);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counting {
    Yes,
    No,
}

/// The bytes, until the last reference to any part of them is dropped.
struct Counted(Box<[u8]>);

impl Kept {
    /// Holds these bytes, without the spare capacity of a growing vector.
    pub fn new(bytes: Vec<u8>) -> Self {
        let bytes = bytes.into_boxed_slice();
        if bytes.len() < COUNTED_MIN {
            Self(Bytes::from(bytes), Counting::No)
        } else {
            Self(Bytes::from_owner(Counted(bytes)), Counting::Yes)
        }
    }

    /// Bytes that are compiled into the program.
    pub fn forever(bytes: &'static [u8]) -> Self {
        Self(Bytes::from_static(bytes), Counting::No)
    }

    /// The bytes. A clone outlives this value.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Drop for Kept {
    /// From now on only clones hold the bytes. Without clones, they are freed right after this.
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

/// Bytes in memory that no cache holds.
pub fn loose() -> u64 {
    LOOSE.load(Ordering::Relaxed)
}

/// How many bytes are freed when the last reader drops the large answer at each address; 0 while a cache
/// holds it.
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
    fn bytes_are_loose_while_only_readers_hold_them() {
        // Other tests in this process hold and drop answers too, but none as large.
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
