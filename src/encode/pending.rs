//! Bytes of answers that no cache holds any more, and that are in memory only because of readers: usually
//! clients that have not received them yet.
//!
//! The count changes when a cache drops an answer and when its last reader does, so a hit costs nothing here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard};

use bytes::Bytes;

use crate::mutex::lock;

/// Smaller answers are not tracked: they are most of all answers, and only thousands of them would matter.
const TRACKED_MIN: usize = 4 * 1024;

/// Beyond this size, the bytes of each answer are known by their address.
pub const LARGE: usize = 64 * 1024;

/// Tracked bytes that no cache holds.
static PENDING: AtomicU64 = AtomicU64::new(0);

/// The large answers among them: their addresses and lengths.
static LARGE_ONES: LazyLock<Mutex<HashMap<usize, usize>>> = LazyLock::new(Mutex::default);

fn large_ones() -> MutexGuard<'static, HashMap<usize, usize>> {
    lock(&LARGE_ONES)
}

/// Bytes that a cache holds, to be sent any number of times.
#[derive(Debug, PartialEq, Eq)]
pub struct CachedBytes(Bytes, Tracking);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tracking {
    Tracked,
    Untracked,
}

/// The bytes, until the last reference to any part of them is dropped.
struct TrackedBytes(Box<[u8]>);

impl CachedBytes {
    /// Holds these bytes, without the spare capacity of a growing vector.
    pub fn new(bytes: Vec<u8>) -> Self {
        let bytes = bytes.into_boxed_slice();
        if bytes.len() < TRACKED_MIN {
            Self(Bytes::from(bytes), Tracking::Untracked)
        } else {
            Self(Bytes::from_owner(TrackedBytes(bytes)), Tracking::Tracked)
        }
    }

    /// Bytes that are compiled into the program.
    pub fn forever(bytes: &'static [u8]) -> Self {
        Self(Bytes::from_static(bytes), Tracking::Untracked)
    }

    /// The bytes. A clone outlives this value.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Drop for CachedBytes {
    /// From now on only clones hold the bytes. Without clones, they are freed right after this.
    fn drop(&mut self) {
        if self.1 == Tracking::Untracked {
            return;
        }
        let length = self.0.len();
        PENDING.fetch_add(length as u64, Ordering::Relaxed);
        if length > LARGE {
            large_ones().insert(self.0.as_ptr().addr(), length);
        }
    }
}

impl AsRef<[u8]> for TrackedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for TrackedBytes {
    fn drop(&mut self) {
        let length = self.0.len();
        PENDING.fetch_sub(length as u64, Ordering::Relaxed);
        if length > LARGE {
            large_ones().remove(&self.0.as_ptr().addr());
        }
    }
}

/// Bytes in memory that no cache holds.
pub fn total() -> u64 {
    PENDING.load(Ordering::Relaxed)
}

/// How many bytes are freed when the last reader drops the large answer at each address; 0 while a cache
/// holds it.
pub fn sizes_at(addresses: impl Iterator<Item = usize>) -> Vec<usize> {
    let ones = large_ones();
    addresses
        .map(|address| ones.get(&address).copied().unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_pending_while_only_readers_hold_them() {
        // Other tests in this process hold and drop answers too, but none as large.
        const LENGTH: usize = 64 << 20;
        let is_pending = |address| {
            assert_eq!(
                total() >= LENGTH as u64,
                sizes_at([address].into_iter()) == [LENGTH]
            );
            sizes_at([address].into_iter()) == [LENGTH]
        };
        let kept = CachedBytes::new(vec![0; LENGTH]);
        let address = kept.bytes().as_ptr().addr();
        let mut reader = kept.bytes().clone();
        assert!(!is_pending(address));
        drop(kept);
        assert!(is_pending(address));
        let other = reader.split_to(1);
        drop(reader);
        assert!(is_pending(address), "a part holds the whole");
        drop(other);
        assert!(!is_pending(address));
        let unread = CachedBytes::new(vec![0; LENGTH]);
        let address = unread.bytes().as_ptr().addr();
        drop(unread);
        assert!(!is_pending(address));
    }
}
