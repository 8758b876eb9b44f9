//! The credential of a connection's last request. A client that polls presents the same one again and again, and
//! is then identified by comparing bytes: hashing a token of 800 bytes would cost as much as the rest of a hit.

use std::sync::{Arc, Mutex};

use super::Identity;

/// What a connection's last request was identified by, and as whom. Nothing waits for the lock: while another
/// request of the connection holds it, a credential is judged as if it were new.
#[derive(Debug, Default)]
pub struct LastCredential(Mutex<Option<Last>>);

struct Last {
    presented: Box<[u8]>,
    /// How often keys had been replaced before it was judged.
    changes: u64,
    identity: Arc<Identity>,
}

impl LastCredential {
    /// Whose credential this is, if it is the one of the last request and no keys have changed since. Whether it
    /// has expired is for the caller to check.
    pub fn recall(&self, presented: &[u8], changes: u64) -> Option<Arc<Identity>> {
        let last = self.0.try_lock().ok()?;
        let last = last.as_ref()?;
        let is_same = last.changes == changes && is_equal(&last.presented, presented);
        is_same.then(|| Arc::clone(&last.identity))
    }

    /// Remembers a valid credential instead of the one before.
    pub fn remember(&self, presented: &[u8], changes: u64, identity: &Arc<Identity>) {
        if let Ok(mut last) = self.0.try_lock() {
            *last = Some(Last {
                presented: presented.into(),
                changes,
                identity: Arc::clone(identity),
            });
        }
    }
}

/// Eight bytes at a time, the last of which overlap. Takes the same time wherever they differ: behind a proxy, the
/// last request may have been somebody else's. Fewer than eight bytes are no secret.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    let (Some(end), Some(other_end)) = (one.last_chunk(), other.last_chunk()) else {
        return one == other;
    };
    let ((words, _), (other_words, _)) = (one.as_chunks(), other.as_chunks());
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    let differs = words
        .iter()
        .zip(other_words)
        .fold(word(end) ^ word(other_end), |differs, (a, b)| {
            differs | (word(a) ^ word(b))
        });
    one.len() == other.len() && differs == 0
}

/// Without the credential.
impl std::fmt::Debug for Last {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Last").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_credential_under_the_same_keys_is_recalled() {
        let identity = crate::access::tests::identity("k");
        let last = LastCredential::default();
        assert!(last.recall(b"", 0).is_none());
        last.remember(b"Bearer abc", 1, &identity);
        assert!(last.recall(b"Bearer abc", 1).is_some());
        for (presented, changes) in [
            (&b"Bearer abc"[..], 2),
            (b"Bearer abd", 1),
            (b"Bearer ab", 1),
            (b"bearer abc", 1),
            (b"Bearer", 1),
            (b"Bearer abcd", 1),
            (b"", 1),
        ] {
            assert!(last.recall(presented, changes).is_none());
        }
        // The first and the last eight bytes are the same.
        last.remember(b"aaaaaaaaa", 1, &identity);
        for presented in [&b"aaaaaaaa"[..], b"aaaaaaaaaa", b"aaaaaaaaaaaaaaaa"] {
            assert!(last.recall(presented, 1).is_none());
        }
        last.remember(b"Bearer xyz", 1, &identity);
        assert!(last.recall(b"Bearer abc", 1).is_none());
        assert!(!format!("{last:?}").contains("xyz"));
    }
}
