//! Another plan in place of the one that is served. All or nothing: what is new is described, checked and loaded
//! before anything is replaced, and a mistake leaves everything as it is. What both plans declare alike keeps its
//! entries, its schedule and its counters; clients that poll it do not notice.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::preflight::{check_side_queries, declared_keys, side_queries};
use super::warm_keys::{self, LOADS_AT_ONCE};
use super::{App, Rejection, rejected, unusable_file};
use crate::access::Identities;
use crate::config::{Mistake, Report};
use crate::http::{Exposure, Serving};
use crate::observe::{Event, Readiness, RefreshOutcome, Trigger};
use crate::plan::{Endpoint, EndpointId, Finding, Plan, PlanChanges, Subject};
use crate::read_through::ReadThrough;
use crate::refresh::{Succession, timetable::Timetable};

/// How long the keys of new settings may take to arrive.
const KEYS_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the configuration again.
pub type ReadConfiguration = Arc<dyn Fn() -> Result<Plan, Report> + Send + Sync>;

/// Why a configuration was not reloaded.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It has mistakes, or something that it needs cannot be used now.
    #[error("{0}")]
    Refused(Report),
    /// The server shuts down.
    #[error("the server shuts down")]
    Stopping,
}

type Answer = oneshot::Sender<Result<PlanChanges, ReloadError>>;

/// Asks a running [`App`] to reload its configuration. A cheap handle.
#[derive(Debug, Clone)]
pub struct Reloader(mpsc::Sender<Answer>);

impl Reloader {
    /// Reads the configuration and puts it in place of the one that is served. Waits for the start, and for reloads
    /// that were asked for before.
    ///
    /// # Errors
    /// [`ReloadError`]; then the configuration stays as it was.
    pub async fn reload(&self) -> Result<PlanChanges, ReloadError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.0.send(answer).await;
        sent.map_err(|_| ReloadError::Stopping)?;
        answered.await.unwrap_or(Err(ReloadError::Stopping))
    }
}

/// What an [`App`] is asked to reload, and how.
#[derive(Default)]
pub(super) struct Reloads(Option<(ReadConfiguration, mpsc::Receiver<Answer>)>);

impl Reloads {
    pub(super) fn reader(&mut self, read: ReadConfiguration) -> Reloader {
        // More than one at a time is pointless: the next one reads the latest text.
        let (asking, asked) = mpsc::channel(1);
        self.0 = Some((read, asked));
        Reloader(asking)
    }
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reloads").field(&self.0.is_some()).finish()
    }
}

/// What replaces the routes.
#[derive(Debug)]
pub(super) struct Replacing {
    pub(super) serving: Serving,
    pub(super) exposure: Exposure,
    pub(super) ready: watch::Receiver<Readiness>,
}

impl App {
    /// Reloads the configuration whenever somebody asks, for ever.
    pub(super) async fn reload_when_asked(
        &mut self,
        replacing: &Replacing,
        succession: &Succession,
        background: &CancellationToken,
    ) {
        let Some((read, mut asked)) = self.reloads.0.take() else {
            return std::future::pending().await;
        };
        while let Some(answer) = asked.recv().await {
            let reloading = self.reload(&read, replacing, succession, background);
            let reloaded = Box::pin(reloading).await;
            let event = match &reloaded {
                Ok(changes) => Event::ConfigurationLoaded {
                    at: SystemTime::now(),
                    hash: self.plan.hash(),
                    changes: *changes,
                },
                Err(report) => Event::ConfigurationRefused {
                    cause: report.in_one_line(),
                },
            };
            self.observer.emit(&event);
            // The caller may be gone.
            let _ = answer.send(reloaded.map_err(ReloadError::Refused));
        }
        std::future::pending::<()>().await;
    }

    async fn reload(
        &mut self,
        read: &ReadConfiguration,
        replacing: &Replacing,
        succession: &Succession,
        background: &CancellationToken,
    ) -> Result<PlanChanges, Report> {
        let read = Arc::clone(read);
        // Files may be slow to read. A panic leaves everything as it is.
        let read = tokio::task::spawn_blocking(move || read()).await;
        let plan = read.unwrap_or_else(|_panic| {
            let message = "it cannot be read because of a defect of Larder, which the log shows";
            Err(Mistake::new(message).into())
        });
        let plan = Arc::new(plan?.following(&self.plan));
        let fixed = plan.fixed_settings_changed(&self.plan);
        if !fixed.is_empty() {
            return Err(fixed);
        }
        let identities = self.next_identities(&plan).await?;
        let read_through = self.read_through.for_plan(Arc::clone(&plan));
        let new = New::of(&plan, &self.plan);
        self.named
            .store(Arc::new(vec![Arc::clone(&self.plan), Arc::clone(&plan)]));
        self.metrics.prepare(&plan);
        if let Err(mistakes) = new.prepare(self, &plan, &read_through).await {
            read_through.maintenance().remove(&new.0);
            self.metrics.follow(&self.plan, &self.plan);
            return Err(mistakes);
        }
        let changes = plan.changes_since(&self.plan);
        self.follow_identities(identities, background);
        self.replace(plan, read_through, replacing, succession)
            .await;
        Ok(changes)
    }

    /// Serves a plan for which everything is prepared.
    async fn replace(
        &mut self,
        plan: Arc<Plan>,
        read_through: ReadThrough,
        replacing: &Replacing,
        succession: &Succession,
    ) {
        let before = std::mem::replace(&mut self.plan, plan);
        let read_before = std::mem::replace(&mut self.read_through, read_through);
        self.named
            .store(Arc::new(vec![Arc::clone(&self.plan), Arc::clone(&before)]));
        self.metrics.follow(&self.plan, &before);
        let (plan, read_through) = (Arc::clone(&self.plan), self.read_through.clone());
        self.status.follow(Arc::clone(&plan), read_through.clone());
        succession.follow(plan, read_through).await;
        replacing
            .serving
            .replace(self.site(replacing.exposure, &replacing.ready));
        let (successor, previous) = (self.read_through.clone(), read_before.clone());
        // There may be a million entries to visit.
        let succeeding = tokio::task::spawn_blocking(move || successor.succeed(&previous));
        // It does not panic.
        let _ = succeeding.await;
        self.remove_when_ended(read_before);
    }

    /// Identifies callers by these from now on, and keeps their keys up to date.
    fn follow_identities(
        &mut self,
        identities: Option<Arc<Identities>>,
        background: &CancellationToken,
    ) {
        let before = std::mem::replace(&mut self.identities, identities);
        let is_same = |(a, b): (&Arc<Identities>, &Arc<Identities>)| Arc::ptr_eq(a, b);
        if self
            .identities
            .as_ref()
            .zip(before.as_ref())
            .is_some_and(is_same)
        {
            return;
        }
        if let Some(identities) = &self.identities {
            identities.follow(&self.repository, &self.observer, background);
        }
        if let Some(before) = before {
            before.end();
        }
    }

    /// The identities of a plan, with their keys. Those of now, if nothing about them changes.
    async fn next_identities(&self, plan: &Plan) -> Result<Option<Arc<Identities>>, Report> {
        let Some(settings) = plan.access() else {
            return Ok(None);
        };
        let before = self.identities.as_ref();
        if let Some(before) = before.filter(|before| before.settings() == settings) {
            return Ok(Some(Arc::clone(before)));
        }
        let identities = match before {
            Some(before) => before.following(settings),
            None => Identities::new(settings),
        };
        let identities = identities.map_err(|error| unusable_file(plan, &error.into()))?;
        let loading = async {
            if !identities.has_stored_keys() {
                let stored = identities.load_stored_keys(&self.repository).await;
                stored.map_err(|error| {
                    Mistake::new(format!("the keys of [access.keys] cannot be read: {error}"))
                })?;
            }
            if let Some((_, error)) = identities
                .load_missing_issuer_keys()
                .await
                .into_iter()
                .next()
            {
                let message = format!("the keys of an issuer of tokens cannot be fetched: {error}");
                return Err(Mistake::new(message));
            }
            Ok(())
        };
        match tokio::time::timeout(KEYS_TIMEOUT, loading).await {
            Ok(loaded) => loaded?,
            Err(_) => {
                let message = format!("the keys of [access] were not there after {KEYS_TIMEOUT:?}");
                return Err(Mistake::new(message).into());
            }
        }
        Ok(Some(Arc::new(identities)))
    }

    /// Removes the entries of endpoints that are gone, once no request and no load uses them.
    fn remove_when_ended(&self, before: ReadThrough) {
        let (ended, gone) = before.into_end(&self.read_through);
        let read_through = self.read_through.clone();
        tokio::spawn(async move {
            ended.await;
            // It visits every entry.
            let removing = move || read_through.maintenance().remove(&gone);
            let _ = tokio::task::spawn_blocking(removing).await;
        });
    }
}

/// The endpoints of a plan that the one before does not have, and what they need before they are served.
struct New(HashSet<EndpointId>);

impl New {
    fn of(plan: &Plan, before: &Plan) -> Self {
        let endpoints = plan.endpoints().iter();
        let new = endpoints.filter(|endpoint| before.find(endpoint.id).is_none());
        Self(new.map(|endpoint| endpoint.id).collect())
    }

    fn has(&self, endpoint: &Endpoint) -> bool {
        self.0.contains(&endpoint.id)
    }

    async fn prepare(
        &self,
        app: &App,
        plan: &Plan,
        read_through: &ReadThrough,
    ) -> Result<(), Report> {
        self.describe_and_check(app, plan, read_through).await?;
        self.load(plan, read_through).await?;
        self.warm(app, plan, read_through).await
    }

    /// Has Postgres describe the new statements, and check the new queries besides them.
    async fn describe_and_check(
        &self,
        app: &App,
        plan: &Plan,
        read_through: &ReadThrough,
    ) -> Result<(), Report> {
        let describe = |id| async move { (id, read_through.describe(id).await) };
        let mut rejections: Vec<Rejection> = stream::iter(self.0.iter().copied())
            .map(describe)
            .buffered(plan.repository().max_connections)
            .filter_map(|(id, described)| async move {
                let subject = Subject::Statement(id);
                described.err().map(|error| Rejection { subject, error })
            })
            .collect()
            .await;
        let queries = side_queries(plan).into_iter();
        let is_new = |query: &Subject| match query {
            Subject::Probe(id) => app.plan.probe(*id).is_none(),
            Subject::WarmStatement(id) => self.0.contains(id),
            // Keys have been read, and the others are no queries.
            Subject::StoredKeys
            | Subject::Statement(_)
            | Subject::ParameterTypes(_)
            | Subject::Parameter(..)
            | Subject::WarmArguments(..)
            | Subject::RunAs(_)
            | Subject::TlsFile(_)
            | Subject::IssuerKeys(_) => false,
        };
        let queries = queries.filter(is_new).collect();
        let failed = check_side_queries(plan, &app.repository, queries).await;
        rejections.extend(failed.rejected);
        rejections.extend(failed.undecided);
        refuse(plan, rejections)
    }

    /// Loads the new endpoints without parameters, so that nobody waits for them. A query that fails would replace an
    /// answer with an error, and is a mistake.
    async fn load(&self, plan: &Plan, read_through: &ReadThrough) -> Result<(), Report> {
        let (now, wall) = (read_through.clock().now(), SystemTime::now());
        let new = || {
            plan.endpoints()
                .iter()
                .filter(|endpoint| self.has(endpoint))
        };
        let timetable = Timetable::new(new(), now, wall);
        for endpoint in new() {
            let due = timetable.due(endpoint.id, now, wall);
            read_through.maintenance().set_due(endpoint.id, due);
        }
        let residents = new().filter(|endpoint| endpoint.is_resident());
        let residents: Vec<&Endpoint> = residents.collect();
        let load = |endpoint: &Endpoint| {
            let id = endpoint.id;
            async move { (id, read_through.refresh(id, Trigger::Warm, None).await) }
        };
        let failed: Vec<EndpointId> = stream::iter(residents.into_iter().map(load))
            .buffer_unordered(LOADS_AT_ONCE)
            .filter_map(
                |(id, outcome)| async move { (outcome == RefreshOutcome::Failed).then_some(id) },
            )
            .collect()
            .await;
        let mut report = Report::new();
        for id in failed {
            let status = read_through.inspect().endpoint(id);
            let cause = status.last_failure.map(|failure| failure.error.to_string());
            let message = format!("its query fails: {}", cause.unwrap_or_default());
            let finding = Finding::new(message);
            report.append(plan.mistake(Subject::Statement(id), &finding));
        }
        if report.is_empty() {
            Ok(())
        } else {
            Err(report)
        }
    }

    /// Loads the keys that are named for the new endpoints.
    async fn warm(&self, app: &App, plan: &Plan, read_through: &ReadThrough) -> Result<(), Report> {
        let described = |endpoint: &Endpoint| {
            let description = || read_through.inspect().description(endpoint.id);
            self.has(endpoint).then(description).flatten()
        };
        let keys = match declared_keys(plan, described) {
            Ok(keys) => keys,
            Err(rejections) => return refuse(plan, rejections),
        };
        let is_new = |endpoint: &Endpoint| self.has(endpoint);
        warm_keys::warm_until_done(
            plan,
            &app.repository,
            read_through,
            &app.observer,
            keys,
            is_new,
        )
        .await;
        Ok(())
    }
}

fn refuse(plan: &Plan, rejections: Vec<Rejection>) -> Result<(), Report> {
    if rejections.is_empty() {
        return Ok(());
    }
    Err(rejected(plan, rejections).unwrap_or_else(|error| {
        Mistake::new(format!("what is new cannot be checked: {error}")).into()
    }))
}
