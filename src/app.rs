//! The composition root: builds every part from a plan, runs them, and ends them in order.

mod measure; // how long each query takes
mod mistakes; // what Postgres and the files reveal, with its place
mod preflight; // what Postgres says of the plan, before anything is served
mod progress; // of a start that takes a while
mod rejection; // what cannot be served as declared
mod reload; // another plan in place of the one that is served
mod roles; // whether Larder may become the roles of `run_as`
mod row_security; // whether row-level security is there where the plan relies on it
mod startup; // from nothing to ready
mod warm_keys; // keys loaded before the first request for them

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use measure::{Measurement, Measurements, measure_all};
pub use mistakes::{rejected, unusable_file};
pub use preflight::{Descriptions, describe_all};
pub use rejection::Rejection;
pub use reload::{ReadConfiguration, ReloadError, Reloader};
pub use row_security::check_row_security;

use crate::access::{Identities, IssuerError};
use crate::cache::Cache;
pub use crate::http::TlsError;
use crate::http::problem::Problem;
use crate::http::{self, Exposure, Serving, Site, Tls};
use crate::log;
use crate::metrics::Metrics;
use crate::observe::{Event, Observer, Readiness, Sink, Task};
use crate::openapi;
use crate::plan::{Endpoint, Plan};
use crate::read_through::{PostgresSource, ReadThrough};
use crate::refresh::HeartbeatError;
use crate::repository::{Repository, RepositoryError};
use crate::status::{Incidents, Status};
use crate::supervise;
use reload::{Reloads, Replacing};

/// How often the cache is maintained. Without this, moka does it in bounded steps on readers' threads.
const MAINTAIN_EVERY: Duration = Duration::from_millis(250);

/// Every part, wired and not yet running.
#[derive(Debug)]
pub struct App {
    plan: Arc<Plan>,
    repository: Repository,
    cache: Cache,
    read_through: ReadThrough,
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    observer: Observer,
    /// The current plan, and the one before: for names in the log.
    named: Arc<ArcSwap<Vec<Arc<Plan>>>>,
    tls: Option<Tls>,
    identities: Option<Arc<Identities>>,
    reloads: Reloads,
}

/// Why an [`App`] cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The URL, or a certificate it names, cannot be used.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A file that `tls` names cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file with the keys of an issuer of tokens cannot be used.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
}

/// Why a file that the configuration names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file of `tls`.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file with the keys of an issuer of tokens.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
}

/// Why a server ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Parts of the configuration cannot be served as declared.
    #[error("{} parts of the configuration cannot be served", .0.len())]
    Rejected(Vec<Rejection>),
    /// The scheduler did not start.
    #[error(transparent)]
    Heartbeat(#[from] HeartbeatError),
}

/// Checks the files that the configuration names.
///
/// # Errors
/// [`FileError`] if one cannot be used.
pub fn check_files(plan: &Plan) -> Result<(), FileError> {
    plan.server().tls.as_ref().map(Tls::load).transpose()?;
    plan.access().map(Identities::new).transpose()?;
    Ok(())
}

/// Warnings about settings that are valid but risky, in sentences. Does not connect to Postgres.
pub fn warnings(plan: &Plan) -> Vec<String> {
    let repository = Repository::new(plan.repository(), Observer::new(Vec::new()));
    // A URL that cannot be used is reported as a mistake where it is used.
    repository.map_or_else(|_| Vec::new(), |repository| repository.warnings())
}

/// The endpoints as an OpenAPI document without example responses. `server` is their base URL, if known.
pub fn openapi(plan: &Plan, described: &Descriptions, server: Option<&str>) -> String {
    let of = |endpoint: &Endpoint| described.of(endpoint.id);
    openapi::document(plan, |_| true, of, &Problem::kinds(), |_| None, server).pretty()
}

impl App {
    /// Wires the parts, without connecting to Postgres. `sinks` get every event, in addition to the metrics,
    /// the log and the status page.
    ///
    /// # Errors
    /// [`BuildError`] if something that the configuration names cannot be used.
    pub fn build(plan: Arc<Plan>, mut sinks: Vec<Sink>) -> Result<Self, BuildError> {
        let tls = plan.server().tls.as_ref().map(Tls::load).transpose()?;
        let identities = plan.access().map(Identities::new).transpose()?;
        let metrics = Arc::new(Metrics::new(&plan));
        let counted = Arc::clone(&metrics);
        sinks.push(Box::new(move |event| counted.record(event)));
        let named = Arc::new(ArcSwap::from_pointee(vec![Arc::clone(&plan)]));
        let logged = Arc::clone(&named);
        sinks.push(Box::new(move |event| {
            if log::is_worth_a_line(event) {
                log::record(&logged.load(), event);
            }
        }));
        let incidents = Arc::<Incidents>::default();
        let recorded = Arc::clone(&incidents);
        sinks.push(Box::new(move |event| recorded.record(event)));
        let observer = Observer::new(sinks);
        let repository = Repository::new(plan.repository(), observer.clone())?;
        let cache = Cache::new(&plan, observer.clone());
        let read_through = ReadThrough::new(
            Arc::clone(&plan),
            PostgresSource::new(&plan, repository.clone(), observer.clone()),
            cache.clone(),
            observer.clone(),
        );
        let status = Status::new(
            Arc::clone(&plan),
            Arc::clone(&metrics),
            read_through.clone(),
            incidents,
        );
        Ok(Self {
            plan,
            repository,
            cache,
            read_through,
            metrics,
            status: Arc::new(status),
            observer,
            named,
            tls,
            identities: identities.map(Arc::new),
            reloads: Reloads::default(),
        })
    }

    /// Has the configuration read by `read` when the [`Reloader`] is asked to.
    pub fn reloader(&mut self, read: ReadConfiguration) -> Reloader {
        self.reloads.reader(read)
    }

    /// Warnings about settings that are valid but risky, in sentences.
    pub fn warnings(&self) -> Vec<String> {
        self.repository.warnings()
    }

    /// Serves on `listener` until `shutdown`, then drains. Returns whether every running request finished in
    /// time.
    ///
    /// It accepts connections at once, and is ready when every statement is described and every resident
    /// entry is loaded. While Postgres is unreachable, it keeps trying.
    ///
    /// # Errors
    /// [`RunError::Rejected`] as soon as Postgres refuses a statement at start.
    pub async fn run(
        mut self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<bool, RunError> {
        let (readiness, ready) = watch::channel(Readiness::Warming);
        let address = listener.local_addr();
        let exposure = match address {
            Ok(address) if address.ip().is_loopback() => Exposure::Loopback,
            Ok(_) | Err(_) => Exposure::Network,
        };
        let serving = Serving::new(self.site(exposure, &ready));
        // Ends the background tasks when this function ends, in whatever way.
        let background = shutdown.child_token();
        let _end = background.clone().drop_guard();
        let (cache, observer) = (self.cache.clone(), self.observer.clone());
        let dropped = Arc::new(AtomicU64::new(0));
        supervise::spawn(&self.observer, Task::Maintenance, &background, move || {
            maintain(cache.clone(), observer.clone(), Arc::clone(&dropped))
        });
        if let Some(identities) = &self.identities {
            identities.follow(&self.repository, &self.observer, &background);
        }
        let status = Arc::clone(&self.status);
        supervise::spawn(&self.observer, Task::Status, &background, move || {
            Arc::clone(&status).keep_history()
        });

        let tls = self.tls.take();
        let served = http::server::serve(listener, tls, serving.clone(), shutdown.clone());
        let replacing = Replacing {
            serving,
            exposure,
            ready,
        };
        let supervising = self.supervise(&readiness, replacing, background, &shutdown);
        let serving = served;
        tokio::pin!(serving, supervising);
        tokio::select! {
            // Polled first, so that draining is announced even if nothing is left to drain.
            biased;
            ended = &mut supervising => {
                ended?;
                Ok(serving.await)
            }
            clean = &mut serving => Ok(clean),
        }
    }

    fn site(&self, exposure: Exposure, ready: &watch::Receiver<Readiness>) -> Site {
        Site {
            plan: Arc::clone(&self.plan),
            read_through: self.read_through.clone(),
            metrics: Arc::clone(&self.metrics),
            status: Arc::clone(&self.status),
            readiness: ready.clone(),
            observer: self.observer.clone(),
            identities: self.identities.clone(),
            exposure,
        }
    }

    /// Runs the start and announces each change of readiness, and reloads the configuration when asked to; returns
    /// when draining begins.
    async fn supervise(
        &mut self,
        readiness: &watch::Sender<Readiness>,
        replacing: Replacing,
        background: CancellationToken,
        shutdown: &CancellationToken,
    ) -> Result<(), RunError> {
        self.announce(readiness, Readiness::Warming);
        let starting = async {
            let succession = startup::start(
                &self.plan,
                &self.repository,
                &self.read_through,
                &self.observer,
                &background,
            )
            .await?;
            if let Some(identities) = &self.identities {
                identities.wait_for_stored_keys().await;
            }
            Ok::<_, RunError>(succession)
        };
        if let Some(started) = shutdown.run_until_cancelled(starting).await {
            let succession = started?;
            self.announce(readiness, Readiness::Ready);
            let reloading = self.reload_when_asked(&replacing, &succession, &background);
            shutdown.run_until_cancelled(reloading).await;
        }
        self.announce(readiness, Readiness::Draining);
        Ok(())
    }

    fn announce(&self, readiness: &watch::Sender<Readiness>, now: Readiness) {
        readiness.send_replace(now);
        self.observer
            .emit(&Event::ReadinessChanged { readiness: now });
    }
}

/// Maintains the cache, and reports dropped log lines, of which `reported` have been reported before.
async fn maintain(cache: Cache, observer: Observer, reported: Arc<AtomicU64>) {
    let mut ticks = tokio::time::interval(MAINTAIN_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        cache.maintain();
        let dropped = log::lines_dropped();
        let lines = dropped - reported.swap(dropped, Ordering::Relaxed);
        if lines > 0 {
            observer.emit(&Event::LogLinesDropped { lines });
        }
    }
}
