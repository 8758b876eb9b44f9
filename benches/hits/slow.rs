//! Clients that take their time, as on bad networks or with bad intent: half of them send a request that
//! never ends, the others ask for much and hardly read.

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

/// What a slow reader asks for at once: more than the kernels' buffers hold for it.
const ANSWERS: usize = 400;

/// Clients that stay until they are let go.
pub(crate) struct SlowClients {
    tasks: JoinSet<()>,
}

impl SlowClients {
    /// As many of either kind, once all of them are connected and at it.
    pub(crate) async fn hold(address: SocketAddr, each: usize) -> anyhow::Result<Self> {
        // Theirs, and as many for the server, which asks for its own.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(
            Resource::RLIMIT_NOFILE,
            hard.min(2 * each as u64 + 256),
            hard,
        )
        .context("there are too few file descriptors")?;
        let mut tasks = JoinSet::new();
        for at in 0..2 * each {
            let is_reader = at % 2 == 1;
            let mut stream = begin(address, is_reader)
                .await
                .with_context(|| format!("slow client {at} can not connect"))?;
            tasks.spawn(async move {
                // The server hangs up on such clients after a while, and they come back.
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

    /// Returns when all of them have hung up.
    pub(crate) async fn let_go(mut self) {
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

/// Until the server has had enough.
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
