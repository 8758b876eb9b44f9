//! Changes the data, and records when each version was committed. It connects to Postgres directly, so that faults
//! between Larder and Postgres do not stop it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;

/// The time between two versions.
const PACE: Duration = Duration::from_millis(200);

/// Commits another version, and notifies.
const WRITE: &str = "BEGIN; UPDATE state SET version = version + 1; NOTIFY soak; COMMIT; \
                     SELECT version FROM state";

/// By when each version was committed.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    there: RwLock<Vec<Instant>>,
}

impl Versions {
    /// The newest that is known to be committed.
    pub(crate) fn newest(&self) -> u64 {
        let there = self.there.read().unwrap_or_else(PoisonError::into_inner);
        there.len().saturating_sub(1) as u64
    }

    /// For how long, at least, a version had no longer been the newest at a moment.
    pub(crate) fn outdated(&self, version: u64, at: Instant) -> Duration {
        let there = self.there.read().unwrap_or_else(PoisonError::into_inner);
        let next = usize::try_from(version + 1).ok();
        let since = next.and_then(|next| there.get(next));
        since.map_or(Duration::ZERO, |since| at.saturating_duration_since(*since))
    }

    fn committed(&self, version: u64) {
        let now = Instant::now();
        let mut there = self.there.write().unwrap_or_else(PoisonError::into_inner);
        // Versions whose acknowledgement was lost are committed as well by now.
        while (there.len() as u64) <= version {
            there.push(now);
        }
    }
}

/// Writes until `over`, through restarts of Postgres.
pub(crate) async fn write(url: String, ledger: Arc<Ledger>, over: CancellationToken) {
    let mut client = None;
    while !over.is_cancelled() {
        if let Err(error) = another(&url, &mut client, &ledger.versions).await {
            ledger.writer_failed(&error);
            client = None;
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn another(
    url: &str,
    client: &mut Option<Client>,
    versions: &Versions,
) -> Result<(), tokio_postgres::Error> {
    if client.is_none() {
        let (new, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        *client = Some(new);
    }
    if let Some(client) = client {
        for message in client.simple_query(WRITE).await? {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                let version = row.get(0).and_then(|version| version.parse().ok());
                versions.committed(version.unwrap_or(0));
            }
        }
    }
    Ok(())
}
