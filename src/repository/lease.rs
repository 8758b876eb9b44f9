//! A session on loan for one load, and the transaction that the load runs in. The session is returned only when
//! Postgres has finished in it. If it is dropped earlier, the query is cancelled on the server and the session
//! is closed: its next user would wait for rows that no one reads.

use std::ops::Deref;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool::managed::Object;
use deadpool_postgres::ClientWrapper;
use futures_util::{FutureExt, TryStreamExt};
use tokio_postgres::SimpleQueryStream;

use super::pool::{Session, Sessions};
use super::session;
use super::tls::Connector;
use crate::mutex::lock;

/// How long cancelling may take; the server's own `statement_timeout` ends the query in any case.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a session is kept that does not answer whether its transaction is over.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Postgres's answer to the end of a transaction.
type Ending = Pin<Box<SimpleQueryStream>>;

/// A session on loan.
pub(super) struct Lease {
    session: Option<Object<Sessions>>,
    tls: Connector,
    in_transaction: AtomicBool,
    finished: bool,
    has_identity: AtomicBool,
    /// What Postgres answers to the end of the last transaction with another identity.
    ending: Mutex<Option<Ending>>,
}

impl Lease {
    pub(super) fn new(session: Object<Sessions>, tls: Connector) -> Self {
        Self {
            session: Some(session),
            tls,
            in_transaction: AtomicBool::new(false),
            finished: false,
            has_identity: AtomicBool::new(false),
            ending: Mutex::new(None),
        }
    }

    /// Begins the transaction. Queries sent after the first poll travel with it.
    pub(super) async fn begin(&self) -> Result<(), tokio_postgres::Error> {
        self.in_transaction.store(true, Ordering::Relaxed);
        self.batch_execute(self.session().settings().begin()).await
    }

    /// Ends the transaction, without waiting for the answer: Postgres runs what is sent next afterwards.
    pub(super) fn end(&self) {
        if !self.in_transaction.load(Ordering::Relaxed) {
            return;
        }
        let sent = self.simple_query_raw(&session::end()).now_or_never();
        self.in_transaction.store(sent.is_none(), Ordering::Relaxed);
        if self.has_identity.load(Ordering::Relaxed) {
            *lock(&self.ending) = sent.and_then(Result::ok).map(Box::pin);
        }
    }

    /// From now on, transactions run with another identity than the session's. Then the session is used again
    /// only once Postgres has answered that the last one is over, so that nobody else's load can have it.
    pub(super) fn mark_identity(&self) {
        self.has_identity.store(true, Ordering::Relaxed);
    }

    /// Ends the transaction, in which nothing runs any more, so that the session can be returned to the pool.
    pub(super) fn finish(&mut self) {
        self.end();
        self.finished = true;
        if let Some(session) = &mut self.session {
            session.record_answer();
        }
    }

    /// Postgres cancels a statement in this session that runs for longer.
    pub(super) fn statement_timeout(&self) -> Duration {
        self.session().settings().statement_timeout()
    }

    fn session(&self) -> &Session {
        self.session
            .as_ref()
            .expect("a session is taken only on drop")
    }
}

impl Deref for Lease {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        self.session()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        if session.is_closed() {
            return;
        }
        if !self.finished || *self.in_transaction.get_mut() {
            give_up(session, self.tls.clone());
        } else if *self.has_identity.get_mut() {
            let ending = lock(&self.ending).take();
            return_after(session, ending);
        }
    }
}

/// Closes a session in which a query runs, and cancels the query.
fn give_up(session: Object<Sessions>, tls: Connector) {
    session.give_up();
    // Without a runtime, the process is ending. Then Postgres itself may notice the closed socket: see
    // `client_connection_check_interval` in `session`.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        drop(Object::take(session));
        return;
    };
    let cancel = session.cancel_token();
    runtime.spawn(async move {
        let cancelled = tokio::time::timeout(CANCEL_TIMEOUT, cancel.cancel_query(tls));
        // Best effort: if this fails, `statement_timeout` ends the query.
        let _ = cancelled.await;
        // The session counts until then: Postgres may still be working in it.
        drop(Object::take(session));
    });
}

/// Returns a session to the pool once the transaction with another identity is over; closes it if that is not
/// known in time.
fn return_after(mut session: Object<Sessions>, ending: Option<Ending>) {
    let returning = async move {
        let over = tokio::time::timeout(END_TIMEOUT, is_over(ending));
        if over.await == Ok(true) {
            session.record_answer();
        } else {
            session.give_up();
            drop(Object::take(session));
        }
    };
    let mut returning = Box::pin(returning);
    // It was sent with the statement, so the answer is mostly there.
    if returning.as_mut().now_or_never().is_none()
        && let Ok(runtime) = tokio::runtime::Handle::try_current()
    {
        runtime.spawn(returning);
    }
}

/// Whether Postgres has ended a transaction.
async fn is_over(ending: Option<Ending>) -> bool {
    let Some(mut ending) = ending else {
        return false;
    };
    loop {
        match ending.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}
