//! What can happen: one past-tense [`Event`], and the [`Observer`] that passes it to every sink.
//! The emitter does not decide what is logged and what is counted.

mod labels; // the closed sets of values in events

use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use labels::{
    CacheStatus, Fault, QueryOutcome, Readiness, RefreshOutcome, StartupStage, Task, TaskEnd,
    Trigger,
};

use crate::plan::{ClientId, EndpointId, IssuerId, Lifetime, PlanChanges, ProbeId};

/// Something that happened. Plain data: no secrets, and no values from clients or tables.
#[derive(Debug, Clone)]
pub enum Event {
    /// A request was answered.
    RequestServed {
        /// The declared endpoint, if the path matches one.
        endpoint: Option<EndpointId>,
        /// The client, if its credential was looked at and is valid.
        client: Option<ClientId>,
        /// How the cache answered it.
        cache: CacheStatus,
        /// The HTTP status code.
        code: u16,
        /// The stable code of the problem in it, if it is one.
        problem: Option<&'static str>,
        /// The time from the head of the request to the head of the response.
        elapsed: Duration,
        /// The age of the data in the response, if it has data.
        age: Option<Duration>,
        /// Whether it was served only because loading fails.
        stale_if_error: bool,
    },
    /// A query on behalf of an endpoint ended.
    QueryFinished {
        /// The endpoint.
        endpoint: EndpointId,
        /// How it ended.
        outcome: QueryOutcome,
        /// The time since it was sent.
        elapsed: Duration,
    },
    /// A load in the background ended, or did not begin.
    RefreshFinished {
        /// The endpoint.
        endpoint: EndpointId,
        /// Why it was refreshed.
        trigger: Trigger,
        /// How it ended.
        outcome: RefreshOutcome,
        /// The time since it began.
        elapsed: Duration,
        /// When it ended, by the wall clock.
        at: SystemTime,
        /// How long the new entry may be served, if there is one.
        lifetime: Option<Lifetime>,
    },
    /// Loads of an endpoint started to fail. Emitted once, until one succeeds.
    LoadsFailing {
        /// The endpoint.
        endpoint: EndpointId,
        /// Whose fault it is.
        fault: Fault,
        /// The cause, for the operator.
        cause: String,
    },
    /// Loads of an endpoint succeed again.
    LoadsRecovered {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// A probe started to fail. Emitted once, until it succeeds. Meanwhile the entries it kept fresh age.
    ProbeFailing {
        /// The probe.
        probe: ProbeId,
        /// Whose fault it is.
        fault: Fault,
        /// The cause, for the operator.
        cause: String,
    },
    /// A probe succeeds again.
    ProbeRecovered {
        /// The probe.
        probe: ProbeId,
    },
    /// The connection for notifications was opened. Everything that has a channel is refreshed, because
    /// earlier notifications were missed.
    Listening,
    /// The connection for notifications was lost or refused. Emitted once, until it is open again or the
    /// fault differs.
    ListeningFailed {
        /// The cause, for the operator.
        cause: String,
    },
    /// Queries of an endpoint became too slow to load its keys ahead of time. Emitted once, until they are
    /// fast enough.
    AheadTooSlow {
        /// The endpoint.
        endpoint: EndpointId,
        /// How long the last one took.
        query_time: Duration,
        /// How long its entry is fresh.
        max_age: Duration,
    },
    /// A representation of an answer could not be encoded: a bug in Larder.
    RepresentationFailed {
        /// The endpoint.
        endpoint: EndpointId,
        /// The cause.
        cause: String,
    },
    /// The certificate's files changed. New connections get the new certificate.
    CertificateRenewed,
    /// The certificate's files changed and cannot be used: the old certificate stays in use. Emitted once per
    /// change.
    CertificateRefused {
        /// What is wrong with them, for the operator.
        cause: String,
    },
    /// The certificate's files are those in use again, after others that could not be used.
    CertificateRestored,
    /// The certificate has expired or is not valid yet. Emitted once per certificate.
    CertificateOutOfDate {
        /// When it is valid, for the operator.
        cause: String,
    },
    /// The keys in the repository were read.
    StoredKeysLoaded {
        /// When, by the wall clock.
        at: SystemTime,
    },
    /// The keys in the repository, or some of them, cannot be read. Emitted once per cause, until they can.
    StoredKeysFailing {
        /// The cause, for the operator.
        cause: String,
    },
    /// The keys in the repository can be read again.
    StoredKeysRecovered,
    /// The keys of an issuer of tokens were read.
    IssuerKeysLoaded {
        /// The issuer.
        issuer: IssuerId,
        /// Whether they differ from those before.
        is_change: bool,
        /// When, by the wall clock.
        at: SystemTime,
        /// Until when they stay in use if they cannot be read again; those in a file have no end.
        usable_until: Option<SystemTime>,
    },
    /// The keys of an issuer of tokens cannot be read: the old ones stay in use. Emitted once per cause, until
    /// they can.
    IssuerKeysFailing {
        /// The issuer.
        issuer: IssuerId,
        /// The cause, for the operator.
        cause: String,
    },
    /// The keys of an issuer of tokens can be read again.
    IssuerKeysRecovered {
        /// The issuer.
        issuer: IssuerId,
    },
    /// Connections cannot be accepted. Emitted once, until they can.
    AcceptFailing {
        /// The cause, for the operator.
        cause: String,
    },
    /// Connections can be accepted again.
    AcceptRecovered,
    /// The repository became reachable.
    RepositoryReached,
    /// The repository became unreachable. Emitted once, until it is reachable.
    RepositoryLost {
        /// The cause, for the operator.
        cause: String,
    },
    /// A statement was described again, and its parameters or columns have changed.
    StatementRedescribed {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// Bringing everything up takes a while, and goes on: emitted now and then.
    StartupAdvanced {
        /// What is being done.
        stage: StartupStage,
        /// How many of them are done.
        done: usize,
        /// How many there are.
        of: usize,
    },
    /// The server's readiness changed.
    ReadinessChanged {
        /// The new readiness.
        readiness: Readiness,
    },
    /// A client connection was opened.
    ConnectionOpened,
    /// A client connection was closed.
    ConnectionClosed,
    /// A client connection was refused because too many were open.
    ConnectionRefused,
    /// A client was cut off because it read too slowly, or too much was buffered for it.
    SlowClientCut,
    /// The bytes that clients have not read yet were measured.
    PendingMeasured {
        /// Those that are not in the cache as well.
        bytes: u64,
    },
    /// A handler panicked, and its client got a 500.
    HandlerPanicked,
    /// A task that should run as long as the server has ended: a bug in Larder. It is restarted.
    TaskFailed {
        /// The task.
        task: Task,
        /// How it ended.
        end: TaskEnd,
    },
    /// Log lines could not be written, and are lost.
    LogLinesDropped {
        /// The number.
        lines: u64,
    },
    /// The cache was measured.
    CacheMeasured {
        /// The number of entries.
        entries: u64,
        /// Their size in bytes: bodies, keys and overhead.
        bytes: u64,
    },
    /// An entry was evicted to make room.
    EntryEvicted,
    /// Another configuration is in use than before.
    ConfigurationLoaded {
        /// When.
        at: SystemTime,
        /// A hash of its text.
        hash: u64,
        /// What is different.
        changes: PlanChanges,
    },
    /// Another configuration was not taken; the one before stays in use.
    ConfigurationRefused {
        /// Why, for the operator.
        cause: String,
    },
    /// The loads that wait for a connection to Postgres were counted.
    WaitingMeasured {
        /// The number.
        waiting: u64,
    },
    /// The connections to Postgres were counted.
    ConnectionsMeasured {
        /// The idle ones.
        idle: u64,
        /// The active ones.
        active: u64,
    },
}

/// A receiver of events: metrics, the log, a test.
pub type Sink = Box<dyn Fn(&Event) + Send + Sync>;

/// Passes each event to every sink, on the thread it happened on.
#[derive(Clone)]
pub struct Observer {
    sinks: Arc<[Sink]>,
}

impl Observer {
    /// An observer with these sinks.
    pub fn new(sinks: Vec<Sink>) -> Self {
        Self {
            sinks: sinks.into(),
        }
    }

    /// Passes an event to every sink.
    pub fn emit(&self, event: &Event) {
        for sink in self.sinks.iter() {
            sink(event);
        }
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer")
            .field("sinks", &self.sinks.len())
            .finish()
    }
}
