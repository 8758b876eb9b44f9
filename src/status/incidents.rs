//! What only events report: whether Postgres is reachable and since when, readiness, and the server's own
//! open incidents.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::time::Instant;

use crate::mutex::lock;
use crate::observe::{Event, Readiness};
use crate::plan::{AccessSettings, IssuerId, Plan, ProbeId};

/// A sink of events that remembers the state they lead to.
#[derive(Debug)]
pub struct Incidents {
    current: Mutex<Snapshot>,
    revision: AtomicU64,
}

/// The state that the events so far have led to.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) readiness: Readiness,
    pub(super) repository: Option<Reachability>,
    /// Open incidents, and when each was reported.
    pub(super) incidents: BTreeMap<Incident, SystemTime>,
}

/// Whether Postgres can be reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reachability {
    pub(super) is_up: bool,
    pub(super) since: Instant,
    pub(super) since_wall: SystemTime,
}

/// A problem besides the endpoints' loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Incident {
    Accept,
    Configuration,
    CertificateRefused,
    CertificateOutOfDate,
    Listening,
    Probe(ProbeId),
    StoredKeys,
    IssuerKeys(IssuerId),
}

impl Incident {
    /// Its kind in one word, which is a key of config.toml where there is one.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Configuration => "configuration",
            Self::CertificateRefused | Self::CertificateOutOfDate => "tls",
            Self::Listening => "notify",
            Self::Probe(_) => "probe",
            Self::StoredKeys | Self::IssuerKeys(_) => "access",
        }
    }

    /// A sentence that may be public.
    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::Accept => "New clients cannot connect.",
            Self::Configuration => {
                "The configuration was not reloaded, because it has mistakes; the one before stays in use."
            }
            Self::CertificateRefused => {
                "The certificate's new files cannot be used; the old certificate stays in use."
            }
            Self::CertificateOutOfDate => {
                "The certificate has expired or is not valid yet: clients reject it."
            }
            Self::Listening => {
                "Notifications are not received; answers become stale by their age instead."
            }
            Self::Probe(_) => {
                "A probe fails; the answers it keeps fresh become stale by their age instead."
            }
            Self::StoredKeys => {
                "Keys in the repository cannot be read; changes of them have no effect."
            }
            Self::IssuerKeys(_) => {
                "The keys of an issuer of tokens cannot be read; earlier ones stay in use for a day."
            }
        }
    }
}

impl Default for Incidents {
    fn default() -> Self {
        Self {
            current: Mutex::new(Snapshot {
                readiness: Readiness::Warming,
                repository: None,
                incidents: BTreeMap::new(),
            }),
            revision: AtomicU64::new(0),
        }
    }
}

impl Incidents {
    /// Records an event. Those of requests are skipped: the metrics count them.
    pub fn record(&self, event: &Event) {
        match event {
            Event::RepositoryReached => self.update(|current| current.record_reachable(true)),
            Event::RepositoryLost { .. } => self.update(|current| current.record_reachable(false)),
            Event::ReadinessChanged { readiness } => {
                self.update(|current| current.readiness = *readiness);
            }
            Event::AcceptFailing { .. } => self.open(Incident::Accept),
            Event::ConfigurationRefused { .. } => self.open(Incident::Configuration),
            Event::ConfigurationLoaded { .. } => self.close(&[Incident::Configuration]),
            Event::AcceptRecovered => self.close(&[Incident::Accept]),
            Event::CertificateRefused { .. } => self.open(Incident::CertificateRefused),
            Event::CertificateOutOfDate { .. } => self.open(Incident::CertificateOutOfDate),
            Event::CertificateRenewed => {
                self.close(&[Incident::CertificateRefused, Incident::CertificateOutOfDate]);
            }
            Event::CertificateRestored => self.close(&[Incident::CertificateRefused]),
            Event::ListeningFailed { .. } => self.open(Incident::Listening),
            Event::Listening => self.close(&[Incident::Listening]),
            Event::ProbeFailing { probe, .. } => self.open(Incident::Probe(*probe)),
            Event::ProbeRecovered { probe } => self.close(&[Incident::Probe(*probe)]),
            Event::StoredKeysFailing { .. } => self.open(Incident::StoredKeys),
            Event::StoredKeysRecovered => self.close(&[Incident::StoredKeys]),
            Event::IssuerKeysFailing { issuer, .. } => self.open(Incident::IssuerKeys(*issuer)),
            Event::IssuerKeysRecovered { issuer } => {
                self.close(&[Incident::IssuerKeys(*issuer)]);
            }
            Event::RequestServed { .. }
            | Event::QueryFinished { .. }
            | Event::RefreshFinished { .. }
            | Event::LoadsFailing { .. }
            | Event::LoadsRecovered { .. }
            | Event::AheadTooSlow { .. }
            | Event::StartupAdvanced { .. }
            | Event::RepresentationFailed { .. }
            | Event::StatementRedescribed { .. }
            | Event::ConnectionOpened
            | Event::ConnectionClosed
            | Event::ConnectionRefused
            | Event::StoredKeysLoaded { .. }
            | Event::IssuerKeysLoaded { .. }
            | Event::HandlerPanicked
            | Event::TaskFailed { .. }
            | Event::LogLinesDropped { .. }
            | Event::SlowClientCut
            | Event::PendingMeasured { .. }
            | Event::CacheMeasured { .. }
            | Event::WaitingMeasured { .. }
            | Event::EntryEvicted
            | Event::ConnectionsMeasured { .. } => {}
        }
    }

    /// Closes what is about parts of `previous` that `plan` does not have.
    pub(super) fn follow(&self, plan: &Plan, previous: &Plan) {
        let access = |plan: &'_ Plan| plan.access().cloned();
        let (access, before) = (access(plan), access(previous));
        let issuers =
            |access: &Option<AccessSettings>| access.as_ref().map(|it| it.issuers.clone());
        let has_same_issuers = issuers(&access) == issuers(&before);
        let is_known = |incident: Incident| match incident {
            Incident::Probe(id) => plan.probe(id).is_some(),
            Incident::Listening => !plan.channels().is_empty(),
            Incident::StoredKeys => access.as_ref().is_some_and(|it| it.stored_keys.is_some()),
            Incident::IssuerKeys(_) => has_same_issuers,
            Incident::Accept
            | Incident::Configuration
            | Incident::CertificateRefused
            | Incident::CertificateOutOfDate => true,
        };
        self.update(|current| current.incidents.retain(|incident, _| is_known(*incident)));
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    /// The number of updates so far.
    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    fn open(&self, incident: Incident) {
        self.update(|current| {
            current
                .incidents
                .entry(incident)
                .or_insert_with(SystemTime::now);
        });
    }

    fn close(&self, incidents: &[Incident]) {
        self.update(|current| {
            current
                .incidents
                .retain(|incident, _| !incidents.contains(incident));
        });
    }

    fn update(&self, update: impl FnOnce(&mut Snapshot)) {
        update(&mut self.lock());
        // After the update, so that a reader of the revision finds it.
        self.revision.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Snapshot> {
        lock(&self.current)
    }
}

impl Snapshot {
    fn record_reachable(&mut self, is_up: bool) {
        self.repository = Some(Reachability {
            is_up,
            since: Instant::now(),
            since_wall: SystemTime::now(),
        });
    }
}
