//! What is made once for all who ask, off the threads that answer hits. What was begun goes on though
//! who asked for it leaves: clients that come and go begin no more than one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Lets one thing at a time be made.
#[derive(Debug, Default)]
struct Turns(Arc<Mutex<()>>);

/// Leave to make something.
struct Turn(OwnedMutexGuard<()>);

impl Turns {
    async fn next(&self) -> Turn {
        Turn(Arc::clone(&self.0).lock_owned().await)
    }
}

impl Turn {
    /// What is made; none only for a defect. The turn ends with the making, not with the wait for it.
    async fn make<T: Send + 'static>(self, make: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let making = move || {
            let _turn = self.0;
            make()
        };
        tokio::task::spawn_blocking(making).await.ok()
    }
}

/// What was made last.
#[derive(Debug)]
pub(super) struct Shared<T> {
    made: Arc<ArcSwapOption<Made<T>>>,
    turns: Turns,
    /// How many makings were begun.
    begun: AtomicU64,
}

#[derive(Debug)]
struct Made<T> {
    /// Which making it is of, counted from 1.
    making: u64,
    value: Arc<T>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self {
            made: Arc::default(),
            turns: Turns::default(),
            begun: AtomicU64::new(0),
        }
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// What was made, if it is good or was begun after the call; or else another one. None if `make`
    /// makes none, or for a defect.
    pub(super) async fn get(
        &self,
        is_good: impl Fn(&T) -> bool,
        make: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> Option<Arc<T>> {
        // However long it takes to make, those who queue meanwhile share the next one.
        let asked = self.begun.load(Ordering::SeqCst);
        let good = || {
            let made = self.made.load_full()?;
            let is_good = made.making > asked || is_good(&made.value);
            is_good.then(|| Arc::clone(&made.value))
        };
        if let Some(made) = good() {
            return Some(made);
        }
        let turn = self.turns.next().await;
        if let Some(made) = good() {
            return Some(made);
        }
        let making = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let slot = Arc::clone(&self.made);
        let make = move || {
            let value = Arc::new(make()?);
            let made = Made {
                making,
                value: Arc::clone(&value),
            };
            slot.store(Some(Arc::new(made)));
            Some(value)
        };
        turn.make(make).await?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
    use tokio::task::{JoinHandle, yield_now};

    use super::*;

    /// Something shared whose makings are counted, and end when they may.
    struct Counted {
        shared: Arc<Shared<usize>>,
        began: UnboundedSender<()>,
        may_end: Arc<std::sync::Mutex<mpsc::Receiver<()>>>,
        count: Arc<AtomicU64>,
    }

    fn counted() -> (Counted, UnboundedReceiver<()>, mpsc::Sender<()>) {
        let (began, begins) = unbounded_channel();
        let (end, may_end) = mpsc::channel();
        let counted = Counted {
            shared: Arc::default(),
            began,
            may_end: Arc::new(may_end.into()),
            count: Arc::default(),
        };
        (counted, begins, end)
    }

    impl Counted {
        /// Asks as far as one comes without waiting.
        async fn ask(&self, is_good: bool) -> JoinHandle<Option<Arc<usize>>> {
            let (began, count) = (self.began.clone(), Arc::clone(&self.count));
            let (shared, may_end) = (Arc::clone(&self.shared), Arc::clone(&self.may_end));
            let make = move || {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                began.send(()).unwrap();
                may_end.lock().unwrap().recv().unwrap();
                usize::try_from(number).ok()
            };
            let asker = tokio::spawn(async move { shared.get(|_| is_good, make).await });
            yield_now().await;
            asker
        }
    }

    async fn got(asker: JoinHandle<Option<Arc<usize>>>) -> usize {
        *asker.await.unwrap().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_good_is_made_once_for_all_who_ask() {
        let (counted, mut begins, end) = counted();
        let mut askers = Vec::new();
        for _ in 0..20 {
            askers.push(counted.ask(true).await);
        }
        begins.recv().await.unwrap();
        // More than are to be made: what is made too often is counted, and is not waited for.
        (0..20).for_each(|_| end.send(()).unwrap());
        for asker in askers {
            assert_eq!(got(asker).await, 1);
        }
        assert_eq!(got(counted.ask(true).await).await, 1);
        assert_eq!(got(counted.ask(false).await).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_begun_goes_on_for_the_next_though_its_asker_leaves() {
        let (counted, mut begins, end) = counted();
        let first = counted.ask(true).await;
        begins.recv().await.unwrap();
        for _ in 0..20 {
            let leaves = counted.ask(true).await;
            leaves.abort();
            assert!(leaves.await.unwrap_err().is_cancelled());
        }
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let next = counted.ask(true).await;
        (0..22).for_each(|_| end.send(()).unwrap());
        assert_eq!(got(next).await, 1);
        assert_eq!(counted.count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_queued_while_it_was_made_shares_the_next_though_it_is_good_no_longer() {
        let (counted, mut begins, end) = counted();
        let first = counted.ask(false).await;
        begins.recv().await.unwrap();
        let mut queued = Vec::new();
        for _ in 0..20 {
            queued.push(counted.ask(false).await);
        }
        (0..21).for_each(|_| end.send(()).unwrap());
        assert_eq!(got(first).await, 1);
        for asker in queued {
            assert_eq!(got(asker).await, 2);
        }
    }

    #[tokio::test]
    async fn a_defect_ends_its_turn() {
        let shared = Shared::<u8>::default();
        let defect = shared.get(|_| true, || Option::<u8>::None.map(|_| unreachable!()));
        assert_eq!(defect.await, None);
        let defect = shared.get(|_| true, || panic!("a defect"));
        assert_eq!(defect.await, None);
        assert_eq!(shared.get(|_| true, || Some(3)).await.as_deref(), Some(&3));
    }
}
