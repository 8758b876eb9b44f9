//! Lines on their way to stderr. Whoever logs leaves a line here and goes on; a thread writes them. What
//! stderr cannot take, because its disk is full or its reader has died or does not read, is lost and
//! counted: nothing else waits for it, or fails by it.

use std::io::{ErrorKind, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::lock::lock;

/// Bytes of lines that wait while others are written: what a busy access log says in a second.
const WAITING_MAX: usize = 1024 * 1024;

/// How long the end of the process waits for lines to be written.
const FLUSH_AT_MOST: Duration = Duration::from_secs(1);

/// How long until a stream that does not block is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Lines that wait.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    /// Nothing is written any more.
    is_over: bool,
    /// Lines that were lost since the start.
    lost: u64,
}

impl Queue {
    pub(super) const fn new() -> Self {
        let state = State {
            waiting: Vec::new(),
            is_writing: false,
            is_over: false,
            lost: 0,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Leaves a line to be written; never waits for stderr.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.is_over || state.waiting.len() + line.len() > WAITING_MAX {
            state.lost += 1;
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.changed.notify_all();
        }
    }

    /// Lines that were lost since the start.
    pub(super) fn lost(&self) -> u64 {
        self.state().lost
    }

    /// Waits until what was left here has been written, for as long as that may take.
    pub(super) fn flush(&self) {
        let is_under_way =
            |state: &mut State| !state.is_over && (state.is_writing || !state.waiting.is_empty());
        let waited = self
            .changed
            .wait_timeout_while(self.state(), FLUSH_AT_MOST, is_under_way);
        drop(waited);
    }

    /// Writes what comes until [`Queue::close`]. `tell` is called with the number of lines that were lost
    /// when a line could be written again.
    pub(super) fn write_to(&self, mut out: impl Write, tell: impl Fn(u64)) {
        let mut batch = Vec::new();
        let mut told = 0;
        let mut is_within_line = false;
        while self.take(&mut batch) {
            if is_within_line && write_all(&mut out, b"\n") > 0 {
                is_within_line = false;
            }
            let written = if is_within_line {
                0
            } else {
                write_all(&mut out, &batch)
            };
            if written > 0 {
                is_within_line = batch[written - 1] != b'\n';
            }
            let lost = self.written(&batch[written..]);
            if written == batch.len() && lost > told {
                tell(lost - told);
                told = lost;
            }
        }
    }

    /// Ends the writing, and everything that comes later is lost.
    pub(super) fn close(&self) {
        self.state().is_over = true;
        self.changed.notify_all();
    }

    fn take(&self, batch: &mut Vec<u8>) -> bool {
        batch.clear();
        let is_idle = |state: &mut State| !state.is_over && state.waiting.is_empty();
        let waited = self.changed.wait_while(self.state(), is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.waiting, batch);
        state.is_writing = !batch.is_empty();
        state.is_writing
    }

    /// After a batch, of which this could not be written.
    fn written(&self, rest: &[u8]) -> u64 {
        let mut state = self.state();
        let lines = rest.iter().filter(|byte| **byte == b'\n').count();
        state.lost += u64::try_from(lines).unwrap_or(u64::MAX);
        state.is_writing = false;
        let lost = state.lost;
        drop(state);
        self.changed.notify_all();
        lost
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Writes as much as can be written, and says how much that was.
fn write_all(out: &mut impl Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => break,
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Whoever shares the stream may have asked that it does not block.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::park_timeout(AGAIN_AFTER);
            }
            Err(_) => break,
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A stream whose every write ends as it is told, and says what was written.
    struct Told {
        results: Receiver<io::Result<usize>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let result = self.results.recv().unwrap_or(Ok(usize::MAX))?;
            let taken = result.min(bytes.len());
            self.written.send(bytes[..taken].to_vec()).unwrap();
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told() -> (Told, Sender<io::Result<usize>>, Receiver<Vec<u8>>) {
        let (results, to_come) = channel();
        let (written, seen) = channel();
        let told = Told {
            results: to_come,
            written,
        };
        (told, results, seen)
    }

    #[test]
    fn who_logs_does_not_wait_for_a_stream_that_is_not_read_and_memory_is_bounded() {
        let queue = Queue::new();
        let (stream, results, written) = told();
        let lost = Mutex::new(Vec::new());
        let held = std::thread::scope(|scope| {
            scope.spawn(|| queue.write_to(stream, |lines| lost.lock().unwrap().push(lines)));
            let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
            // While nothing is read: two times what may wait is the most that is held.
            let pushed = 5 * WAITING_MAX / line.len();
            for _ in 0..pushed {
                queue.push(&line);
            }
            let held = pushed as u64 - queue.lost();
            drop(results);
            queue.flush();
            queue.close();
            held
        });
        assert!(held * 1024 <= 2 * WAITING_MAX as u64, "{held}");
        assert!(queue.lost() > 0);
        let bytes: usize = written.iter().map(|bytes| bytes.len()).sum();
        let pushed = 5 * WAITING_MAX as u64 / 1024;
        assert_eq!(
            bytes as u64,
            (pushed - queue.lost()) * 1024,
            "all but what was lost"
        );
        assert_eq!(lost.lock().unwrap().iter().sum::<u64>(), queue.lost());
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_the_next_line_begins_on_its_own() {
        let queue = Queue::new();
        let (stream, results, written) = told();
        let full = || io::Error::from(ErrorKind::StorageFull);
        results.send(Ok(2)).unwrap();
        results.send(Err(ErrorKind::Interrupted.into())).unwrap();
        results.send(Err(ErrorKind::WouldBlock.into())).unwrap();
        results.send(Err(full())).unwrap();
        results.send(Err(full())).unwrap();
        let lost = Mutex::new(Vec::new());
        let lost_at_first = std::thread::scope(|scope| {
            scope.spawn(|| queue.write_to(stream, |lines| lost.lock().unwrap().push(lines)));
            queue.push(b"one\n");
            queue.flush();
            queue.push(b"two\n");
            queue.flush();
            let lost_at_first = queue.lost();
            drop(results);
            queue.push(b"three\n");
            queue.flush();
            queue.close();
            lost_at_first
        });
        assert_eq!(lost_at_first, 2);
        let written: Vec<u8> = written.iter().flatten().collect();
        assert_eq!(written, b"on\nthree\n");
        assert_eq!(*lost.lock().unwrap(), [2]);
        queue.push(b"after the end\n");
        assert_eq!(queue.lost(), 3);
    }
}
