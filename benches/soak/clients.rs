//! Clients that poll over persistent connections, and check every answer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::Connection;
use crate::larder::Server;
use crate::ledger::{Asked, Ledger};

/// Keys that many clients request, and keys that hardly two request.
const HOT: u32 = 20;
const COLD: u32 = 100_000;

/// Starts this many clients, which poll until `over`.
pub(crate) fn start(
    count: u32,
    pause: u64,
    server: &Server,
    ledger: &Arc<Ledger>,
    over: &CancellationToken,
) -> TaskTracker {
    let clients = TaskTracker::new();
    for number in 0..count {
        let client = Client {
            address: server.address,
            pause,
            random: fastrand::Rng::with_seed(u64::from(number)),
            ledger: Arc::clone(ledger),
        };
        clients.spawn(over.clone().run_until_cancelled_owned(client.run()));
    }
    clients.close();
    clients
}

struct Client {
    address: SocketAddr,
    pause: u64,
    random: fastrand::Rng,
    ledger: Arc<Ledger>,
}

impl Client {
    async fn run(mut self) {
        // Not all at the same moment.
        self.rest().await;
        loop {
            if let Err(error) = self.over_one_connection().await {
                self.ledger.connection_failed(&error);
            }
            self.rest().await;
        }
    }

    async fn over_one_connection(&mut self) -> io::Result<()> {
        let mut connection = Connection::open(self.address).await?;
        loop {
            let target = self.target();
            let asked = Asked {
                at: Instant::now(),
                by_the_clock: SystemTime::now(),
                young: self.ledger.youngest(&target),
                version: self.ledger.seen_version(&target),
            };
            let answer = connection.get(&target).await?;
            self.ledger.record(&target, &asked, &answer);
            self.rest().await;
        }
    }

    fn target(&mut self) -> String {
        match self.random.u32(0..100) {
            0..20 => "/scheduled".to_owned(),
            20..40 => "/brief".to_owned(),
            40..55 => "/probed".to_owned(),
            55..70 => "/notified".to_owned(),
            70..72 => "/large".to_owned(),
            72..95 => format!("/hot/{}", self.random.u32(0..HOT)),
            _ => format!("/cold/{}", self.random.u32(0..COLD)),
        }
    }

    async fn rest(&mut self) {
        let pause = self.random.u64(0..=2 * self.pause);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}
