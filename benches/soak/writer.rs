//! Changes the data, and records when each version was committed. It connects to Postgres directly, so that faults
//! between Larder and Postgres do not stop it.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;
use crate::versions::Versions;

/// The time between two versions.
const PACE: Duration = Duration::from_millis(200);

/// Commits another version, and notifies.
const WRITE: &str = "BEGIN; UPDATE state SET version = version + 1; NOTIFY soak; COMMIT; \
                     SELECT version FROM state";

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
