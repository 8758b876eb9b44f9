//! A Larder without sockets in the bench's own process. Metrics and log work as in `larder serve`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use larder::access::Identities;
use larder::cache::Cache;
use larder::cli::sample;
use larder::config::Config;
use larder::http::{Exposure, Site};
use larder::log::{self, LogFormat};
use larder::metrics::Metrics;
use larder::observe::{Observer, Readiness, Sink};
use larder::plan::Plan;
use larder::read_through::{PostgresSource, ReadThrough};
use larder::repository::Repository;
use larder::repository::throwaway::Throwaway;
use larder::status::{Incidents, Status};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// A few bytes without arguments, and some KiB that are found by their arguments. Nothing goes stale while a bench
/// runs.
pub(crate) const CONFIG: &str = r#"
[repository]
url = "${DATABASE_URL}"

[defaults]
max_age = "1d"

[[endpoint]]
path = "/count"
sql = 'SELECT count(*) FROM "tk-bitio/Sales"."sales_data_sample"'
shape = "tuple"

[[endpoint]]
path = "/sales/{country}"
sql = """
SELECT ordernumber, orderdate, productline, sales
FROM "tk-bitio/Sales"."sales_data_sample"
WHERE country = :country AND (:year::int IS NULL OR year_id = :year)
ORDER BY orderdate, ordernumber
LIMIT :limit"""
params.year = { optional = true, minimum = 2003, maximum = 2005 }
params.limit = { default = 50, minimum = 1, maximum = 500 }
"#;

/// Compiles a configuration for the database at this URL.
pub(crate) fn plan(config: &str, url: &str) -> anyhow::Result<Plan> {
    let environment = |name: &str| (name == "DATABASE_URL").then(|| url.to_owned());
    Config::parse(
        "config.toml",
        config.to_owned(),
        Path::new("."),
        &environment,
    )
    .and_then(Plan::compile)
    .map_err(|report| anyhow::anyhow!("the bench's configuration is wrong:\n{report}"))
}

/// A runtime on this thread, and a throwaway Postgres with the demo's sales, which stops when it is dropped.
pub(crate) fn start() -> anyhow::Result<(Runtime, Throwaway)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let postgres = runtime.block_on(Throwaway::start())?;
    runtime.block_on(sample::load(&postgres))?;
    Ok((runtime, postgres))
}

/// Which sinks get the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sinks {
    /// Those of `larder serve`: metrics, log, status.
    All,
    /// None, to find out what the others cost.
    #[allow(dead_code, reason = "most benches measure the whole")]
    None,
}

/// Everything that answers requests, with every statement described and every resident entry loaded.
pub(crate) async fn site(config: &str, url: &str, heard_by: Sinks) -> anyhow::Result<Site> {
    drop(log::init(None, LogFormat::of_stderr()));
    let plan = Arc::new(plan(config, url)?);
    let metrics = Arc::new(Metrics::new(&plan));
    let (counted, logged) = (Arc::clone(&metrics), [Arc::clone(&plan)]);
    let incidents = Arc::<Incidents>::default();
    let recorded = Arc::clone(&incidents);
    let mut sinks: Vec<Sink> = vec![
        Box::new(move |event| counted.record(event)),
        Box::new(move |event| {
            if log::is_worth_a_line(event) {
                log::record(&logged, event);
            }
        }),
        Box::new(move |event| recorded.record(event)),
    ];
    if heard_by == Sinks::None {
        sinks.clear();
    }
    let observer = Observer::new(sinks);
    let repository = Repository::new(plan.repository(), observer.clone())?;
    let read_through = ReadThrough::new(
        Arc::clone(&plan),
        PostgresSource::new(&plan, repository, observer.clone()),
        Cache::new(&plan, observer.clone()),
        observer.clone(),
    );
    for endpoint in plan.endpoints() {
        let path = endpoint.path.as_str();
        let described = read_through.describe(endpoint.id).await;
        described.with_context(|| format!("cannot describe {path}"))?;
        if endpoint.is_resident() {
            let loaded = read_through.warm(endpoint.id, Default::default()).await;
            loaded.with_context(|| format!("cannot load {path}"))?;
        }
    }
    let status = Status::new(
        Arc::clone(&plan),
        Arc::clone(&metrics),
        read_through.clone(),
        incidents,
    );
    let (_, readiness) = watch::channel(Readiness::Ready);
    let identities = plan.access().map(Identities::new).transpose()?;
    Ok(Site {
        plan,
        identities: identities.map(Arc::new),
        read_through,
        metrics,
        observer,
        status: Arc::new(status),
        exposure: Exposure::Loopback,
        readiness,
    })
}
