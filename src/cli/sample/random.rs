//! A random number generator that never changes.

/// Steele, Lea and Flood's SplitMix64. A crate's next version might generate other sales from the same seed.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is so small that the bias of the modulo is negligible.
    pub(super) fn below_u64(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.below_u64(limit as u64)).unwrap_or_default()
    }

    /// A number below `limit`; low ones are more likely.
    pub(super) fn skewed(&mut self, limit: usize) -> usize {
        let one = self.below(limit);
        one.min(self.below(limit))
    }
}
