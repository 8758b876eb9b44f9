//! Values that are made once for all concurrent requests, off the threads that answer hits. Making a value
//! continues when the client that caused it leaves, so clients that come and go start only one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

/// A value, and what keeps it from being made twice at the same time.
#[derive(Debug)]
pub(super) struct Memo<T> {
    latest: Arc<ArcSwapOption<Made<T>>>,
    lock: Arc<Mutex<()>>,
    /// How often making a value has begun.
    begun: AtomicU64,
}

#[derive(Debug)]
struct Made<T> {
    /// Which of the values it is, counted from 1.
    number: u64,
    value: Arc<T>,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self {
            latest: Arc::default(),
            lock: Arc::default(),
            begun: AtomicU64::new(0),
        }
    }
}

impl<T: Send + Sync + 'static> Memo<T> {
    /// The latest value, if it is current or was begun after this call; otherwise a new one. `None` if `make`
    /// returns none, or panics.
    pub(super) async fn get(
        &self,
        is_current: impl Fn(&T) -> bool,
        make: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> Option<Arc<T>> {
        // However long it takes to make a value, all calls that queue meanwhile share the next one.
        let before = self.begun.load(Ordering::SeqCst);
        let current = || {
            let latest = self.latest.load_full()?;
            let is_current = latest.number > before || is_current(&latest.value);
            is_current.then(|| Arc::clone(&latest.value))
        };
        if let Some(value) = current() {
            return Some(value);
        }
        let guard = Arc::clone(&self.lock).lock_owned().await;
        if let Some(value) = current() {
            return Some(value);
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let slot = Arc::clone(&self.latest);
        let make = move || {
            // Held until the value is made, even if its client leaves before.
            let _guard = guard;
            let value = Arc::new(make()?);
            let made = Made {
                number,
                value: Arc::clone(&value),
            };
            slot.store(Some(Arc::new(made)));
            Some(value)
        };
        tokio::task::spawn_blocking(make).await.ok()?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
    use tokio::task::{JoinHandle, yield_now};

    use super::*;

    /// A memo that counts its values, and makes each only when the test allows it.
    struct Counted {
        memo: Arc<Memo<usize>>,
        began: UnboundedSender<()>,
        may_end: Arc<std::sync::Mutex<mpsc::Receiver<()>>>,
        count: Arc<AtomicU64>,
    }

    fn counted() -> (Counted, UnboundedReceiver<()>, mpsc::Sender<()>) {
        let (began, begins) = unbounded_channel();
        let (end, may_end) = mpsc::channel();
        let counted = Counted {
            memo: Arc::default(),
            began,
            may_end: Arc::new(may_end.into()),
            count: Arc::default(),
        };
        (counted, begins, end)
    }

    impl Counted {
        /// Gets the value, as far as that is possible without waiting.
        async fn ask(&self, is_current: bool) -> JoinHandle<Option<Arc<usize>>> {
            let (began, count) = (self.began.clone(), Arc::clone(&self.count));
            let (memo, may_end) = (Arc::clone(&self.memo), Arc::clone(&self.may_end));
            let make = move || {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                began.send(()).unwrap();
                may_end.lock().unwrap().recv().unwrap();
                usize::try_from(number).ok()
            };
            let asker = tokio::spawn(async move { memo.get(|_| is_current, make).await });
            yield_now().await;
            asker
        }
    }

    async fn got(asker: JoinHandle<Option<Arc<usize>>>) -> usize {
        *asker.await.unwrap().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_current_value_is_made_once_for_all_requests() {
        let (counted, mut begins, end) = counted();
        let mut askers = Vec::new();
        for _ in 0..20 {
            askers.push(counted.ask(true).await);
        }
        begins.recv().await.unwrap();
        // More than needed, so that one value too many is counted instead of waited for.
        (0..20).for_each(|_| end.send(()).unwrap());
        for asker in askers {
            assert_eq!(got(asker).await, 1);
        }
        assert_eq!(got(counted.ask(true).await).await, 1);
        assert_eq!(got(counted.ask(false).await).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn making_a_value_continues_after_its_client_has_left() {
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
    async fn all_who_queue_while_a_value_is_made_share_the_next() {
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
    async fn a_failure_does_not_block_the_next_value() {
        let memo = Memo::<u8>::default();
        let defect = memo.get(|_| true, || Option::<u8>::None.map(|_| unreachable!()));
        assert_eq!(defect.await, None);
        let defect = memo.get(|_| true, || panic!("a defect"));
        assert_eq!(defect.await, None);
        assert_eq!(memo.get(|_| true, || Some(3)).await.as_deref(), Some(&3));
    }
}
