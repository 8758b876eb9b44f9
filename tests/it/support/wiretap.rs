//! A way to a Postgres that understands messages: it records what clients send, and holds back what the server
//! answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How the end of a load's transaction begins, unlike that of a trial whether a pooler is in between.
const END: &[u8] = b"ROLLBACK; SELECT";

/// A proxy in front of a Postgres without TLS. Dropped, it takes no more connections.
#[derive(Debug)]
pub(crate) struct Wiretap {
    address: SocketAddr,
    tapped: Arc<Tapped>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct Tapped {
    server: String,
    /// The types of the messages of all clients.
    sent: Mutex<String>,
    hold: watch::Sender<Hold>,
}

/// What is held back of the server's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    Nothing,
    /// Everything, until the client has sent the end of its transaction.
    UntilEndIsSent,
    /// The answer to the end of a transaction, and what follows.
    AnswerToEnd,
}

impl Wiretap {
    /// A way to the Postgres at `host:port`.
    pub(crate) async fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tapped = Arc::new(Tapped {
            server: server.to_owned(),
            sent: Mutex::default(),
            hold: watch::Sender::new(Hold::Nothing),
        });
        let shared = Arc::clone(&tapped);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let tapped = Arc::clone(&shared);
                tokio::spawn(async move { tapped.connection(client).await });
            }
        });
        Self {
            address,
            tapped,
            accepting: accepting.abort_handle(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn hold(&self, hold: Hold) {
        self.tapped.hold.send_replace(hold);
    }

    /// The types of the messages that clients have sent since the last call: see "Message Formats" in
    /// Postgres's documentation.
    pub(crate) fn sent(&self) -> String {
        std::mem::take(&mut *self.tapped.sent.lock().unwrap())
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Tapped {
    async fn connection(self: Arc<Self>, client: TcpStream) {
        let server = TcpStream::connect(&self.server).await.unwrap();
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let ends = watch::Sender::new(0);
        let ends_sent = ends.subscribe();
        // Each ends with its connection.
        tokio::select! {
            _ = self.upward(BufReader::new(from_client), to_server, ends) => {}
            _ = self.downward(BufReader::new(from_server), to_client, ends_sent) => {}
        }
    }

    async fn upward(
        &self,
        mut from: BufReader<OwnedReadHalf>,
        mut to: OwnedWriteHalf,
        ends: watch::Sender<usize>,
    ) -> std::io::Result<()> {
        // The first message has no type.
        let startup = body(&mut from).await?;
        to.write_all(&startup).await?;
        loop {
            let kind = from.read_u8().await?;
            let body = body(&mut from).await?;
            self.sent.lock().unwrap().push(char::from(kind));
            if kind == b'Q' && body[4..].starts_with(END) {
                ends.send_modify(|count| *count += 1);
            }
            to.write_all(&[&[kind][..], &body].concat()).await?;
        }
    }

    async fn downward(
        &self,
        mut from: BufReader<OwnedReadHalf>,
        mut to: OwnedWriteHalf,
        mut ends_sent: watch::Receiver<usize>,
    ) -> std::io::Result<()> {
        let mut hold = self.hold.subscribe();
        let (mut ends_answered, mut is_end) = (0, false);
        loop {
            let kind = from.read_u8().await?;
            let body = body(&mut from).await?;
            let is_asked = *ends_sent.borrow() > ends_answered;
            is_end |= is_asked && kind == b'C' && body[4..].starts_with(b"ROLLBACK");
            loop {
                let is_held = match *hold.borrow_and_update() {
                    Hold::Nothing => false,
                    Hold::UntilEndIsSent => *ends_sent.borrow_and_update() <= ends_answered,
                    Hold::AnswerToEnd => is_end,
                };
                if !is_held {
                    break;
                }
                tokio::select! {
                    _ = hold.changed() => {}
                    sent = ends_sent.changed() => if sent.is_err() { return Ok(()) },
                }
            }
            // ReadyForQuery
            let is_answered = kind == b'Z' && std::mem::take(&mut is_end);
            ends_answered += usize::from(is_answered);
            to.write_all(&[&[kind][..], &body].concat()).await?;
        }
    }
}

/// A message's length and what it counts.
async fn body(from: &mut BufReader<OwnedReadHalf>) -> std::io::Result<Vec<u8>> {
    let mut body = from.read_u32().await?.to_be_bytes().to_vec();
    let length = u32::from_be_bytes([body[0], body[1], body[2], body[3]]) as usize;
    body.resize(length, 0);
    from.read_exact(&mut body[4..]).await?;
    Ok(body)
}
