//! Whether Postgres can be reached, and when to try again.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::RepositoryError;
use crate::backoff::{Backoff, Jitter};
use crate::mutex::lock;
use crate::observe::{Event, Observer};

/// Waits between attempts to connect, with jitter so that several Larders do not reconnect in step. A restart
/// of Postgres takes about five seconds; longer waits would only keep answers old.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(5),
    jitter: Jitter::Half,
};

/// What attempts to open sessions have shown.
#[derive(Debug)]
pub(super) struct Reachability {
    state: Mutex<State>,
    observer: Observer,
}

/// An attempt to open a session. One that is dropped without a result counts as neither success nor
/// failure.
#[derive(Debug)]
pub(super) struct Attempt {
    reachability: Arc<Reachability>,
}

/// Counts a session as open until it is dropped.
#[derive(Debug)]
pub(super) struct OpenSession {
    reachability: Arc<Reachability>,
}

impl Reachability {
    pub(super) fn new(observer: Observer) -> Self {
        Self {
            state: Mutex::default(),
            observer,
        }
    }

    /// Begins an attempt.
    pub(super) fn begin_attempt(self: &Arc<Self>) -> Attempt {
        self.state().attempts += 1;
        Attempt {
            reachability: Arc::clone(self),
        }
    }

    /// Why the last attempt failed and when the next is allowed, while it is not.
    pub(super) fn backing_off(&self) -> Option<(String, Instant)> {
        self.state().backing_off(Instant::now())
    }

    /// Whether a session is open, or may soon be.
    pub(super) fn has_sessions(&self) -> bool {
        let state = self.state();
        state.sessions + state.attempts > 0
    }

    /// How long until the next attempt is allowed; zero while a session is open.
    pub(super) fn retry_in(&self) -> Duration {
        let state = self.state();
        let next = state.next.filter(|_| state.sessions == 0);
        next.map_or(Duration::ZERO, |next| {
            next.saturating_duration_since(Instant::now())
        })
    }

    pub(super) fn observer(&self) -> &Observer {
        &self.observer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Attempt {
    /// Records that the attempt opened a session.
    pub(super) fn succeed(self) -> OpenSession {
        let mut state = self.reachability.state();
        state.sessions += 1;
        let is_news = state.record_success();
        drop(state);
        if is_news {
            self.reachability.observer.emit(&Event::RepositoryReached);
        }
        OpenSession {
            reachability: Arc::clone(&self.reachability),
        }
    }

    /// Records a failed attempt. With no session open, Postgres is now unreachable, unless it refused for
    /// lack of room while another attempt is under way, which may have taken the last place.
    pub(super) fn fail(self, error: &RepositoryError) {
        let cause = if let RepositoryError::Unavailable { cause } = error {
            cause.clone()
        } else {
            error.to_string()
        };
        let mut state = self.reachability.state();
        state.record_failure(&cause, Instant::now());
        let may_be_ours = matches!(error, RepositoryError::Busy { .. }) && state.attempts > 1;
        let is_lost = state.sessions == 0 && !may_be_ours;
        let is_news = is_lost && state.reached.replace(false) != Some(false);
        drop(state);
        if is_news {
            self.reachability
                .observer
                .emit(&Event::RepositoryLost { cause });
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.reachability.state().attempts -= 1;
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.reachability.state().sessions -= 1;
    }
}

#[derive(Debug, Default)]
struct State {
    /// `None` until the first attempt has ended.
    reached: Option<bool>,
    /// Open sessions.
    sessions: usize,
    /// Attempts under way.
    attempts: usize,
    failures: u32,
    next: Option<Instant>,
    cause: String,
}

impl State {
    fn backing_off(&self, now: Instant) -> Option<(String, Instant)> {
        let next = self.next.filter(|next| now < *next)?;
        Some((self.cause.clone(), next))
    }

    /// Returns whether Postgres was not known to be reachable before.
    fn record_success(&mut self) -> bool {
        self.failures = 0;
        self.next = None;
        self.reached.replace(true) != Some(true)
    }

    fn record_failure(&mut self, cause: &str, now: Instant) {
        // Attempts that were under way together count as one.
        if self.next.is_none_or(|next| next <= now) {
            self.next = Some(now + BACKOFF.wait(self.failures));
            self.failures = self.failures.saturating_add(1);
        }
        cause.clone_into(&mut self.cause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::Refusal;

    #[tokio::test(start_paused = true)]
    async fn attempts_to_connect_are_spaced_and_the_wait_is_capped() {
        let mut state = State::default();
        assert_eq!(state.backing_off(Instant::now()), None);
        for _ in 0..20 {
            state.record_failure("refused", Instant::now());
            let (cause, next) = state.backing_off(Instant::now()).unwrap();
            assert_eq!(cause, "refused");
            let wait = next - Instant::now();
            assert!(
                wait >= BACKOFF.first / 2 && wait <= BACKOFF.longest,
                "{wait:?}"
            );
            tokio::time::advance(wait).await;
            assert_eq!(state.backing_off(Instant::now()), None, "an attempt is due");
        }
        assert!(
            state.record_success() && !state.record_success(),
            "it is reached once"
        );
        assert_eq!(state.failures, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_one_moment_count_as_one() {
        let mut state = State::default();
        for _ in 0..100 {
            state.record_failure("refused", Instant::now());
        }
        assert_eq!(state.failures, 1);
    }

    /// The events of the attempts that `make` makes.
    fn events(make: impl FnOnce(&Arc<Reachability>)) -> Vec<&'static str> {
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        let observer = Observer::new(vec![Box::new(move |event| {
            let is_reached = matches!(event, Event::RepositoryReached);
            let name = if is_reached { "reached" } else { "lost" };
            sink.lock().unwrap().push(name);
        })]);
        make(&Arc::new(Reachability::new(observer)));
        Arc::into_inner(events).unwrap().into_inner().unwrap()
    }

    fn full() -> RepositoryError {
        let refusal = Refusal {
            code: "53300".to_owned(),
            message: "too many connections".to_owned(),
            detail: None,
            routine: None,
            position: None,
        };
        RepositoryError::Busy { refusal }
    }

    #[tokio::test]
    async fn a_postgres_without_room_is_lost_by_the_last_of_the_attempts_under_way() {
        let one_got_it = events(|it| {
            let [one, two, three] = [it.begin_attempt(), it.begin_attempt(), it.begin_attempt()];
            two.fail(&full());
            three.fail(&full());
            let open = one.succeed();
            it.begin_attempt().fail(&full());
            assert!(it.has_sessions() && it.retry_in().is_zero());
            drop(open);
            assert!(!it.has_sessions() && !it.retry_in().is_zero());
        });
        assert_eq!(one_got_it, ["reached"]);
        let others_have_it = events(|it| {
            let [one, two] = [it.begin_attempt(), it.begin_attempt()];
            one.fail(&full());
            two.fail(&full());
            it.begin_attempt().fail(&full());
            drop(it.begin_attempt().succeed());
        });
        assert_eq!(others_have_it, ["lost", "reached"]);
    }

    #[tokio::test]
    async fn an_unreachable_postgres_is_lost_at_once_and_reported_once() {
        let away = || RepositoryError::Unavailable {
            cause: "refused".to_owned(),
        };
        let events = events(|it| {
            let [_under_way, one, two] =
                [it.begin_attempt(), it.begin_attempt(), it.begin_attempt()];
            one.fail(&away());
            two.fail(&away());
            let _open = it.begin_attempt().succeed();
            it.begin_attempt().fail(&away());
        });
        assert_eq!(events, ["lost", "reached"]);
    }
}
