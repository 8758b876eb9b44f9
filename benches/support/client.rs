//! An HTTP/1.1 client: one connection, one request after the other.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A server that is silent for this long no longer answers.
const SILENCE: Duration = Duration::from_secs(30);

/// A connection on which one request follows another.
pub(crate) struct Connection {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) age: Option<u64>,
    pub(crate) cache_status: String,
    pub(crate) has_retry_after: bool,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Its rows, or its one row.
    pub(crate) fn rows(&self) -> Option<Vec<Value>> {
        let value: Value = serde_json::from_slice(&self.body).ok()?;
        match value.as_array() {
            Some(rows) => Some(rows.clone()),
            None => Some(vec![value]),
        }
    }

    /// The code of a problem.
    pub(crate) fn code(&self) -> String {
        let problem: Option<Value> = serde_json::from_slice(&self.body).ok();
        let code = problem.and_then(|problem| Some(problem["code"].as_str()?.to_owned()));
        code.unwrap_or_default()
    }

    /// The version of the data.
    pub(crate) fn version(&self) -> Option<u64> {
        self.rows()?.first()?["version"].as_u64()
    }
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = BufReader::new(stream);
        Ok(Self { address, stream })
    }

    pub(crate) async fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.get_with(target, "").await
    }

    /// `GET`s a target with more header fields, each with the end of its line.
    pub(crate) async fn get_with(&mut self, target: &str, fields: &str) -> io::Result<Answer> {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n",
            self.address
        );
        self.stream.write_all(request.as_bytes()).await?;
        tokio::time::timeout(SILENCE, self.answer())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn answer(&mut self) -> io::Result<Answer> {
        let status = self.line().await?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut answer = Answer {
            status: status.ok_or_else(|| io::Error::other("an answer without a status"))?,
            age: None,
            cache_status: String::new(),
            has_retry_after: false,
            body: Vec::new(),
        };
        let mut length = None;
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(io::Error::other("a header without a colon"));
            };
            let value = value.trim();
            match &*name.to_ascii_lowercase() {
                "content-length" => length = value.parse().ok(),
                "age" => answer.age = value.parse().ok(),
                "cache-status" => value.clone_into(&mut answer.cache_status),
                "retry-after" => answer.has_retry_after = true,
                _ => {}
            }
        }
        let length: usize = length.ok_or_else(|| io::Error::other("an answer without a length"))?;
        answer.body.resize(length, 0);
        self.stream.read_exact(&mut answer.body).await?;
        Ok(answer)
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
