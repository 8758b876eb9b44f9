//! What can happen: one past-tense [`Event`], and the [`Observer`] that passes it to every sink.
//! The emitter does not decide what is logged and what is counted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::plan::{EndpointId, Lifetime, ProbeId};

/// Something that happened. Plain data: no secret, and no value of a client's or from a table.
#[derive(Debug, Clone)]
pub enum Event {
    /// A request was answered.
    RequestServed {
        /// The declared endpoint, if the path led to one.
        endpoint: Option<EndpointId>,
        /// How it was answered.
        cache: CacheStatus,
        /// The HTTP status code.
        code: u16,
        /// From the request's head to the answer's.
        elapsed: Duration,
        /// The age of the data in the answer, where it carried data.
        age: Option<Duration>,
        /// Whether it was an answer that is served only because loading fails.
        stale_if_error: bool,
    },
    /// A request was answered with a problem: emitted in addition to [`Event::RequestServed`].
    ProblemServed {
        /// The declared endpoint, if the path led to one.
        endpoint: Option<EndpointId>,
        /// The problem's stable code.
        problem: &'static str,
    },
    /// A query on behalf of an endpoint ended.
    QueryFinished {
        /// Whose query.
        endpoint: EndpointId,
        /// How it ended.
        outcome: QueryOutcome,
        /// From the moment it was sent.
        elapsed: Duration,
    },
    /// A load in the background ended, or did not begin.
    RefreshFinished {
        /// Whose entry.
        endpoint: EndpointId,
        /// Why it was looked at again.
        trigger: Trigger,
        /// How it ended.
        outcome: RefreshOutcome,
        /// From its beginning.
        elapsed: Duration,
        /// When, by the wall clock.
        at: SystemTime,
        /// How long the new answer may be served, if there is one.
        lifetime: Option<Lifetime>,
    },
    /// Loads of an endpoint began to fail: emitted once, until one succeeds.
    LoadsFailing {
        /// Whose loads.
        endpoint: EndpointId,
        /// Whose fault it is.
        fault: Fault,
        /// What happened, for the operator.
        cause: String,
    },
    /// Loads of an endpoint succeed again.
    LoadsRecovered {
        /// Whose loads.
        endpoint: EndpointId,
    },
    /// A probe began to fail: emitted once, until it succeeds. What it kept fresh goes by age meanwhile.
    ProbeFailing {
        /// Which.
        probe: ProbeId,
        /// Whose fault it is.
        fault: Fault,
        /// What happened, for the operator.
        cause: String,
    },
    /// A probe succeeds again.
    ProbeRecovered {
        /// Which.
        probe: ProbeId,
    },
    /// The connection for notifications was made; what was missed before is taken as changed.
    Listening,
    /// The connection for notifications was lost, or refused: emitted once, until it is there again or
    /// the fault is another's.
    ListeningFailed {
        /// What happened, for the operator.
        cause: String,
    },
    /// Queries of an endpoint began to take too long to load its keys ahead of time: emitted once, until
    /// they do not.
    AheadTooSlow {
        /// Whose queries.
        endpoint: EndpointId,
        /// How long the last one took.
        query_time: Duration,
        /// How long its answer is fresh.
        max_age: Duration,
    },
    /// A representation of an answer could not be made: a defect of Larder.
    RepresentationFailed {
        /// Whose answer.
        endpoint: EndpointId,
        /// What happened.
        cause: String,
    },
    /// The certificate's files changed, and new connections get the new one.
    CertificateRenewed,
    /// The certificate's files changed and cannot be used: the old one stays. Emitted once per change.
    CertificateRefused {
        /// What is wrong with them, for the operator.
        cause: String,
    },
    /// The certificate's files are again those in use, after others that could not be used.
    CertificateRestored,
    /// No client takes the certificate, because it is not its time: emitted once per certificate.
    CertificateOutOfDate {
        /// What its time is, for the operator.
        cause: String,
    },
    /// Connections cannot be accepted: emitted once, until they can.
    AcceptFailing {
        /// What happened, for the operator.
        cause: String,
    },
    /// Connections can be accepted again.
    AcceptRecovered,
    /// The repository could be reached, for the first time or again.
    RepositoryReached,
    /// The repository could not be reached: emitted once, until it can.
    RepositoryLost {
        /// What happened, for the operator.
        cause: String,
    },
    /// A statement was described again, and has other parameters or columns than before.
    StatementRedescribed {
        /// Whose statement.
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
        /// To what.
        readiness: Readiness,
    },
    /// A client connection was opened.
    ConnectionOpened,
    /// A client connection was closed.
    ConnectionClosed,
    /// A client connection was refused because as many as allowed were open.
    ConnectionRefused,
    /// A client was cut off that did not take its answer fast enough, or held too much.
    SlowClientCut,
    /// What clients have not taken was measured.
    PendingMeasured {
        /// Bytes that nothing else keeps.
        bytes: u64,
    },
    /// A handler panicked, and its client got a 500.
    HandlerPanicked,
    /// A task that runs for as long as the server has ended: a defect of Larder. It is started again.
    TaskFailed {
        /// Which.
        task: Task,
        /// How.
        end: TaskEnd,
    },
    /// Lines of the log could not be written, and are lost.
    LogLinesDropped {
        /// How many.
        lines: u64,
    },
    /// The cache was measured.
    CacheMeasured {
        /// Entries held.
        entries: u64,
        /// Bytes they take: bodies, keys and overhead.
        bytes: u64,
    },
    /// An entry was evicted to make room.
    EntryEvicted,
    /// The loads that wait for their turn to ask Postgres were counted.
    WaitingMeasured {
        /// How many.
        waiting: u64,
    },
    /// The connections to Postgres were counted.
    ConnectionsMeasured {
        /// Waiting for work.
        idle: u64,
        /// At work.
        active: u64,
    },
}

/// How a request was answered, in the words of RFC 9211 and the dashboards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheStatus {
    /// By a fresh entry.
    Hit,
    /// By a stale entry.
    Stale,
    /// By this request's load.
    Miss,
    /// By another request's load.
    Coalesced,
    /// Without the cache: a refusal, a page of the server's own.
    None,
}

impl CacheStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Hit,
        Self::Stale,
        Self::Miss,
        Self::Coalesced,
        Self::None,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Miss => "miss",
            Self::Coalesced => "coalesced",
            Self::None => "none",
        }
    }
}

/// Why an entry was loaded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// Its time had come.
    Schedule,
    /// It was asked for while stale.
    Stale,
    /// It had to be there before anyone asked.
    Warm,
    /// A probe of the repository had another answer.
    Probe,
    /// The repository sent word that something changed.
    Notify,
    /// It is in use and would have gone stale.
    Ahead,
}

impl Trigger {
    /// Every trigger.
    pub const ALL: [Self; 6] = [
        Self::Schedule,
        Self::Stale,
        Self::Warm,
        Self::Probe,
        Self::Notify,
        Self::Ahead,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Stale => "stale",
            Self::Warm => "warm",
            Self::Probe => "probe",
            Self::Notify => "notify",
            Self::Ahead => "ahead",
        }
    }
}

/// How a refresh ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefreshOutcome {
    /// The answer is another one.
    Changed,
    /// The answer is the same.
    Unchanged,
    /// There is no new answer; the old one stays.
    Failed,
    /// A load of the same key was running already.
    Skipped,
}

impl RefreshOutcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Changed, Self::Unchanged, Self::Failed, Self::Skipped];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryOutcome {
    /// With all its rows.
    Ok,
    /// Postgres answered with an error.
    Refused,
    /// It took too long and was cancelled.
    Timeout,
    /// Its answer passed a limit and it was cancelled.
    TooLarge,
    /// The connection failed.
    Unavailable,
    /// Its rows could not be used, and it was cancelled.
    Abandoned,
}

impl QueryOutcome {
    /// Every outcome.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::Refused,
        Self::Timeout,
        Self::TooLarge,
        Self::Unavailable,
        Self::Abandoned,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Whose fault an error is: chooses the log level and says where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request's.
    Client,
    /// Postgres's, or the way to it.
    Repository,
    /// The declaration's: its SQL, its limits.
    Configuration,
    /// Larder's own.
    Ours,
}

impl Fault {
    /// The word in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Repository => "repository",
            Self::Configuration => "configuration",
            Self::Ours => "larder",
        }
    }
}

/// What runs for as long as the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Takes clients' connections.
    Accept,
    /// Takes the certificate's new files.
    Certificate,
    /// Tidies the cache.
    Maintenance,
    /// Listens for notifications.
    Notify,
    /// Looks after clients that read too slowly.
    Pending,
    /// Asks a probe's question.
    Probe,
    /// Loads what is due.
    Refresh,
    /// Keeps the last minutes for the status page.
    Status,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 8] = [
        Self::Accept,
        Self::Certificate,
        Self::Maintenance,
        Self::Notify,
        Self::Pending,
        Self::Probe,
        Self::Refresh,
        Self::Status,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Certificate => "certificate",
            Self::Maintenance => "maintenance",
            Self::Notify => "notify",
            Self::Pending => "pending",
            Self::Probe => "probe",
            Self::Refresh => "refresh",
            Self::Status => "status",
        }
    }
}

/// How a task ended that was not to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskEnd {
    /// It panicked.
    Panicked,
    /// It had nothing left to do.
    Ended,
}

impl TaskEnd {
    /// The word in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Panicked => "panicked",
            Self::Ended => "ended",
        }
    }
}

/// What is done before the server is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StartupStage {
    /// Postgres describes the endpoints' statements.
    Describing,
    /// Endpoints without parameters are loaded.
    Warming,
    /// The keys that `warm` and `warm_sql` name are loaded.
    WarmingKeys,
}

impl StartupStage {
    /// The words in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Describing => "statements described",
            Self::Warming => "endpoints loaded",
            Self::WarmingKeys => "keys loaded",
        }
    }
}

/// Whether the server should be sent traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Readiness {
    /// Not yet: statements are not described, or resident entries not loaded.
    Warming,
    /// Yes.
    Ready,
    /// No longer: it is shutting down.
    Draining,
}

impl Readiness {
    /// The word in `/readyz` and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warming => "warming",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// Something that wants to know of events: metrics, the log, a test.
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

    /// Tells every sink.
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
