//! The way to a Postgres, and everything that can go wrong on it. It passes bytes on and knows nothing
//! of what they say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Below every system's range for outgoing connections, so that none of those takes the port while
/// nothing listens on it.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How long a byte takes on a slow way.
const PACE: Duration = Duration::from_millis(5);

/// A proxy in front of a Postgres, open until a fault is injected. Dropped, it closes.
#[derive(Debug)]
pub(crate) struct Proxy {
    url: String,
    address: SocketAddr,
    way: Arc<Way>,
    accepting: Option<JoinHandle<()>>,
    connections: TaskTracker,
}

/// What every connection looks at.
#[derive(Debug)]
struct Way {
    manner: watch::Sender<Manner>,
    server: watch::Sender<SocketAddr>,
    /// Sent to end the connections there are.
    ending: watch::Sender<Ending>,
    /// How often a connection has come to its limit.
    limits_reached: watch::Sender<usize>,
    open: AtomicUsize,
    most: AtomicUsize,
}

/// How bytes are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    AtOnce,
    /// Not at all.
    Silent,
    /// Those to the client one by one.
    Slow,
    /// This many bytes to the client of each connection, then the fault.
    UpTo(usize, Then),
    /// Those to the client with every length of a message as large as can be, so that none ever ends.
    Garbled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Closed,
    Silent,
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    /// As by a server that leaves.
    Close,
    /// As by a firewall that has forgotten the connection.
    Reset,
}

impl Proxy {
    /// A way to the Postgres at this URL.
    pub(crate) async fn before(url: &str) -> Self {
        let (listener, address) = listen_anywhere().await;
        let (before, server, after) = split(url);
        let mut proxy = Self {
            url: format!("{before}{address}{after}"),
            address,
            way: Arc::new(Way {
                manner: watch::Sender::new(Manner::AtOnce),
                server: watch::Sender::new(resolve(server).await),
                ending: watch::Sender::new(Ending::Close),
                limits_reached: watch::Sender::new(0),
                open: AtomicUsize::new(0),
                most: AtomicUsize::new(0),
            }),
            accepting: None,
            connections: TaskTracker::new(),
        };
        proxy.accept(listener);
        proxy
    }

    /// The Postgres's URL by this way.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The most connections that were open at a time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.way.most.load(Ordering::SeqCst)
    }

    /// Closes every connection, and refuses others.
    pub(crate) async fn cut(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // The listener is closed when its task is gone.
            drop(accepting.await);
        }
        self.end(Ending::Close).await;
    }

    /// Takes connections and lets nothing through, neither there nor on those that are open.
    pub(crate) fn stall(&self) {
        self.way.manner.send_replace(Manner::Silent);
    }

    /// Lets what the server says through byte by byte.
    pub(crate) fn slow(&self) {
        self.way.manner.send_replace(Manner::Slow);
    }

    /// Breaks every connection; others can be made.
    pub(crate) async fn reset(&self) {
        self.end(Ending::Reset).await;
    }

    /// Forwards this many more bytes from the server on each connection, then closes it.
    pub(crate) fn truncate_after(&self, bytes: usize) {
        let manner = Manner::UpTo(bytes, Then::Closed);
        self.way.manner.send_replace(manner);
    }

    /// Forwards this many more bytes from the server on each connection, then stalls it.
    pub(crate) fn stall_after(&self, bytes: usize) {
        let manner = Manner::UpTo(bytes, Then::Silent);
        self.way.manner.send_replace(manner);
    }

    /// Makes nonsense of what the server says from now on.
    pub(crate) fn garble(&self) {
        self.way.manner.send_replace(Manner::Garbled);
    }

    /// How many connections to it their makers hold open, by the system's own table: one that was closed
    /// while the proxy is silent is not noticed by the proxy itself.
    pub(crate) fn held_open(&self) -> usize {
        const ESTABLISHED: &str = "01";
        let port = format!(":{:04X}", self.address.port());
        let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
        let connections = table.lines().map(|line| line.split_whitespace());
        connections
            .filter_map(|mut fields| Some((fields.nth(2)?, fields.next()?)))
            .filter(|(to, state)| to.ends_with(&port) && *state == ESTABLISHED)
            .count()
    }

    /// How often connections have come to the limit of [`Proxy::truncate_after`] or
    /// [`Proxy::stall_after`].
    pub(crate) fn limits_reached(&self) -> watch::Receiver<usize> {
        self.way.limits_reached.subscribe()
    }

    /// Lets everything through again.
    pub(crate) async fn heal(&mut self) {
        self.way.manner.send_replace(Manner::AtOnce);
        if self.accepting.is_none() {
            let listener = TcpListener::bind(self.address).await;
            self.accept(listener.expect("its port is still free"));
        }
    }

    /// Leads to another Postgres from now on, as after a failover: connections to the one before are
    /// closed. The role and its password are those of before.
    pub(crate) async fn move_to(&self, url: &str) {
        let (_, server, _) = split(url);
        self.way.server.send_replace(resolve(server).await);
        self.end(Ending::Close).await;
    }

    async fn end(&self, ending: Ending) {
        self.way.ending.send_replace(ending);
        self.connections.close();
        if self.accepting.is_none() {
            self.connections.wait().await;
        }
        self.connections.reopen();
    }

    fn accept(&mut self, listener: TcpListener) {
        let (way, connections) = (Arc::clone(&self.way), self.connections.clone());
        self.accepting = Some(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(connection(client, Arc::clone(&way)));
            }
        }));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
        self.way.ending.send_replace(Ending::Close);
    }
}

/// A connection from its beginning to its end.
async fn connection(mut client: TcpStream, way: Arc<Way>) {
    let mut ending = way.ending.subscribe();
    let mut manner = way.manner.subscribe();
    let open = way.open.fetch_add(1, Ordering::SeqCst) + 1;
    way.most.fetch_max(open, Ordering::SeqCst);
    let pass = async {
        not_silent(&mut manner).await;
        let server = *way.server.borrow();
        let mut server = TcpStream::connect(server).await?;
        // Small messages are not kept back.
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        tokio::select! {
            done = upward(&mut from_client, &mut to_server, manner.clone()) => done,
            done = downward(&mut from_server, &mut to_client, manner.clone(), &way) => done,
        }
    };
    let is_reset = tokio::select! {
        passed = pass => passed.is_err(),
        _ = ending.changed() => matches!(*ending.borrow(), Ending::Reset),
    };
    if is_reset {
        // What the socket will not do, it has done already.
        let _ = client.set_zero_linger();
    }
    way.open.fetch_sub(1, Ordering::SeqCst);
}

async fn upward(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut manner: watch::Receiver<Manner>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        not_silent(&mut manner).await;
        to.write_all(&buffer[..read]).await?;
    }
}

async fn downward(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut manner: watch::Receiver<Manner>,
    way: &Way,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    // What has been passed on under the manner of the moment.
    let (mut passed, mut under) = (0, Manner::AtOnce);
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let now = not_silent(&mut manner).await;
            if now != under {
                (passed, under) = (0, now);
            }
            let part = match now {
                Manner::AtOnce | Manner::Silent | Manner::Garbled => rest.len(),
                Manner::Slow => 1,
                Manner::UpTo(limit, _) => rest.len().min(limit.saturating_sub(passed)),
            };
            if now == Manner::Garbled {
                to.write_all(&vec![0x7f; part]).await?;
            } else {
                to.write_all(&rest[..part]).await?;
            }
            rest = &rest[part..];
            passed += part;
            match now {
                Manner::UpTo(limit, then) if passed >= limit => {
                    way.limits_reached.send_modify(|count| *count += 1);
                    if then == Then::Closed {
                        return Ok(());
                    }
                    // The sender lives as long as any connection.
                    let _ = manner.wait_for(|other| *other != now).await;
                }
                Manner::Slow => {
                    // No byte keeps the others waiting once the way is healed.
                    let _ = tokio::time::timeout(PACE, manner.changed()).await;
                }
                Manner::AtOnce | Manner::Silent | Manner::Garbled | Manner::UpTo(..) => {}
            }
        }
    }
}

/// Waits for a moment without silence.
async fn not_silent(manner: &mut watch::Receiver<Manner>) -> Manner {
    let waited = manner.wait_for(|manner| *manner != Manner::Silent).await;
    *waited.expect("the sender lives as long as any connection")
}

async fn listen_anywhere() -> (TcpListener, SocketAddr) {
    loop {
        let port = fastrand::u16(PORTS);
        // Another one, where this one is taken.
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await {
            return (listener, SocketAddr::from(([127, 0, 0, 1], port)));
        }
    }
}

async fn resolve(server: &str) -> SocketAddr {
    let mut addresses = tokio::net::lookup_host(server)
        .await
        .expect("the url names a host");
    addresses.next().expect("the host has an address")
}

/// What comes before a URL's host and port, these, and what comes after.
fn split(url: &str) -> (&str, &str, &str) {
    let from = url.find('@').map_or(0, |at| at + 1);
    let to = url[from..].find('/').map_or(url.len(), |at| from + at);
    (&url[..from], &url[from..to], &url[to..])
}
