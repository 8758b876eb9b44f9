//! One tenant: it polls its endpoints one after the other on a kept connection.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::Options;
use crate::client::Connection;

/// How far the time of a request may be from that of the query it causes, in requests for the same answer.
const SLACK: f64 = 0.4;

pub(crate) fn name(number: usize) -> String {
    format!("tenant-{number}")
}

pub(crate) fn path(endpoint: usize) -> String {
    format!("/of-tenant/{endpoint}")
}

pub(crate) struct Tenant {
    name: String,
    number: usize,
    /// Its credential, as a header field.
    field: String,
    connection: Connection,
    /// When each of its answers was loaded, as early and as late as can be.
    loaded: Vec<[Instant; 2]>,
}

/// What came back.
pub(crate) struct Answer {
    /// Whether it is the answer of the endpoint for this tenant.
    pub(crate) is_right: bool,
    pub(crate) code: String,
    cache: Cache,
}

enum Cache {
    Hit,
    Stale,
    Miss,
}

impl Tenant {
    pub(crate) async fn connect(
        number: usize,
        address: SocketAddr,
        endpoints: usize,
    ) -> anyhow::Result<Self> {
        let connection = Connection::open(address).await;
        let name = name(number);
        Ok(Self {
            field: format!("Authorization: Bearer {name}-key\r\n"),
            name,
            number,
            connection: connection.context("cannot connect")?,
            loaded: vec![[Instant::now(); 2]; endpoints],
        })
    }

    /// Asks for the first time.
    pub(crate) async fn first(&mut self, endpoint: usize) -> anyhow::Result<Answer> {
        let answer = self.ask(endpoint).await?;
        self.loaded[endpoint] = [Instant::now(); 2];
        Ok(answer)
    }

    async fn ask(&mut self, endpoint: usize) -> anyhow::Result<Answer> {
        let target = path(endpoint);
        let answer = self.connection.get_with(&target, &self.field).await?;
        let expected = format!("\"{} {endpoint}\"", self.name);
        let is = |part| answer.cache_status.contains(part);
        Ok(Answer {
            is_right: answer.status == 200 && answer.body == expected.as_bytes(),
            code: answer.code(),
            cache: if is("detail=stale") {
                Cache::Stale
            } else if is("; hit") {
                Cache::Hit
            } else {
                Cache::Miss
            },
        })
    }

    /// Polls from `start` on, at a fixed rate: a request that is late is sent as soon as the one before it is
    /// answered.
    pub(crate) async fn poll(
        mut self,
        options: Arc<Options>,
        start: Instant,
    ) -> anyhow::Result<Seen> {
        let mut seen = Seen::default();
        let mut ticks = interval_at(start, options.pause());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let end = start + Duration::from_secs_f64(options.seconds);
        let again = options.pause() * u32::try_from(options.endpoints)?;
        for turn in self.number.. {
            let due = ticks.tick().await;
            if due >= end {
                break;
            }
            let endpoint = turn % options.endpoints;
            let asked = Instant::now();
            self.count_due(endpoint, asked, again, &options, &mut seen);
            let answer = self.ask(endpoint).await?;
            seen.slowest = seen.slowest.max(asked.elapsed());
            seen.requests += 1;
            seen.failed += u64::from(!answer.is_right);
            match answer.cache {
                Cache::Hit => seen.hits += 1,
                Cache::Stale => seen.stale += 1,
                Cache::Miss => seen.misses += 1,
            }
        }
        Ok(seen)
    }

    /// Counts the queries that a request makes due, at least and at most: within the slack, it may or may not.
    fn count_due(
        &mut self,
        endpoint: usize,
        asked: Instant,
        again: Duration,
        options: &Options,
        seen: &mut Seen,
    ) {
        let max_age = Duration::from_secs_f64(options.max_age);
        let slack = again.mul_f64(SLACK);
        let [late, early] = &mut self.loaded[endpoint];
        if asked.duration_since(*late) > max_age + slack {
            *late = asked;
            seen.due.start += 1;
        }
        if asked.duration_since(*early) + slack > max_age {
            *early = asked;
            seen.due.end += 1;
        }
    }
}

/// What clients have seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    hits: u64,
    stale: u64,
    misses: u64,
    /// The queries that are due, at least and at most.
    pub(crate) due: Range<u64>,
    /// How long the slowest answer took.
    slowest: Duration,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.hits += other.hits;
        self.stale += other.stale;
        self.misses += other.misses;
        self.due.start += other.due.start;
        self.due.end += other.due.end;
        self.slowest = self.slowest.max(other.slowest);
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            requests,
            failed,
            hits,
            stale,
            misses,
            slowest,
            ..
        } = self;
        write!(
            f,
            "{requests} requests: {hits} hits, {stale} stale, {misses} misses, {failed} failed; \
             the slowest answer took {slowest:.1?}"
        )
    }
}
