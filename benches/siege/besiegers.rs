//! Hostile clients, each of which holds what it can until it is cut off, then comes back after a pause, so that the
//! machine has time left for others.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::http::Request;

use crate::client::Connection;

/// The number of clients of each kind.
const SILENT: u32 = 60;
const SLOW: u32 = 20;
const OVER_H2: u32 = 2;
const SCRAPERS: u32 = 100;
const HEADS: u32 = 300;
const PATHS: u32 = 2;
const INVENTORS: u32 = 2;

/// Requests on an HTTP/2 connection.
const STREAMS: u32 = 100;

/// How long a client holds what it has, and how long it stays away.
const HOLD: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(5);

/// The time between two bytes, and between two expensive requests.
const TRICKLE: Duration = Duration::from_secs(1);
const NEXT: Duration = Duration::from_millis(200);

#[derive(Clone, Copy)]
enum Kind {
    Silent,
    Slow,
    OverH2,
    Scraper,
    Head,
    Path,
    Inventor,
}

/// Starts all of them. They run until `over`.
pub(crate) fn start(address: SocketAddr, over: &CancellationToken) -> TaskTracker {
    let tasks = TaskTracker::new();
    let kinds = [
        (Kind::Silent, SILENT),
        (Kind::Slow, SLOW),
        (Kind::OverH2, OVER_H2),
        (Kind::Scraper, SCRAPERS),
        (Kind::Head, HEADS),
        (Kind::Path, PATHS),
        (Kind::Inventor, INVENTORS),
    ];
    for (kind, count) in kinds {
        for number in 0..count {
            let besieging = async move {
                let mut random = fastrand::Rng::with_seed(u64::from(number));
                loop {
                    // The server is expected to close the connection.
                    let _ = timeout(HOLD, besiege(kind, address, &mut random)).await;
                    sleep(PAUSE.mul_f64(0.5 + random.f64())).await;
                }
            };
            tasks.spawn(over.clone().run_until_cancelled_owned(besieging));
        }
    }
    tasks.close();
    tasks
}

async fn besiege(kind: Kind, address: SocketAddr, random: &mut fastrand::Rng) -> io::Result<()> {
    let large = random.u32(0..1_000_000);
    match kind {
        Kind::Silent => hold(ask(address, &format!("/large/{large}")).await?).await,
        Kind::Scraper => hold(ask(address, "/metrics").await?).await,
        Kind::Slow => {
            let mut stream = ask(address, &format!("/large/{large}")).await?;
            loop {
                stream.read_u8().await?;
                sleep(TRICKLE).await;
            }
        }
        Kind::Head => {
            let mut stream = TcpStream::connect(address).await?;
            stream
                .write_all(b"GET /count HTTP/1.1\r\nHost: localhost\r\nx-slow: ")
                .await?;
            stream.write_all(&[b'x'; 60 * 1024]).await?;
            loop {
                stream.write_u8(b'x').await?;
                sleep(TRICKLE).await;
            }
        }
        Kind::OverH2 => over_h2(address, large).await,
        Kind::Path => poll(address, || format!("/{}", "%41".repeat(2_600))).await,
        Kind::Inventor => poll(address, || format!("/hot/{}", random.i32(..))).await,
    }
}

async fn ask(address: SocketAddr, target: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// Reads nothing, if the answer is a 200.
async fn hold(stream: TcpStream) -> io::Result<()> {
    let mut begin = [0; 12];
    while stream.peek(&mut begin).await? < begin.len() {
        sleep(TRICKLE).await;
    }
    if begin != *b"HTTP/1.1 200" {
        return Ok(());
    }
    sleep(HOLD).await;
    drop(stream);
    Ok(())
}

/// Sends one request after the other, and reads each answer.
async fn poll(address: SocketAddr, mut target: impl FnMut() -> String) -> io::Result<()> {
    let mut connection = Connection::open(address).await?;
    loop {
        connection.get(&target()).await?;
        sleep(NEXT).await;
    }
}

/// Opens the maximum number of streams, and reads hardly anything of each.
async fn over_h2(address: SocketAddr, first: u32) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let (mut client, connection) = h2::client::Builder::new()
        .initial_window_size(1_000)
        .initial_connection_window_size(1 << 30)
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(io::Error::other)?;
    let asking = async move {
        let mut answers = Vec::new();
        for n in 0..STREAMS {
            client = client.ready().await.map_err(io::Error::other)?;
            let request = Request::get(format!("http://localhost/large/{}", first + n)).body(());
            let request = request.map_err(io::Error::other)?;
            let (answer, _) = client
                .send_request(request, true)
                .map_err(io::Error::other)?;
            answers.push(answer);
        }
        sleep(HOLD).await;
        Ok(())
    };
    tokio::select! {
        done = asking => done,
        ended = connection => ended.map_err(io::Error::other),
    }
}
