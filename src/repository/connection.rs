//! A connection to Postgres and the task that drives it.

use tokio::task::JoinHandle;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Socket};
use tokio_util::task::AbortOnDropHandle;

use super::tls::Connector;

/// The part of a connection that does its I/O; it has to be polled for the client to work.
pub(super) type Connection =
    tokio_postgres::Connection<Socket, <Connector as MakeTlsConnect<Socket>>::Stream>;

/// A client with the task that drives its connection. Dropping it closes the connection at once, whatever the
/// server does.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) driver: AbortOnDropHandle<()>,
}

impl Connected {
    pub(super) fn new(client: Client, driver: JoinHandle<()>) -> Self {
        let driver = AbortOnDropHandle::new(driver);
        Self { client, driver }
    }
}

/// Drives a connection until it ends. An error reaches the query under way, or else the next one.
pub(super) fn spawn_driver(connection: Connection) -> JoinHandle<()> {
    tokio::spawn(async move { drop(connection.await) })
}
