//! Writes log lines to stderr in the background. Logging pushes a line and returns; a thread writes it. Lines
//! that stderr does not take, because the disk is full or its reader has died or does not read, are dropped
//! and counted. Nothing else waits for stderr or fails because of it.

use std::io::{ErrorKind, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::mutex::lock;

/// The most bytes that wait while others are written: about one second of a busy access log.
const WAITING_MAX: usize = 1024 * 1024;

/// How long [`Queue::flush`] waits at most.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait before a non-blocking stream is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// The lines that wait to be written.
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
    is_closed: bool,
    /// Lines dropped since the start.
    dropped: u64,
}

impl Queue {
    pub(super) const fn new() -> Self {
        let state = State {
            waiting: Vec::new(),
            is_writing: false,
            is_closed: false,
            dropped: 0,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Queues a line without waiting for stderr.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.is_closed || state.waiting.len() + line.len() > WAITING_MAX {
            state.dropped += 1;
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.changed.notify_all();
        }
    }

    /// Lines dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// Waits until the queued lines have been written, for [`FLUSH_TIMEOUT`] at most.
    pub(super) fn flush(&self) {
        let is_under_way =
            |state: &mut State| !state.is_closed && (state.is_writing || !state.waiting.is_empty());
        let waited = self
            .changed
            .wait_timeout_while(self.state(), FLUSH_TIMEOUT, is_under_way);
        drop(waited);
    }

    /// Writes lines until [`Queue::close`]. When a line could be written after others were dropped, `report`
    /// is called with how many.
    pub(super) fn write_to(&self, mut out: impl Write, report: impl Fn(u64)) {
        let mut batch = Vec::new();
        let mut reported = 0;
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
            let dropped = self.finish_batch(&batch[written..]);
            if written == batch.len() && dropped > reported {
                report(dropped - reported);
                reported = dropped;
            }
        }
    }

    /// Ends the writing; later lines are dropped.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    fn take(&self, batch: &mut Vec<u8>) -> bool {
        batch.clear();
        let is_idle = |state: &mut State| !state.is_closed && state.waiting.is_empty();
        let waited = self.changed.wait_while(self.state(), is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.waiting, batch);
        state.is_writing = !batch.is_empty();
        state.is_writing
    }

    /// Counts the lines of a batch that could not be written, and returns how many have been dropped.
    fn finish_batch(&self, rest: &[u8]) -> u64 {
        let mut state = self.state();
        let lines = rest.iter().filter(|byte| **byte == b'\n').count();
        state.dropped += u64::try_from(lines).unwrap_or(u64::MAX);
        state.is_writing = false;
        let dropped = state.dropped;
        drop(state);
        self.changed.notify_all();
        dropped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Writes as much as possible, and returns how much that was.
fn write_all(out: &mut impl Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => break,
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process that shares the stream may have made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::park_timeout(RETRY_AFTER);
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

    /// A stream whose writes end as the test decides, and that passes on what was written.
    struct Scripted {
        results: Receiver<io::Result<usize>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Scripted {
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

    fn scripted() -> (Scripted, Sender<io::Result<usize>>, Receiver<Vec<u8>>) {
        let (results, to_come) = channel();
        let (written, seen) = channel();
        let stream = Scripted {
            results: to_come,
            written,
        };
        (stream, results, seen)
    }

    #[test]
    fn logging_does_not_wait_for_a_stream_that_is_not_read_and_memory_is_bounded() {
        let queue = Queue::new();
        let (stream, results, written) = scripted();
        let lost = Mutex::new(Vec::new());
        let held = std::thread::scope(|scope| {
            scope.spawn(|| queue.write_to(stream, |lines| lost.lock().unwrap().push(lines)));
            let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
            // While nothing is read: two times what may wait is the most that is held.
            let pushed = 5 * WAITING_MAX / line.len();
            for _ in 0..pushed {
                queue.push(&line);
            }
            let held = pushed as u64 - queue.dropped();
            drop(results);
            queue.flush();
            queue.close();
            held
        });
        assert!(held * 1024 <= 2 * WAITING_MAX as u64, "{held}");
        assert!(queue.dropped() > 0);
        let bytes: usize = written.iter().map(|bytes| bytes.len()).sum();
        let pushed = 5 * WAITING_MAX as u64 / 1024;
        assert_eq!(
            bytes as u64,
            (pushed - queue.dropped()) * 1024,
            "all but what was lost"
        );
        assert_eq!(lost.lock().unwrap().iter().sum::<u64>(), queue.dropped());
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_the_next_one_begins_a_new_line() {
        let queue = Queue::new();
        let (stream, results, written) = scripted();
        let full = || io::Error::from(ErrorKind::StorageFull);
        results.send(Ok(2)).unwrap();
        results.send(Err(ErrorKind::Interrupted.into())).unwrap();
        results.send(Err(ErrorKind::WouldBlock.into())).unwrap();
        results.send(Err(full())).unwrap();
        results.send(Err(full())).unwrap();
        let lost = Mutex::new(Vec::new());
        let dropped_at_first = std::thread::scope(|scope| {
            scope.spawn(|| queue.write_to(stream, |lines| lost.lock().unwrap().push(lines)));
            queue.push(b"one\n");
            queue.flush();
            queue.push(b"two\n");
            queue.flush();
            let dropped_at_first = queue.dropped();
            drop(results);
            queue.push(b"three\n");
            queue.flush();
            queue.close();
            dropped_at_first
        });
        assert_eq!(dropped_at_first, 2);
        let written: Vec<u8> = written.iter().flatten().collect();
        assert_eq!(written, b"on\nthree\n");
        assert_eq!(*lost.lock().unwrap(), [2]);
        queue.push(b"after the end\n");
        assert_eq!(queue.dropped(), 3);
    }
}
