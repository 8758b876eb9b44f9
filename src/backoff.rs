//! Waits between attempts that fail: doubled after every failure, up to a longest.

use std::time::Duration;

/// How waits grow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
    pub(crate) jitter: Jitter,
}

/// Which part of each wait is random, so that those that failed together do not try again together.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Jitter {
    /// None of it.
    None,
    /// The second half.
    Half,
    /// All of it.
    Full,
}

impl Backoff {
    /// The wait after a failure that `earlier` others preceded.
    pub(crate) fn wait(&self, earlier: u32) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(earlier));
        let whole = doubled.min(self.longest);
        match self.jitter {
            Jitter::None => whole,
            Jitter::Half => whole.mul_f64(fastrand::f64().mul_add(0.5, 0.5)),
            Jitter::Full => whole.mul_f64(fastrand::f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn backoff(jitter: Jitter) -> Backoff {
        Backoff {
            first: 100 * MS,
            longest: 5_000 * MS,
            jitter,
        }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits = [0, 1, 2, 5, 6, 100, u32::MAX].map(|n| backoff(Jitter::None).wait(n));
        assert_eq!(
            waits,
            [100, 200, 400, 3_200, 5_000, 5_000, 5_000].map(|n| n * MS)
        );
    }

    #[test]
    fn jitter_shortens_waits_within_its_part() {
        for _ in 0..1_000 {
            let half = backoff(Jitter::Half).wait(9);
            assert!(half >= 2_500 * MS && half <= 5_000 * MS, "{half:?}");
            assert!(backoff(Jitter::Full).wait(9) <= 5_000 * MS);
        }
    }
}
