//! Whether sessions are still connected to anything. A server that hangs, or a way that swallows what
//! it is given, closes nothing: it shows only in an answer that does not come. So once a query was
//! given up or its connection lost, a session that has not been heard of since has to give a sign of
//! life before it is used; where one gives none, the others of that time are not asked.

use std::sync::{Mutex, MutexGuard};

use tokio::time::Instant;

/// When there was reason to doubt.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    reasons: Mutex<Reasons>,
}

#[derive(Debug, Default)]
struct Reasons {
    /// A query was given up, or its connection lost.
    raised: Option<Instant>,
    /// The latest of these moments that was followed by silence.
    silent_since: Option<Instant>,
}

/// What is to be thought of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// It can be used.
    Alive,
    /// It has to give a sign of life; silence is to be told of as of this moment.
    Doubtful(Instant),
    /// It can not be used.
    Silent,
}

impl Doubt {
    /// There is a reason now.
    pub(super) fn raise(&self) {
        self.reasons().raised = Some(Instant::now());
    }

    /// A session that was doubtful as of this moment gave no sign of life.
    pub(super) fn confirm(&self, as_of: Instant) {
        let mut reasons = self.reasons();
        reasons.silent_since = reasons.silent_since.max(Some(as_of));
    }

    /// About a session that was heard of last at this moment.
    pub(super) fn about(&self, heard: Instant) -> Trust {
        let reasons = self.reasons();
        match *reasons {
            Reasons {
                silent_since: Some(moment),
                ..
            } if heard < moment => Trust::Silent,
            Reasons {
                raised: Some(moment),
                ..
            } if heard < moment => Trust::Doubtful(moment),
            Reasons { .. } => Trust::Alive,
        }
    }

    fn reasons(&self) -> MutexGuard<'_, Reasons> {
        self.reasons
            .lock()
            .expect("nothing panics while it holds the lock")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sessions_are_doubted_until_they_are_heard_of_and_one_that_is_silent_speaks_for_all() {
        let doubt = Doubt::default();
        let tick = async || {
            tokio::time::advance(Duration::from_secs(1)).await;
            Instant::now()
        };
        let before = tick().await;
        assert_eq!(doubt.about(before), Trust::Alive);
        let raised = tick().await;
        doubt.raise();
        assert_eq!(doubt.about(before), Trust::Doubtful(raised));
        let after = tick().await;
        assert_eq!(doubt.about(after), Trust::Alive);
        doubt.confirm(raised);
        assert_eq!(doubt.about(before), Trust::Silent);
        assert_eq!(doubt.about(after), Trust::Alive, "it was heard of since");
        let again = tick().await;
        doubt.raise();
        assert_eq!(doubt.about(before), Trust::Silent);
        assert_eq!(doubt.about(after), Trust::Doubtful(again));
    }
}
