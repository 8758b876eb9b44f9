//! Whether idle sessions are still connected. A server that hangs, or a network that drops packets, closes
//! nothing; all that shows is an answer that does not come. So after a query was given up or its connection
//! lost, each session that was idle at that time has to answer an empty query before it is used again. Once
//! one does not answer, the others are closed without being asked.

use std::sync::{Mutex, MutexGuard};

use tokio::time::Instant;

use crate::mutex::lock;

/// The moments that put sessions under suspicion.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    moments: Mutex<Moments>,
}

#[derive(Debug, Default)]
struct Moments {
    /// When a query was last given up, or its connection lost.
    suspected: Option<Instant>,
    /// The latest such moment from before which a session has failed to answer.
    silent_since: Option<Instant>,
}

/// What is known about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It can be used.
    Alive,
    /// It has to answer first; if it does not, that is recorded as of this moment.
    Suspect(Instant),
    /// It cannot be used.
    Silent,
}

impl Liveness {
    /// Puts every session under suspicion that does not answer from now on.
    pub(super) fn suspect(&self) {
        self.moments().suspected = Some(Instant::now());
    }

    /// Records that a session did not answer that was suspect as of this moment.
    pub(super) fn record_silence(&self, as_of: Instant) {
        let mut moments = self.moments();
        moments.silent_since = moments.silent_since.max(Some(as_of));
    }

    /// Judges a session by when it last answered.
    pub(super) fn verdict(&self, answered_at: Instant) -> Verdict {
        let moments = self.moments();
        match *moments {
            Moments {
                silent_since: Some(moment),
                ..
            } if answered_at < moment => Verdict::Silent,
            Moments {
                suspected: Some(moment),
                ..
            } if answered_at < moment => Verdict::Suspect(moment),
            Moments { .. } => Verdict::Alive,
        }
    }

    fn moments(&self) -> MutexGuard<'_, Moments> {
        lock(&self.moments)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sessions_are_suspect_until_they_answer_and_a_silent_one_condemns_the_others() {
        let liveness = Liveness::default();
        let tick = async || {
            tokio::time::advance(Duration::from_secs(1)).await;
            Instant::now()
        };
        let before = tick().await;
        assert_eq!(liveness.verdict(before), Verdict::Alive);
        let suspected = tick().await;
        liveness.suspect();
        assert_eq!(liveness.verdict(before), Verdict::Suspect(suspected));
        let after = tick().await;
        assert_eq!(liveness.verdict(after), Verdict::Alive);
        liveness.record_silence(suspected);
        assert_eq!(liveness.verdict(before), Verdict::Silent);
        assert_eq!(
            liveness.verdict(after),
            Verdict::Alive,
            "it has answered since"
        );
        let again = tick().await;
        liveness.suspect();
        assert_eq!(liveness.verdict(before), Verdict::Silent);
        assert_eq!(liveness.verdict(after), Verdict::Suspect(again));
    }
}
