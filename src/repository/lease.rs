//! A session on loan for one load, and the transaction that the load runs in. The session is returned only when
//! Postgres has finished in it. If it is dropped earlier, the query is cancelled on the server and the session
//! is closed: its next user would wait for rows that no one reads.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool::managed::Object;
use deadpool_postgres::ClientWrapper;
use futures_util::FutureExt;

use super::pool::{Session, Sessions};
use super::session;
use super::tls::Connector;

/// How long cancelling may take; the server's own `statement_timeout` ends the query in any case.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// A session on loan.
pub(super) struct Lease {
    session: Option<Object<Sessions>>,
    tls: Connector,
    in_transaction: AtomicBool,
    finished: bool,
}

impl Lease {
    pub(super) fn new(session: Object<Sessions>, tls: Connector) -> Self {
        Self {
            session: Some(session),
            tls,
            in_transaction: AtomicBool::new(false),
            finished: false,
        }
    }

    /// Begins the transaction. Queries sent after the first poll travel with it.
    pub(super) async fn begin(&self) -> Result<(), tokio_postgres::Error> {
        self.in_transaction.store(true, Ordering::Relaxed);
        self.batch_execute(self.session().settings().begin()).await
    }

    /// Ends the transaction, without waiting for the answer: Postgres runs what is sent next afterwards.
    pub(super) fn end(&mut self) {
        if *self.in_transaction.get_mut() {
            let sent = self.simple_query_raw(&session::end()).now_or_never();
            *self.in_transaction.get_mut() = sent.is_none();
        }
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
        let is_idle = self.finished && !*self.in_transaction.get_mut();
        if is_idle || session.is_closed() {
            return;
        }
        session.give_up();
        // Without a runtime, the process is ending. Then Postgres itself may notice the closed socket: see
        // `client_connection_check_interval` in `session`.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (cancel, tls) = (session.cancel_token(), self.tls.clone());
            runtime.spawn(async move {
                let cancelled = tokio::time::timeout(CANCEL_TIMEOUT, cancel.cancel_query(tls));
                // Best effort: if this fails, `statement_timeout` ends the query.
                let _ = cancelled.await;
                // The session counts until then: Postgres may still be working in it.
                drop(Object::take(session));
            });
        } else {
            drop(Object::take(session));
        }
    }
}
