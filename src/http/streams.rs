//! The streams of a connection of HTTP/2: each is a task that sends one answer, and can be cut by itself.

use std::cell::OnceCell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hyper::rt::Executor;
use tokio_util::task::TaskTracker;

use super::pending::{Line, Sending};

tokio::task_local! {
    /// The large answer that the stream sends, once it does.
    static SENDING: OnceCell<Arc<Sending>>;
}

/// Runs the streams of one connection.
#[derive(Clone)]
pub(super) struct Streams {
    line: Arc<Line>,
    running: TaskTracker,
}

impl Streams {
    pub(super) fn new(line: Arc<Line>) -> Self {
        let running = TaskTracker::new();
        running.close();
        Self { line, running }
    }

    /// Waits until every answer that was begun has left.
    pub(super) async fn end(&self) {
        self.running.wait().await;
        self.line.all_has_left().await;
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    /// hyper resets a stream whose task is dropped before its answer is whole.
    fn execute(&self, stream: F) {
        self.running
            .spawn(SENDING.scope(OnceCell::new(), async move {
                let mut stream = pin!(stream);
                poll_fn(|cx| {
                    if stream.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                    SENDING.with(|sending| match sending.get() {
                        Some(sending) => sending.poll_cut(cx),
                        None => Poll::Pending,
                    })
                })
                .await;
            }));
    }
}

/// A large answer sets out: on a stream of HTTP/2, which ends with it, or on a connection of HTTP/1.1.
pub(super) fn send(line: &Arc<Line>, address: usize) -> Arc<Sending> {
    let on_a_stream = SENDING.try_with(|stream| {
        let sending = stream.get_or_init(|| line.send(address, true));
        Arc::clone(sending)
    });
    on_a_stream.unwrap_or_else(|_| line.send(address, false))
}
