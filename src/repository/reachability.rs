//! The way to Postgres: whether it is open, when to try again, and who wants to know.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::RepositoryError;
use crate::observe::{Event, Observer};

/// Waits between attempts to connect: doubled from the first to the last, each shortened by up to a
/// half at random, so that several Larders do not knock in step. Five seconds is about what a restart
/// of Postgres takes; longer waits would only keep answers old.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What is known of the way.
#[derive(Debug)]
pub(super) struct Way {
    gate: Mutex<Gate>,
    observer: Observer,
}

/// An attempt to open a session. Dropped without an ending, it was given up.
#[derive(Debug)]
pub(super) struct Attempt {
    way: Arc<Way>,
}

/// A session that is open, until it is dropped.
#[derive(Debug)]
pub(super) struct Open {
    way: Arc<Way>,
}

impl Way {
    pub(super) fn new(observer: Observer) -> Self {
        Self {
            gate: Mutex::default(),
            observer,
        }
    }

    /// Begins an attempt.
    pub(super) fn attempt(self: &Arc<Self>) -> Attempt {
        self.gate().attempts += 1;
        Attempt {
            way: Arc::clone(self),
        }
    }

    /// Why a new session may not be opened now, and when one may.
    pub(super) fn closed(&self) -> Option<(String, Instant)> {
        self.gate().closed(Instant::now())
    }

    /// Whether a session is open, or may soon be.
    pub(super) fn has_sessions(&self) -> bool {
        let gate = self.gate();
        gate.sessions + gate.attempts > 0
    }

    /// How long until the next attempt is allowed; zero while a session is open.
    pub(super) fn retry_in(&self) -> Duration {
        let gate = self.gate();
        let next = gate.next.filter(|_| gate.sessions == 0);
        next.map_or(Duration::ZERO, |next| {
            next.saturating_duration_since(Instant::now())
        })
    }

    pub(super) fn observer(&self) -> &Observer {
        &self.observer
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate
            .lock()
            .expect("nothing panics while it holds the gate")
    }
}

impl Attempt {
    /// It led to a session.
    pub(super) fn succeeded(self) -> Open {
        let mut gate = self.way.gate();
        gate.sessions += 1;
        let news = gate.open();
        drop(gate);
        if news {
            self.way.observer.emit(&Event::RepositoryReached);
        }
        Open {
            way: Arc::clone(&self.way),
        }
    }

    /// It led nowhere. Without a session, Postgres is lost by that; unless it said that it has no room,
    /// which may well be because another attempt under way has got it.
    pub(super) fn failed(self, error: &RepositoryError) {
        let cause = if let RepositoryError::Unavailable { cause } = error {
            cause.clone()
        } else {
            error.to_string()
        };
        let mut gate = self.way.gate();
        gate.close(&cause, Instant::now());
        let may_be_ours = matches!(error, RepositoryError::Busy { .. }) && gate.attempts > 1;
        let is_lost = gate.sessions == 0 && !may_be_ours;
        let news = is_lost && gate.reached.replace(false) != Some(false);
        drop(gate);
        if news {
            self.way.observer.emit(&Event::RepositoryLost { cause });
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.way.gate().attempts -= 1;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.way.gate().sessions -= 1;
    }
}

/// Whether connecting is worth trying.
#[derive(Debug, Default)]
struct Gate {
    /// `None` until the first attempt ended.
    reached: Option<bool>,
    /// Those that are open.
    sessions: usize,
    /// Those under way.
    attempts: usize,
    failures: u32,
    next: Option<Instant>,
    cause: String,
}

impl Gate {
    fn closed(&self, now: Instant) -> Option<(String, Instant)> {
        let next = self.next.filter(|next| now < *next)?;
        Some((self.cause.clone(), next))
    }

    /// Whether that is news.
    fn open(&mut self) -> bool {
        self.failures = 0;
        self.next = None;
        self.reached.replace(true) != Some(true)
    }

    fn close(&mut self, cause: &str, now: Instant) {
        // Attempts that were under way together count as one.
        if self.next.is_none_or(|next| next <= now) {
            self.next = Some(now + backoff(self.failures));
            self.failures = self.failures.saturating_add(1);
        }
        cause.clone_into(&mut self.cause);
    }
}

fn backoff(failures: u32) -> Duration {
    let (first, last) = BACKOFF;
    let whole = first
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(last);
    whole.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::error::Refusal;

    #[tokio::test(start_paused = true)]
    async fn attempts_to_connect_are_spaced_and_the_wait_is_capped() {
        let mut gate = Gate::default();
        assert_eq!(gate.closed(Instant::now()), None);
        for _ in 0..20 {
            gate.close("refused", Instant::now());
            let (cause, next) = gate.closed(Instant::now()).unwrap();
            assert_eq!(cause, "refused");
            let wait = next - Instant::now();
            assert!(wait >= BACKOFF.0 / 2 && wait <= BACKOFF.1, "{wait:?}");
            tokio::time::advance(wait).await;
            assert_eq!(gate.closed(Instant::now()), None, "an attempt is due");
        }
        assert!(gate.open() && !gate.open(), "it is reached once");
        assert_eq!(gate.failures, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_one_moment_count_as_one() {
        let mut gate = Gate::default();
        for _ in 0..100 {
            gate.close("refused", Instant::now());
        }
        assert_eq!(gate.failures, 1);
    }

    /// What is told of attempts that end in this order.
    fn told(tell: impl FnOnce(&Arc<Way>)) -> Vec<&'static str> {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let observer = Observer::new(vec![Box::new(move |event| {
            let is_reached = matches!(event, Event::RepositoryReached);
            let name = if is_reached { "reached" } else { "lost" };
            heard.lock().unwrap().push(name);
        })]);
        tell(&Arc::new(Way::new(observer)));
        Arc::into_inner(told).unwrap().into_inner().unwrap()
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
        let one_got_it = told(|way| {
            let [one, two, three] = [way.attempt(), way.attempt(), way.attempt()];
            two.failed(&full());
            three.failed(&full());
            let open = one.succeeded();
            way.attempt().failed(&full());
            assert!(way.has_sessions() && way.retry_in().is_zero());
            drop(open);
            assert!(!way.has_sessions() && !way.retry_in().is_zero());
        });
        assert_eq!(one_got_it, ["reached"]);
        let others_have_it = told(|way| {
            let [one, two] = [way.attempt(), way.attempt()];
            one.failed(&full());
            two.failed(&full());
            way.attempt().failed(&full());
            drop(way.attempt().succeeded());
        });
        assert_eq!(others_have_it, ["lost", "reached"]);
    }

    #[tokio::test]
    async fn a_postgres_that_can_not_be_reached_is_lost_at_once_and_told_once() {
        let away = || RepositoryError::Unavailable {
            cause: "refused".to_owned(),
        };
        let told = told(|way| {
            let [_under_way, one, two] = [way.attempt(), way.attempt(), way.attempt()];
            one.failed(&away());
            two.failed(&away());
            let _open = way.attempt().succeeded();
            way.attempt().failed(&away());
        });
        assert_eq!(told, ["lost", "reached"]);
    }
}
