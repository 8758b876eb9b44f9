//! A small HTTP/1.1 client that shows what was on the wire: it follows nothing, repairs nothing, and
//! shares no code with the server under test.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// `GET`s a target over a connection of its own.
pub(crate) async fn get(address: SocketAddr, target: &str) -> Answer {
    request(address, "GET", target, &[]).await
}

/// Sends a request without a body over a connection of its own.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Answer {
    Connection::open(address)
        .await
        .request(method, target, headers)
        .await
}

/// Sends the bytes as they are over a connection of its own, and reads one answer.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut connection = Connection::open(address).await;
    connection.send(bytes).await;
    connection.answer("GET").await
}

/// A connection that is kept alive.
#[derive(Debug)]
pub(crate) struct Connection {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address)
            .await
            .expect("the server accepts connections");
        Self {
            address,
            stream: BufReader::new(stream),
        }
    }

    /// `GET`s a target and waits for the answer.
    pub(crate) async fn get(&mut self, target: &str) -> Answer {
        self.request("GET", target, &[]).await
    }

    /// Sends a request without a body and waits for the answer.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        self.send(text.as_bytes()).await;
        self.answer(method).await
    }

    /// Sends the bytes as they are: several requests at once, part of one, or none.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream
            .write_all(bytes)
            .await
            .expect("the server reads");
    }

    /// Reads the next answer, to a request with the method: a `HEAD`'s has no body.
    pub(crate) async fn answer(&mut self, method: &str) -> Answer {
        let status = self.line().await;
        let status = status
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| unreadable("status line", &status));
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(':')
                .unwrap_or_else(|| unreadable("header", &line));
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        if method != "HEAD" && !matches!(status, 100..200 | 204 | 304) {
            answer.body = self.body(&answer).await;
        }
        answer
    }

    /// Waits until the server closes the connection, and says whether it did so without sending
    /// anything more.
    pub(crate) async fn is_closed(&mut self) -> bool {
        // A reset is a close as well.
        self.stream.fill_buf().await.map_or(true, <[u8]>::is_empty)
    }

    async fn body(&mut self, answer: &Answer) -> Vec<u8> {
        let mut body = Vec::new();
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.line().await;
                let length = usize::from_str_radix(&line, 16)
                    .unwrap_or_else(|_| unreadable("length of a chunk", &line));
                body.append(&mut self.exactly(length).await);
                self.line().await;
                if length == 0 {
                    return body;
                }
            }
        }
        if let Some(length) = answer.header("content-length") {
            let length = length
                .parse()
                .unwrap_or_else(|_| unreadable("length", length));
            return self.exactly(length).await;
        }
        self.stream
            .read_to_end(&mut body)
            .await
            .expect("the server sends to the end");
        body
    }

    async fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream
            .read_exact(&mut bytes)
            .await
            .expect("the server sends the whole body");
        bytes
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream
            .read_line(&mut line)
            .await
            .expect("the server sends text");
        match line.strip_suffix("\r\n") {
            Some(line) => line.to_owned(),
            None => unreadable("line", &line),
        }
    }
}

/// What a server answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case, in the order they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header's value, the first one where there are several.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| unreadable("JSON", &self.shown()))
    }

    /// How the answer came to be, in the words of the metrics' `cache` label, as its `Cache-Status`
    /// has it (RFC 9211).
    pub(crate) fn cache(&self) -> &'static str {
        let status = self.header("cache-status").unwrap_or_default();
        let says = |word| status.split(';').any(|part| part.trim() == word);
        if says("detail=stale") {
            "stale"
        } else if says("hit") {
            "hit"
        } else if says("collapsed") {
            "coalesced"
        } else if says("fwd=miss") {
            "miss"
        } else {
            "none"
        }
    }

    #[track_caller]
    pub(crate) fn assert_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "the status of {}", self.shown());
        self
    }

    #[track_caller]
    pub(crate) fn assert_header(&self, name: &str, value: &str) -> &Self {
        assert_eq!(
            self.header(name),
            Some(value),
            "`{name}` of {}",
            self.shown()
        );
        self
    }

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "tests pass what json! makes")]
    pub(crate) fn assert_json(&self, value: Value) -> &Self {
        assert_eq!(self.json(), value, "the body of {}", self.shown());
        self
    }

    #[track_caller]
    pub(crate) fn assert_cache(&self, cache: &str) -> &Self {
        assert_eq!(self.cache(), cache, "`cache-status` of {}", self.shown());
        self
    }

    fn shown(&self) -> String {
        let headers: String = self
            .headers
            .iter()
            .map(|(name, value)| format!("  {name}: {value}\n"))
            .collect();
        format!(
            "\n  {}\n{headers}\n  {}\n",
            self.status,
            String::from_utf8_lossy(&self.body)
        )
    }
}

#[track_caller]
fn unreadable(what: &str, found: &str) -> ! {
    panic!("the server's {what} cannot be read: {found:?}")
}
