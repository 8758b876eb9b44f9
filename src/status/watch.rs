//! What only events tell: whether Postgres is there and since when, readiness, and troubles of the
//! server's own that last.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::time::Instant;

use crate::lock::lock;
use crate::observe::{Event, Readiness};
use crate::plan::ProbeId;

/// A sink of events that remembers how they left things.
#[derive(Debug)]
pub struct Watch {
    known: Mutex<Known>,
    news: AtomicU64,
}

/// How things are, as far as events tell.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) readiness: Readiness,
    pub(super) repository: Option<Reach>,
    /// Troubles that last, with the time when each was told.
    pub(super) troubles: BTreeMap<Trouble, SystemTime>,
}

/// Whether Postgres can be reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    pub(super) is_up: bool,
    pub(super) since: Instant,
    pub(super) since_wall: SystemTime,
}

/// What goes wrong beside the endpoints' loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    Accept,
    CertificateRefused,
    CertificateOutOfDate,
    Listening,
    Probe(ProbeId),
}

impl Trouble {
    /// In a word, where there is one that of config.toml.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::CertificateRefused | Self::CertificateOutOfDate => "tls",
            Self::Listening => "notify",
            Self::Probe(_) => "probe",
        }
    }

    /// In words that anybody may read.
    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::Accept => "New clients can not connect.",
            Self::CertificateRefused => {
                "The certificate's new files can not be used; the old certificate stays."
            }
            Self::CertificateOutOfDate => "The certificate is out of date: no client takes it.",
            Self::Listening => "Notifications are not heard; answers go by their age.",
            Self::Probe(_) => "A probe fails; what it keeps fresh goes by its age.",
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            known: Mutex::new(Known {
                readiness: Readiness::Warming,
                repository: None,
                troubles: BTreeMap::new(),
            }),
            news: AtomicU64::new(0),
        }
    }
}

impl Watch {
    /// Takes note of an event. Those of requests are passed over: they are counted elsewhere.
    pub fn hear(&self, event: &Event) {
        match event {
            Event::RepositoryReached => self.note(|known| known.reach(true)),
            Event::RepositoryLost { .. } => self.note(|known| known.reach(false)),
            Event::ReadinessChanged { readiness } => {
                self.note(|known| known.readiness = *readiness);
            }
            Event::AcceptFailing { .. } => self.begin(Trouble::Accept),
            Event::AcceptRecovered => self.end(&[Trouble::Accept]),
            Event::CertificateRefused { .. } => self.begin(Trouble::CertificateRefused),
            Event::CertificateOutOfDate { .. } => self.begin(Trouble::CertificateOutOfDate),
            Event::CertificateRenewed => {
                self.end(&[Trouble::CertificateRefused, Trouble::CertificateOutOfDate]);
            }
            Event::CertificateRestored => self.end(&[Trouble::CertificateRefused]),
            Event::ListeningFailed { .. } => self.begin(Trouble::Listening),
            Event::Listening => self.end(&[Trouble::Listening]),
            Event::ProbeFailing { probe, .. } => self.begin(Trouble::Probe(*probe)),
            Event::ProbeRecovered { probe } => self.end(&[Trouble::Probe(*probe)]),
            Event::RequestServed { .. }
            | Event::ProblemServed { .. }
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

    pub(super) fn known(&self) -> Known {
        self.lock().clone()
    }

    /// How often something was noted.
    pub(super) fn news(&self) -> u64 {
        self.news.load(Ordering::Acquire)
    }

    fn begin(&self, trouble: Trouble) {
        self.note(|known| {
            known
                .troubles
                .entry(trouble)
                .or_insert_with(SystemTime::now);
        });
    }

    fn end(&self, troubles: &[Trouble]) {
        self.note(|known| {
            known
                .troubles
                .retain(|trouble, _| !troubles.contains(trouble));
        });
    }

    fn note(&self, note: impl FnOnce(&mut Known)) {
        note(&mut self.lock());
        // After the note: who sees the count sees what it counts.
        self.news.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

impl Known {
    fn reach(&mut self, is_up: bool) {
        self.repository = Some(Reach {
            is_up,
            since: Instant::now(),
            since_wall: SystemTime::now(),
        });
    }
}
