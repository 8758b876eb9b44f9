//! `LISTEN` on a connection of its own: a pooled one would have to be held open for it, and what comes
//! in between two queries would wait.

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

/// After this long without a notification the connection has to give a sign of life: nothing else
/// tells a quiet one from one whose other end is gone.
const SILENCE: Duration = Duration::from_secs(10);

/// Since version 14 Postgres can end sessions that ask nothing for a while: that is what this one does.
const KEEP_IDLE: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
     WHERE name = 'idle_session_timeout';";

/// A connection that listens. Dropped, it is closed.
pub struct Listener {
    connected: Connected,
    heard: Arc<Heard>,
    /// How long a sign of life may take.
    limit: Duration,
}

/// Notifications that were received and not yet taken. Each channel is in it once, however often it was notified.
#[derive(Debug, Default)]
struct Heard {
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
        let begin = KEEP_IDLE.to_owned() + &listen.collect::<String>();
        let connect = pool.connect();
        let opened = connect.open(
            |connection| {
                let heard = Arc::<Heard>::default();
                let driver = tokio::spawn(hear(connection, Arc::clone(&heard)));
                (driver, heard)
            },
            &begin,
        );
        let (connected, heard, _) = opened.await?;
        Ok(Self {
            connected,
            heard,
            limit: connect.limit(),
        })
    }

    /// Waits for notifications, and takes the channels of all that have come.
    ///
    /// # Errors
    /// That the connection was lost: what is notified from then on is missed.
    pub async fn next(&mut self) -> Result<BTreeSet<String>, RepositoryError> {
        loop {
            let more = self.heard.more.notified();
            {
                let mut state = self.heard.state();
                if !state.channels.is_empty() {
                    return Ok(std::mem::take(&mut state.channels));
                }
                if let Some(error) = state.lost.take() {
                    return Err(error);
                }
            }
            if tokio::time::timeout(SILENCE, more).await.is_err() {
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

/// Takes what comes in until the connection ends.
async fn hear(mut connection: Connection, heard: Arc<Heard>) {
    let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
    while let Some(message) = messages.next().await {
        match message {
            Ok(AsyncMessage::Notification(notification)) => heard.hear(notification.channel()),
            Ok(_) => {}
            Err(error) => return heard.lose(error.into()),
        }
    }
    heard.lose(RepositoryError::Unavailable {
        cause: "the connection for notifications was closed".to_owned(),
    });
}

impl Heard {
    fn hear(&self, channel: &str) {
        self.state().channels.insert(channel.to_owned());
        self.more.notify_one();
    }

    fn lose(&self, error: RepositoryError) {
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
            .field("heard", &self.heard)
            .finish_non_exhaustive()
    }
}
