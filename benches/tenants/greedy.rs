//! A tenant that sends ever new arguments, each of which needs a load of its own.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::client::Connection;

/// The loads per second that its key may cause, which is also how many at once.
pub(crate) const SHARE: u32 = 20;

/// It asks ten times as often as it may cause loads.
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) const CONFIG: &str = "[[endpoint]]\npath = \"/any/{n}\"\nsql = \"SELECT :n::int\"\n";

pub(crate) const NAME: &str = "greedy";

/// What it got.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) loaded: u64,
    refused: u64,
    /// The loads that its share allows for as long as it asked.
    pub(crate) share: u64,
}

/// Asks for a while.
pub(crate) async fn ask(address: SocketAddr, seconds: f64) -> anyhow::Result<Taken> {
    let mut connection = Connection::open(address).await?;
    let mut taken = Taken::default();
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = Instant::now();
    for n in 0_u32.. {
        ticks.tick().await;
        if begun.elapsed().as_secs_f64() >= seconds {
            break;
        }
        let field = format!("Authorization: Bearer {NAME}-key\r\n");
        let answer = connection.get_with(&format!("/any/{n}"), &field).await?;
        match answer.status {
            200 => taken.loaded += 1,
            429 => taken.refused += 1,
            _ => bail!("a new argument is answered with {}", answer.code()),
        }
    }
    let periods = begun.elapsed().as_secs_f64().ceil() as u64;
    taken.share = u64::from(SHARE) * (1 + periods);
    Ok(taken)
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            loaded,
            refused,
            share,
        } = self;
        write!(
            f,
            "{loaded} loads for new arguments, of at most {share}; {refused} requests refused"
        )
    }
}
