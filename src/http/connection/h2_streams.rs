//! The streams of an HTTP/2 connection: each is a task that sends one response, and can be reset by itself.

use std::cell::OnceCell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hyper::rt::Executor;
use tokio_util::task::TaskTracker;

use crate::http::slow_clients::outbound::Outbound;
use crate::http::slow_clients::transfer::{Transfer, Unit};

tokio::task_local! {
    /// The large response that the stream sends, once it does.
    static TRANSFER: OnceCell<Arc<Transfer>>;
}

/// Runs the streams of one connection.
#[derive(Clone)]
pub(super) struct H2Streams {
    outbound: Arc<Outbound>,
    running: TaskTracker,
}

impl H2Streams {
    pub(super) fn new(outbound: Arc<Outbound>) -> Self {
        let running = TaskTracker::new();
        running.close();
        Self { outbound, running }
    }

    /// Waits until every response that has begun is sent.
    pub(super) async fn end(&self) {
        self.running.wait().await;
        self.outbound.all_sent().await;
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for H2Streams {
    /// hyper resets a stream whose task is dropped before its response is complete.
    fn execute(&self, stream: F) {
        self.running
            .spawn(TRANSFER.scope(OnceCell::new(), async move {
                let mut stream = pin!(stream);
                poll_fn(|cx| {
                    if stream.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                    TRANSFER.with(|transfer| match transfer.get() {
                        Some(transfer) => transfer.poll_cut(cx),
                        None => Poll::Pending,
                    })
                })
                .await;
            }));
    }
}

/// Begins to send a large response: on an HTTP/2 stream, which ends with it, or on an HTTP/1.1 connection.
pub(super) fn begin_transfer(outbound: &Arc<Outbound>, address: usize) -> Arc<Transfer> {
    let on_a_stream = TRANSFER.try_with(|transfer| {
        let begin = || Transfer::begin(outbound, address, Unit::Stream);
        Arc::clone(transfer.get_or_init(begin))
    });
    on_a_stream.unwrap_or_else(|_| Transfer::begin(outbound, address, Unit::Connection))
}
