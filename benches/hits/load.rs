//! The clients that are measured. They are as small as possible, to leave the machine to the server: one thread
//! per connection, one request after the other, and only status and length of an answer are parsed.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

/// A server that is silent for this long no longer answers.
const SILENCE: Duration = Duration::from_secs(30);

/// What is requested, and over how many connections.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) target: &'static str,
    pub(crate) connections: u16,
}

impl Load {
    pub(crate) async fn run(self, requests: u64) -> anyhow::Result<Tally> {
        tokio::task::spawn_blocking(move || self.run_here(requests)).await?
    }

    fn run_here(self, requests: u64) -> anyhow::Result<Tally> {
        let wires: Vec<Wire> = (0..self.connections)
            .map(|_| Wire::open(self.address))
            .collect::<std::io::Result<_>>()
            .with_context(|| format!("cannot open {} connections", self.connections))?;
        let begin = Barrier::new(wires.len() + 1);
        let taken = AtomicU64::new(0);
        let drive = |wire| {
            begin.wait();
            self.drive(wire, || taken.fetch_add(1, Ordering::Relaxed) < requests)
        };
        std::thread::scope(|scope| {
            let drive = &drive;
            let spawn = |wire| scope.spawn(move || drive(wire));
            let threads: Vec<_> = wires.into_iter().map(spawn).collect();
            begin.wait();
            let begun = Instant::now();
            let mut whole = Tally::default();
            for thread in threads {
                let tally = thread.join().ok();
                whole.add(tally.context("a connection's thread panicked")?);
            }
            whole.elapsed = begun.elapsed();
            Ok(whole)
        })
    }

    fn drive(self, mut wire: Wire, is_more: impl Fn() -> bool) -> Tally {
        let request = wire.request(self.target);
        let mut tally = Tally::default();
        while is_more() {
            let begun = Instant::now();
            match wire.exchange(&request) {
                Ok(200) => {}
                Ok(status) => *tally.others.entry(status.to_string()).or_default() += 1,
                Err(error) => {
                    *tally.others.entry(error.to_string()).or_default() += 1;
                    return tally;
                }
            }
            let nanos = begun.elapsed().as_nanos();
            tally.nanos.push(u32::try_from(nanos).unwrap_or(u32::MAX));
        }
        tally
    }
}

/// The answers to a load.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) elapsed: Duration,
    /// The time of each answer.
    nanos: Vec<u32>,
    /// Answers other than 200, by status or error.
    others: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.nanos.extend(other.nanos);
        for (what, count) in other.others {
            *self.others.entry(what).or_default() += count;
        }
    }

    pub(crate) fn answers(&self) -> usize {
        self.nanos.len()
    }

    /// The quantile of answer times, in microseconds.
    pub(crate) fn micros_at(&mut self, part: f64) -> f64 {
        let Some(last) = self.nanos.len().checked_sub(1) else {
            return f64::NAN;
        };
        let (_, nanos, _) = self
            .nanos
            .select_nth_unstable((last as f64 * part) as usize);
        f64::from(*nanos) / 1e3
    }

    pub(crate) fn complaint(&self, target: &str) -> Option<String> {
        let others: Vec<String> = self
            .others
            .iter()
            .map(|(what, count)| format!("{count} × {what}"))
            .collect();
        (!others.is_empty()).then(|| {
            format!(
                "not every answer of {target} was a 200: {}",
                others.join(", ")
            )
        })
    }
}

/// A connection on which one request follows another.
pub(crate) struct Wire {
    address: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The last answer's body in the buffer.
    body: std::ops::Range<usize>,
}

impl Wire {
    pub(crate) fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        Ok(Self {
            address,
            stream,
            buffer: vec![0; 1 << 20],
            body: 0..0,
        })
    }

    fn request(&self, target: &str) -> Vec<u8> {
        format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).into_bytes()
    }

    /// Sends a `GET`, and returns the status of the answer.
    pub(crate) fn get(&mut self, target: &str) -> std::io::Result<u16> {
        let request = self.request(target);
        self.exchange(&request)
    }

    fn exchange(&mut self, request: &[u8]) -> std::io::Result<u16> {
        self.stream.write_all(request)?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..])?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            let Some(head) = self.buffer[..filled]
                .windows(4)
                .position(|end| end == b"\r\n\r\n")
            else {
                continue;
            };
            let (status, length) = status_and_length(&self.buffer[..head])
                .ok_or_else(|| std::io::Error::other("an answer without status or length"))?;
            self.body = head + 4..head + 4 + length;
            if filled >= self.body.end {
                return Ok(status);
            }
        }
    }

    pub(crate) fn text(&self) -> anyhow::Result<&str> {
        Ok(std::str::from_utf8(&self.buffer[self.body.clone()])?)
    }
}

fn status_and_length(head: &[u8]) -> Option<(u16, usize)> {
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    })?;
    Some((status, length))
}
