//! `LISTEN`, on its own connection. A pooled session would be occupied for good, and would get notifications
//! only between queries.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::Notify;
use tokio_postgres::AsyncMessage;

use super::RepositoryError;
use super::connection::{Connected, Connection};
use super::pool::Pool;
use crate::mutex::lock;

/// After this long without a notification, the connection is checked with a query: nothing else distinguishes
/// a quiet connection from a dead one.
const CHECK_AFTER: Duration = Duration::from_secs(10);

/// Since version 14, Postgres can end sessions that send no queries for a while, like this one.
const DISABLE_IDLE_TIMEOUT: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
     WHERE name = 'idle_session_timeout';";

/// A connection that listens. Dropping it closes the connection.
pub struct Listener {
    connected: Connected,
    pending: Arc<Pending>,
    /// How long the answer to a check may take.
    limit: Duration,
}

/// Notifications that were received and not yet taken. Each channel is in it once, however often it was notified.
#[derive(Debug, Default)]
struct Pending {
    state: Mutex<State>,
    more: Notify,
}

#[derive(Debug, Default)]
struct State {
    channels: BTreeSet<String>,
    lost: Option<RepositoryError>,
}

impl Listener {
    pub(super) async fn open(pool: &Pool, channels: &[&str]) -> Result<Self, RepositoryError> {
        let channels = channels.iter();
        let listen = channels.map(|name| format!("LISTEN \"{}\";", name.replace('"', "\"\"")));
        let begin = DISABLE_IDLE_TIMEOUT.to_owned() + &listen.collect::<String>();
        let connect = pool.connect();
        let opened = connect.open(
            |connection| {
                let pending = Arc::<Pending>::default();
                let driver = tokio::spawn(receive(connection, Arc::clone(&pending)));
                (driver, pending)
            },
            &begin,
        );
        let (connected, pending, _) = opened.await?;
        Ok(Self {
            connected,
            pending,
            limit: connect.limit(),
        })
    }

    /// Waits for notifications, and takes the channels of all that have arrived.
    ///
    /// # Errors
    /// The connection was lost; later notifications are missed.
    pub async fn next(&mut self) -> Result<BTreeSet<String>, RepositoryError> {
        loop {
            let more = self.pending.more.notified();
            {
                let mut state = self.pending.state();
                if !state.channels.is_empty() {
                    return Ok(std::mem::take(&mut state.channels));
                }
                if let Some(error) = state.lost.take() {
                    return Err(error);
                }
            }
            if tokio::time::timeout(CHECK_AFTER, more).await.is_err() {
                self.check_alive().await?;
            }
        }
    }

    async fn check_alive(&self) -> Result<(), RepositoryError> {
        let asked = self.connected.client.simple_query("");
        match tokio::time::timeout(self.limit, asked).await {
            Ok(answer) => Ok(answer.map(drop)?),
            Err(_) => Err(RepositoryError::Unavailable {
                cause: "the connection for notifications is silent".to_owned(),
            }),
        }
    }
}

/// Receives notifications until the connection ends.
async fn receive(mut connection: Connection, pending: Arc<Pending>) {
    let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
    while let Some(message) = messages.next().await {
        match message {
            Ok(AsyncMessage::Notification(notification)) => pending.add(notification.channel()),
            Ok(_) => {}
            Err(error) => return pending.record_loss(error.into()),
        }
    }
    pending.record_loss(RepositoryError::Unavailable {
        cause: "the connection for notifications was closed".to_owned(),
    });
}

impl Pending {
    fn add(&self, channel: &str) {
        self.state().channels.insert(channel.to_owned());
        self.more.notify_one();
    }

    fn record_loss(&self, error: RepositoryError) {
        self.state().lost = Some(error);
        self.more.notify_one();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}
