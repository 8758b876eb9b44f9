//! A query that ends when the test wants it to.

use super::postgres::Postgres;

/// An endpoint whose query waits until the test lets go of a lock.
pub(crate) const GATED: &str = r#"
    [[endpoint]]
    path = "/gated/{n}"
    sql = "SELECT :n::int AS n, pg_advisory_xact_lock_shared(hashtext('gate of ' || current_schema()))::text AS passed"
    shape = "row"
    max_age = "1h"
"#;

/// Holds every query of [`GATED`] until it is dropped or opened.
pub(crate) struct Gate(tokio_postgres::Client);

impl Gate {
    pub(crate) async fn close(db: &Postgres) -> Self {
        let client = db.client().await;
        client
            .batch_execute("SELECT pg_advisory_lock(hashtext('gate of ' || current_schema()))")
            .await
            .unwrap();
        Self(client)
    }

    pub(crate) async fn open(self) {
        self.0
            .batch_execute("SELECT pg_advisory_unlock_all()")
            .await
            .unwrap();
    }

    /// Waits until exactly this many queries wait for it.
    pub(crate) async fn wait_for_queries(&self, count: i64) {
        let waiting = "SELECT count(*) FROM pg_locks l, pg_locks mine \
             WHERE l.locktype = 'advisory' AND NOT l.granted AND mine.pid = pg_backend_pid() \
             AND mine.locktype = 'advisory' AND l.objid = mine.objid";
        while self
            .0
            .query_one(waiting, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            != count
        {
            tokio::task::yield_now().await;
        }
    }
}
