//! The closed sets of values in events, with their names as labels of metrics and in the log.

/// How the cache answered a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheStatus {
    /// With a fresh entry.
    Hit,
    /// With a stale entry.
    Stale,
    /// With the load that this request caused.
    Miss,
    /// With a load that was already running.
    Coalesced,
    /// The cache was not involved: a refusal, or one of Larder's own pages.
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

/// Why an entry was refreshed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// Its schedule was due.
    Schedule,
    /// It was requested while stale.
    Stale,
    /// It is loaded before the first request.
    Warm,
    /// The answer of a probe changed.
    Probe,
    /// A notification reported a change.
    Notify,
    /// It is in use, and would have become stale.
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
    /// The answer changed.
    Changed,
    /// The answer did not change.
    Unchanged,
    /// There is no new answer. The old one stays.
    Failed,
    /// A load of the same key was already running.
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
    /// All rows arrived.
    Ok,
    /// Postgres returned an error.
    Refused,
    /// It took too long and was cancelled.
    Timeout,
    /// Its answer exceeded a limit and it was cancelled.
    TooLarge,
    /// The connection failed.
    Unavailable,
    /// Its rows could not be used and it was cancelled.
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

/// Whose fault an error is. It decides the log level and where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request.
    Client,
    /// Postgres, or the network between.
    Repository,
    /// The configuration: its SQL or its limits.
    Configuration,
    /// Larder.
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

/// A task that runs as long as the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Accepts connections.
    Accept,
    /// Reloads the certificate when its files change.
    Certificate,
    /// Keeps the keys of an issuer of tokens up to date.
    IssuerKeys,
    /// Keeps the keys in the repository up to date.
    StoredKeys,
    /// Maintains the cache.
    Maintenance,
    /// Listens for notifications.
    Notify,
    /// Cuts off clients that read too slowly.
    Pending,
    /// Runs a probe.
    Probe,
    /// Refreshes what is due.
    Refresh,
    /// Samples the history for the status page.
    Status,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 10] = [
        Self::Accept,
        Self::Certificate,
        Self::IssuerKeys,
        Self::StoredKeys,
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
            Self::IssuerKeys => "issuer-keys",
            Self::StoredKeys => "stored-keys",
            Self::Maintenance => "maintenance",
            Self::Notify => "notify",
            Self::Pending => "pending",
            Self::Probe => "probe",
            Self::Refresh => "refresh",
            Self::Status => "status",
        }
    }
}

/// How a task ended that should not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskEnd {
    /// It panicked.
    Panicked,
    /// It returned.
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

/// Whether the server should receive traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Readiness {
    /// Not yet: some statements are not described, or some endpoints without parameters are not loaded.
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
