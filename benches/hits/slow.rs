//! Slow clients, as on bad networks or with bad intent: half of them send a request that never ends, the others
//! request a lot and hardly read.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Between two bytes.
const PAUSE: Duration = Duration::from_secs(1);

/// Requests of a slow reader at once: more than the kernel buffers hold.
const ANSWERS: usize = 400;

/// Slow clients that stay until they are disconnected.
pub(crate) struct SlowClients {
    tasks: JoinSet<()>,
}

impl SlowClients {
    /// Connects this many of either kind.
    pub(crate) async fn connect(address: SocketAddr, each: usize) -> anyhow::Result<Self> {
        // For the clients; the server raises its own limit.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(
            Resource::RLIMIT_NOFILE,
            hard.min(2 * each as u64 + 256),
            hard,
        )
        .context("cannot raise the open-file limit")?;
        let mut tasks = JoinSet::new();
        for at in 0..2 * each {
            let is_reader = at % 2 == 1;
            let mut stream = begin(address, is_reader)
                .await
                .with_context(|| format!("slow client {at} cannot connect"))?;
            tasks.spawn(async move {
                // The server cuts such clients off after a while, and they come back.
                loop {
                    dawdle(&mut stream, is_reader).await;
                    stream = match begin(address, is_reader).await {
                        Ok(stream) => stream,
                        Err(_) => return,
                    };
                }
            });
        }
        Ok(Self { tasks })
    }

    /// Disconnects all of them.
    pub(crate) async fn disconnect(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn begin(address: SocketAddr, is_reader: bool) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if is_reader {
        socket.set_recv_buffer_size(4 * 1024)?;
    }
    let mut stream = socket.connect(address).await?;
    let sent = if is_reader {
        "GET /sales/Japan HTTP/1.1\r\nHost: l\r\n\r\n".repeat(ANSWERS)
    } else {
        "GET /count HTTP/1.1\r\nHost: l\r\nx-slow: ".to_owned()
    };
    stream.write_all(sent.as_bytes()).await?;
    Ok(stream)
}

/// Reads or writes a byte now and then, until the server closes the connection.
async fn dawdle(stream: &mut TcpStream, is_reader: bool) {
    loop {
        sleep(PAUSE).await;
        let goes_on = if is_reader {
            stream.read_u8().await.is_ok()
        } else {
            stream.write_u8(b'x').await.is_ok()
        };
        if !goes_on {
            return;
        }
    }
}
