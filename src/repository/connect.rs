//! Connecting, as libpq does where there are several hosts: one address after the other, each with
//! the whole `connect_timeout`. tokio-postgres tries them as well, but its limit ends with TCP: a host
//! that takes the connection and says nothing more would keep it from the next one.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::config::{ChannelBinding, Host, LoadBalanceHosts};

use super::connection::{Connected, Connection, spawn_driver};
use super::error::{self, RepositoryError};
use super::pooler::Pooler;
use super::tls::{self, Connector};
use super::url::{Place, Target};
use crate::mutex::lock;

/// A connection, what its driver shares, and the answer to the first query.
pub(super) type Opened<Shared> = (Connected, Shared, Vec<SimpleQueryMessage>);

/// How long a host that did not answer within the limit is tried after the others. Otherwise every new
/// session would wait for it first.
const SILENT_FOR: Duration = Duration::from_secs(30);

/// Connects to the first of the URL's hosts that accepts.
pub(super) struct Connect {
    target: Target,
    tls: Connector,
    /// Whether a remote server is not verified, though the URL does not ask for that.
    is_unverified: bool,
    pooler: Pooler,
    /// When each of the target's places last did not answer within the limit.
    silent_at: Box<[Mutex<Option<Instant>>]>,
}

impl Connect {
    pub(super) fn new(target: Target) -> Result<Self, RepositoryError> {
        let key = target.key;
        let (tls, is_verified) = tls::connector(&target.tls)
            .map_err(|reason| RepositoryError::Settings { key, reason })?;
        // With channel binding, SCRAM proves that the server knows the password and that nobody is in between.
        let is_bound = target.config.get_channel_binding() == ChannelBinding::Require;
        let silent_at = target.places.iter().map(|_| Mutex::default()).collect();
        Ok(Self {
            is_unverified: target.tls_is_default && !is_verified && !is_bound,
            target,
            tls,
            pooler: Pooler::default(),
            silent_at,
        })
    }

    /// Connects, spawns the connection's driver and runs `sql`, all within the limit.
    ///
    /// # Errors
    /// [`RepositoryError::Unavailable`] if no address can be reached. As in libpq, a server that answers and
    /// refuses is the last that is tried: its error is about the URL.
    pub(super) async fn open<Shared>(
        &self,
        drive: impl Fn(Connection) -> (JoinHandle<()>, Shared),
        sql: &str,
    ) -> Result<Opened<Shared>, RepositoryError> {
        let mut places: Vec<(usize, &Place)> = self.target.places.iter().enumerate().collect();
        if self.is_at_random() {
            fastrand::shuffle(&mut places);
        }
        places.sort_by_key(|(index, _)| self.was_silent(*index));
        let mut causes = Causes::default();
        for (index, place) in places {
            let addresses = match self.addresses(place).await {
                Ok(addresses) => addresses,
                Err(cause) => {
                    causes.add(place, &cause);
                    continue;
                }
            };
            for address in addresses {
                let asked = Instant::now();
                match self.open_one(place, address, &drive, sql).await {
                    Err(RepositoryError::Unavailable { cause }) => causes.add(place, &cause),
                    opened => return opened,
                }
                if asked.elapsed() >= self.limit() {
                    *lock(&self.silent_at[index]) = Some(Instant::now());
                }
            }
        }
        let cause = causes.0.join("; ");
        Err(RepositoryError::Unavailable { cause })
    }

    fn was_silent(&self, index: usize) -> bool {
        let silent_at = *lock(&self.silent_at[index]);
        silent_at.is_some_and(|at| at.elapsed() < SILENT_FOR)
    }

    async fn open_one<Shared>(
        &self,
        place: &Place,
        address: Option<IpAddr>,
        drive: impl Fn(Connection) -> (JoinHandle<()>, Shared),
        sql: &str,
    ) -> Result<Opened<Shared>, RepositoryError> {
        let config = self.target.config_for(place, address);
        let limit = self.limit();
        // A handshake's future is large, and would make the future of every load as large.
        let opening = Box::pin(async {
            let connected = config.connect(self.tls()).await;
            let (client, connection) = connected.map_err(|error| self.refused(&error, place))?;
            let (driver, shared) = drive(connection);
            let connected = Connected::new(client, driver);
            let another = async {
                let (client, connection) = config.connect(self.tls()).await?;
                Ok(Connected::new(client, spawn_driver(connection)))
            };
            let pooler = &self.pooler;
            let sharing = pooler.shares_sessions(&connected.client, limit / 2, another);
            let of_connecting = |error| RepositoryError::of_connecting(&error);
            if sharing.await.map_err(of_connecting)? {
                return Err(shared_sessions(self.target.key, place));
            }
            let answer = connected.client.simple_query(sql).await;
            let answer = answer.map_err(of_connecting)?;
            Ok((connected, shared, answer))
        });
        let opened = tokio::time::timeout(limit, opening).await;
        opened.unwrap_or_else(|_| {
            let cause = format!("connecting took longer than {limit:?}");
            Err(RepositoryError::Unavailable { cause })
        })
    }

    /// The addresses of a host, in the order in which they are tried. A socket has none.
    async fn addresses(&self, place: &Place) -> Result<Vec<Option<IpAddr>>, String> {
        let name = match (&place.host, place.address) {
            (Host::Tcp(name), None) => name.as_str(),
            (_, address) => return Ok(vec![address]),
        };
        let limit = self.limit();
        let found = tokio::time::timeout(limit, tokio::net::lookup_host((name, place.port)))
            .await
            .map_err(|_| format!("looking up its address took longer than {limit:?}"))?
            .map_err(|error| format!("its address cannot be looked up: {error}"))?;
        let mut addresses: Vec<_> = found.map(|found| Some(found.ip())).collect();
        if self.is_at_random() {
            fastrand::shuffle(&mut addresses);
        }
        Ok(addresses)
    }

    /// Classifies an error while connecting. If Postgres refuses the role, the password or the database, the
    /// URL is wrong; everything else may be temporary.
    fn refused(&self, error: &tokio_postgres::Error, place: &Place) -> RepositoryError {
        if let Some(cause) = tls::refusal(error) {
            return RepositoryError::Unavailable { cause };
        }
        let key = self.target.key;
        let text = error::chain(error);
        // The text of tokio-postgres's message: the kind of its errors is private.
        if text.starts_with("invalid configuration") {
            return RepositoryError::Settings { key, reason: text };
        }
        if self.target.tls_is_default && text.contains("server does not support TLS") {
            let reason = format!(
                "the server at {place} does not support TLS, which Larder requires of servers on other \
                 machines by default; add sslmode=disable to connect without encryption"
            );
            return RepositoryError::Settings { key, reason };
        }
        RepositoryError::of_connecting(error).or_refused(|refusal| RepositoryError::Settings {
            key,
            reason: refusal.message,
        })
    }

    /// Warns that the server is not verified, unless the URL asks for that: any server could get the password.
    pub(super) fn warning(&self) -> Option<String> {
        let mut remote = self.target.places.iter().filter(|place| !place.is_local());
        let place = remote.next().filter(|_| self.is_unverified)?;
        Some(format!(
            "the identity of the server at {place} is not verified, so any server there gets the password \
             and is trusted: the {} of [repository] has no sslmode. Add \
             sslmode=verify-full&sslrootcert=system, or the file of your own authority instead of system; \
             sslmode=require keeps it unverified without this warning.",
            self.target.key
        ))
    }

    fn is_at_random(&self) -> bool {
        self.target.config.get_load_balance_hosts() == LoadBalanceHosts::Random
    }

    /// How long connecting to one address may take.
    pub(super) fn limit(&self) -> Duration {
        self.target.connect_timeout
    }

    pub(super) fn tls(&self) -> Connector {
        self.tls.clone()
    }
}

fn shared_sessions(key: &'static str, place: &Place) -> RepositoryError {
    RepositoryError::Settings {
        key,
        reason: format!(
            "the pooler at {place} assigns sessions per transaction or statement, but Larder needs whole \
             sessions for prepared statements, LISTEN and cancellation; connect to Postgres itself, or to a \
             pool with pool_mode = session: Larder opens at most max_connections sessions, and one to \
             listen"
        ),
    }
}

/// Why no host could be reached. The addresses of a host mostly fail for the same cause, which is named once.
#[derive(Default)]
struct Causes(Vec<String>);

impl Causes {
    fn add(&mut self, place: &Place, cause: &str) {
        let cause = format!("{place}: {cause}");
        if !self.0.contains(&cause) {
            self.0.push(cause);
        }
    }
}
