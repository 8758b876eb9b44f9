//! `LISTEN` on a connection of its own: a pooled one would have to be held open for it, and what comes
//! in between two queries would wait.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt, stream};
use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Client};

use super::RepositoryError;
use super::connect::Connection;
use super::pool::Pool;

/// A connection that listens. Dropped, it is closed.
pub struct Listener {
    /// Held, because the connection ends with it.
    _client: Client,
    heard: Arc<Heard>,
}

/// What was heard and not yet taken. A channel is in it once, however often it was notified.
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
        let listen: String = channels
            .iter()
            .map(|channel| format!("LISTEN \"{}\";", channel.replace('"', "\"\"")))
            .collect();
        let connect = pool.connect();
        let listen = listen.as_str();
        let opened = connect.open(|client, connection| async move {
            let heard = Arc::new(Heard::default());
            tokio::spawn(hear(connection, Arc::clone(&heard)));
            client.batch_execute(listen).await?;
            Ok(Self {
                _client: client,
                heard,
            })
        });
        opened.await
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
            more.await;
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
        self.state
            .lock()
            .expect("nothing panics while it holds the lock")
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("heard", &self.heard)
            .finish_non_exhaustive()
    }
}
