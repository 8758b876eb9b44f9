//! Larder as a test runs it: the whole of it, on a port of its own, with an ear for its events.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use larder::app::{App as Larder, Rejection, ReloadError, Reloader, RunError};
use larder::config::{Config, Report};
use larder::observe::{Event, Readiness, Sink};
use larder::plan::{Plan, PlanChanges};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::http::{self, Answer, Connection};
use super::postgres::Postgres;

/// A running Larder. Dropped, it stops at once.
#[derive(Debug)]
pub(crate) struct App {
    address: SocketAddr,
    events: Arc<Events>,
    shutdown: CancellationToken,
    running: JoinHandle<Result<bool, RunError>>,
    reloader: Reloader,
    /// The configuration that is read when it reloads.
    written: Arc<Mutex<Written>>,
}

/// A configuration, and the Postgres that it is for.
#[derive(Debug, Default)]
struct Written {
    url: String,
    text: String,
}

#[derive(Debug, Default)]
struct Events {
    seen: Mutex<Vec<Event>>,
    more: Notify,
}

impl App {
    /// Larder on this Postgres, ready to serve the endpoints, which are written as in config.toml;
    /// tables before them may say more.
    pub(crate) async fn start(postgres: &Postgres, endpoints: &str) -> Self {
        let app = Self::launch(postgres.url(), "", endpoints).await;
        app.wait_until_ready().await;
        app
    }

    /// Larder on the Postgres that is, or is not, at this URL, with more settings for `[repository]`.
    pub(crate) async fn launch(url: &str, repository: &str, endpoints: &str) -> Self {
        Self::launch_plan(plan(url, repository, endpoints)).await
    }

    /// Larder with more settings for `[server]`, ready to serve.
    pub(crate) async fn start_with(postgres: &Postgres, server: &str, endpoints: &str) -> Self {
        let app = Self::launch_plan(plan_with(postgres.url(), server, "", endpoints)).await;
        app.wait_until_ready().await;
        app
    }

    /// Larder on this Postgres, with somebody else who hears its events and may panic over them: what
    /// emitted an event panics then as if it had a defect of its own.
    pub(crate) async fn launch_with(postgres: &Postgres, endpoints: &str, hears: Sink) -> Self {
        Self::launch_observed(plan(postgres.url(), "", endpoints), vec![hears]).await
    }

    async fn launch_plan(plan: Plan) -> Self {
        Self::launch_observed(plan, Vec::new()).await
    }

    async fn launch_observed(plan: Plan, others: Vec<Sink>) -> Self {
        let events = Arc::new(Events::default());
        let heard = Arc::clone(&events);
        let sink: Sink = Box::new(move |event| {
            heard.seen.lock().unwrap().push(event.clone());
            heard.more.notify_waiters();
        });
        let sinks = [sink].into_iter().chain(others).collect();
        let plan = Arc::new(plan);
        let listener = TcpListener::bind(plan.server().listen.to_string())
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("it has been bound");
        let mut larder = Larder::build(Arc::clone(&plan), sinks).expect("the url can be used");
        let written = Arc::new(Mutex::new(Written {
            url: plan.repository().url.expose().to_owned(),
            text: String::new(),
        }));
        let read = Arc::clone(&written);
        let reloader = larder.reloader(Arc::new(move || {
            let written = read.lock().unwrap();
            compile(&written.url, &written.text)
        }));
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(larder.run(listener, shutdown.clone()));
        Self {
            address,
            events,
            shutdown,
            running,
            reloader,
            written,
        }
    }

    /// Reloads with other endpoints, or whatever else is written as in config.toml after `[repository]`.
    pub(crate) async fn reload(&self, endpoints: &str) -> Result<PlanChanges, ReloadError> {
        self.reload_text(&text("", "", endpoints)).await
    }

    /// Reloads with this text as config.toml.
    pub(crate) async fn reload_text(&self, text: &str) -> Result<PlanChanges, ReloadError> {
        text.clone_into(&mut self.written.lock().unwrap().text);
        self.reloader.reload().await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `GET`s a target over a connection of its own.
    pub(crate) async fn get(&self, target: &str) -> Answer {
        http::get(self.address, target).await
    }

    /// `GET`s a target again and again until the answer is like that.
    pub(crate) async fn poll(&self, target: &str, is_it: impl Fn(&Answer) -> bool) -> Answer {
        let mut connection = Connection::open(self.address).await;
        loop {
            let answer = connection.get(target).await;
            if is_it(&answer) {
                return answer;
            }
        }
    }

    /// Waits until it is ready.
    pub(crate) async fn wait_until_ready(&self) {
        self.wait_for(1, |event| {
            matches!(
                event,
                Event::ReadinessChanged {
                    readiness: Readiness::Ready
                }
            )
        })
        .await;
    }

    /// Waits until `count` events since the start were like that.
    pub(crate) async fn wait_for(&self, count: usize, is_it: impl Fn(&Event) -> bool) {
        loop {
            let more = self.events.more.notified();
            tokio::pin!(more);
            // From here on, nothing that happens is missed.
            more.as_mut().enable();
            if self.count(&is_it) >= count {
                return;
            }
            more.await;
        }
    }

    /// How many events since the start were like that.
    pub(crate) fn count(&self, is_it: impl Fn(&Event) -> bool) -> usize {
        self.events
            .seen
            .lock()
            .unwrap()
            .iter()
            .filter(|event| is_it(event))
            .count()
    }

    /// Queries that have ended since the start.
    pub(crate) fn queries(&self) -> usize {
        self.count(|event| matches!(event, Event::QueryFinished { .. }))
    }

    /// Waits for it to end because parts of the configuration cannot be served, and returns those.
    pub(crate) async fn rejections(mut self) -> Vec<Rejection> {
        let ended = (&mut self.running).await.expect("it does not panic");
        match ended {
            Err(RunError::Rejected(rejections)) => rejections,
            other => panic!("expected rejections, got {other:?}"),
        }
    }

    /// Tells it to stop, and says whether every request could end.
    pub(crate) async fn stop(self) -> bool {
        self.stop_and_count(|_| false).await.0
    }

    /// As [`App::stop`]; and how many such events there were to the end.
    pub(crate) async fn stop_and_count(mut self, is_it: impl Fn(&Event) -> bool) -> (bool, usize) {
        self.shutdown.cancel();
        let ended = (&mut self.running).await.expect("it does not panic");
        (ended.expect("it was stopped"), self.count(is_it))
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.running.abort();
    }
}

/// What Larder makes of such a configuration.
pub(crate) fn plan(url: &str, repository: &str, endpoints: &str) -> Plan {
    plan_with(url, "", repository, endpoints)
}

fn plan_with(url: &str, server: &str, repository: &str, endpoints: &str) -> Plan {
    let plan = compile(url, &text(server, repository, endpoints));
    plan.unwrap_or_else(|report| panic!("the test's configuration is wrong:\n{report}"))
}

pub(crate) fn text(server: &str, repository: &str, endpoints: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n{server}\n\
         [repository]\nurl = \"${{DATABASE_URL}}\"\n{repository}\n{endpoints}"
    )
}

fn compile(url: &str, text: &str) -> Result<Plan, Report> {
    let environment = |name: &str| (name == "DATABASE_URL").then(|| url.to_owned());
    let config = Config::parse("config.toml", text.to_owned(), Path::new("."), &environment)?;
    Plan::compile(config)
}
