//! Events as log lines on stderr: one per change of state, and none per request unless `RUST_LOG` asks for
//! it. The message is for people; JSON lines also have its parts as fields.
//!
//! | part     | does                                                       |
//! |----------|------------------------------------------------------------|
//! | `escape` | keeps text from outside on one line                        |
//! | `queue`  | writes lines in the background, so that nothing waits for stderr |
//! | `panics` | logs panics, without the values in their messages          |

mod escape;
mod panics;
mod queue;

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Once};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;
use tracing_subscriber::fmt::format::debug_fn;

pub use escape::escaped;

use crate::observe::{Event, Fault};
use crate::plan::{EndpointId, IssuerId, Plan, PlanChanges, ProbeId};
use escape::Escaped;
use queue::Queue;

/// The filter without `RUST_LOG`. The libraries' lines are for their developers.
const DEFAULT_FILTER: &str = "warn,larder=info,tokio_cron_scheduler=off";

/// A crate that is limited to warnings whatever `RUST_LOG` says. tokio-postgres logs notices, in which
/// functions may put arguments, at `info`, and bound values at `debug`.
const LIMITED_CRATE: &str = "tokio_postgres";

/// The lines that wait to be written.
static LINES: Queue = Queue::new();

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: a time, a level, a sentence.
    Human,
    /// For programs: one JSON object per line.
    Json,
}

impl LogFormat {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Human, Self::Json];

    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
        }
    }

    /// Human if stderr is a terminal, JSON otherwise.
    pub fn of_stderr() -> Self {
        if io::stderr().is_terminal() {
            Self::Human
        } else {
            Self::Json
        }
    }
}

/// Keeps the log open. Dropping it waits, for a limited time, until the lines so far have been written.
#[derive(Debug)]
#[must_use = "lines are written for as long as this is held"]
pub struct Lines(());

impl Lines {
    /// Waits until the lines so far have been written, for a second at most.
    pub fn flush(&self) {
        LINES.flush();
    }

    /// Writes a line as it is, after the lines so far.
    pub fn write(&self, line: &str) {
        LINES.push(line.as_bytes());
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        LINES.flush();
    }
}

/// How many lines have been dropped since the start because stderr did not take them.
pub fn lines_dropped() -> u64 {
    LINES.dropped()
}

/// Pushes formatted lines to the queue.
struct Line;

impl io::Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LINES.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts logging to stderr, panics included. `filter` has the syntax of `RUST_LOG`. A second call changes
/// nothing.
pub fn init(filter: Option<&str>, format: LogFormat) -> Lines {
    static STARTED: Once = Once::new();
    STARTED.call_once(start);
    let (filter, ignored) = filter_of(filter);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Line)
        .log_internal_errors(false)
        .with_target(false);
    // It fails only if there is a subscriber already, as in a bench that builds many servers.
    let _ = match format {
        LogFormat::Human => lines
            .with_ansi(io::stderr().is_terminal())
            .fmt_fields(debug_fn(|to, field, value| match field.name() {
                "message" => write!(Escaped(to), "{value:?}"),
                // The message contains it.
                _ => Ok(()),
            }))
            .try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    for directive in ignored {
        tracing::warn!("RUST_LOG: `{directive}` is ignored");
    }
    Lines(())
}

/// Starts the writing thread and the panic hook.
fn start() {
    let report = |lines| {
        tracing::warn!(
            lines,
            "{lines} log lines were dropped: stderr was full or not read"
        );
    };
    let writing = std::thread::Builder::new().name("log".to_owned());
    let writing = writing.spawn(move || LINES.write_to(io::stderr(), report));
    // Without the thread, lines are dropped and counted, and the server still serves.
    if writing.is_err() {
        LINES.close();
    }
    panics::install_hook();
}

/// The filter, and the directives of `text` that are ignored.
fn filter_of(text: Option<&str>) -> (EnvFilter, Vec<&str>) {
    let directives = text.unwrap_or(DEFAULT_FILTER).split(',');
    let (taken, ignored): (Vec<&str>, Vec<&str>) = directives
        .filter(|directive| !directive.is_empty())
        .partition(|it| !it.starts_with(LIMITED_CRATE) && it.parse::<Directive>().is_ok());
    let quiet = format!("{LIMITED_CRATE}=warn");
    let quiet = quiet.parse().expect("a valid directive");
    // Each of them parses, so that nothing is printed about them.
    let filter = EnvFilter::builder().parse_lossy(taken.join(","));
    (filter.add_directive(quiet), ignored)
}

/// Logs that the server listens.
pub fn listening(address: std::net::SocketAddr, plan: &Plan) {
    let (version, endpoints) = (env!("CARGO_PKG_VERSION"), plan.endpoints().len());
    let s = if endpoints == 1 { "" } else { "s" };
    let scheme = if plan.server().tls.is_some() {
        "https"
    } else {
        "http"
    };
    let url = format!("{scheme}://{address}");
    tracing::info!(
        version,
        url,
        endpoints,
        "larder {version} serves {endpoints} endpoint{s} on {url}"
    );
}

/// Logs a warning about the configuration.
pub fn warning(sentence: &str) {
    tracing::warn!("{sentence}");
}

/// Warns that the limit on open files may be too low.
pub fn too_few_files(limit: u64, needed: u64) {
    tracing::warn!(
        "the system allows {limit} open files, but max_connections may need {needed}: raise the limit \
         (ulimit -Hn, LimitNOFILE=), or lower max_connections of [server]"
    );
}

/// Whether an event may be worth a line. Each request is one, and they are logged only if `RUST_LOG` asks for it.
pub fn is_worth_a_line(event: &Event) -> bool {
    !matches!(event, Event::RequestServed { .. })
        || tracing::enabled!(target: "larder::access", tracing::Level::DEBUG)
}

/// Logs an event. `plans` has the names: the current plan, and those that loads or requests may
/// still be of.
pub fn record(plans: &[Arc<Plan>], event: &Event) {
    let path = |id: EndpointId| {
        let endpoint = plans.iter().find_map(|plan| plan.find(id));
        endpoint.map_or("", |endpoint| endpoint.path.as_str())
    };
    let probe_sql = |id: ProbeId| {
        let probe = plans.iter().find_map(|plan| plan.probe(id));
        probe.map_or("", |probe| probe.sql.as_str()).escape_debug()
    };
    let Some(plan) = plans.first() else { return };
    match event {
        Event::LoadsFailing {
            endpoint,
            fault,
            cause,
        } => {
            let (endpoint, fault, whose) = (path(*endpoint), *fault, fault.as_str());
            let text = format!("loading {endpoint} fails (fault: {whose}): {cause}");
            match fault {
                Fault::Client => tracing::info!(endpoint, fault = whose, "{text}"),
                Fault::Repository => tracing::warn!(endpoint, fault = whose, "{text}"),
                Fault::Configuration | Fault::Ours => {
                    tracing::error!(endpoint, fault = whose, "{text}");
                }
            }
        }
        Event::LoadsRecovered { endpoint } => {
            let endpoint = path(*endpoint);
            tracing::info!(endpoint, "loading {endpoint} succeeds again");
        }
        Event::ProbeFailing {
            probe,
            fault,
            cause,
        } => {
            let sql = probe_sql(*probe);
            let whose = fault.as_str();
            tracing::warn!(
                fault = whose,
                "the probe `{sql}` fails (fault: {whose}): {cause}"
            );
        }
        Event::ProbeRecovered { probe } => {
            let sql = probe_sql(*probe);
            tracing::info!("the probe `{sql}` succeeds again");
        }
        Event::Listening => tracing::info!("listening for notifications"),
        Event::ListeningFailed { cause } => {
            tracing::warn!("not listening for notifications: {cause}");
        }
        Event::AheadTooSlow {
            endpoint,
            query_time,
            max_age,
        } => {
            let endpoint = path(*endpoint);
            tracing::warn!(
                endpoint,
                "{endpoint}: a query that takes {query_time:?} is too slow to refresh answers ahead of time \
                 that are fresh for {max_age:?}; raise max_age"
            );
        }
        Event::ConfigurationLoaded { hash, changes, .. } => {
            let PlanChanges {
                changed,
                added,
                removed,
                kept,
            } = changes;
            let hash = format!("{hash:016x}");
            tracing::info!(
                changed,
                added,
                removed,
                kept,
                hash,
                "the configuration was reloaded; endpoints: {changed} changed, {added} added, {removed} removed, {kept} kept"
            );
        }
        Event::ConfigurationRefused { cause } => {
            tracing::error!(
                "the configuration was not reloaded, and the one before stays in use: {cause}"
            );
        }
        Event::RepositoryReached => tracing::info!("connected to the repository"),
        Event::RepositoryLost { cause } => {
            tracing::warn!("lost the connection to the repository: {cause}");
        }
        Event::StatementRedescribed { endpoint } => {
            let endpoint = path(*endpoint);
            tracing::warn!(
                endpoint,
                "the parameters or columns of {endpoint} changed; its statement was described again"
            );
        }
        Event::StartupAdvanced { stage, done, of } => {
            let stage = stage.as_str();
            tracing::info!(stage, done, of, "{done} of {of} {stage}");
        }
        Event::ReadinessChanged { readiness } => tracing::info!("now {}", readiness.as_str()),
        Event::RepresentationFailed { endpoint, cause } => {
            let endpoint = path(*endpoint);
            tracing::error!(
                endpoint,
                "an answer of {endpoint} cannot be converted to the requested format or encoding: {cause}"
            );
        }
        Event::CertificateRenewed => tracing::info!("the certificate was renewed"),
        Event::CertificateRefused { cause } => {
            tracing::error!(
                "the new certificate cannot be used; the old one stays in use: {cause}"
            );
        }
        Event::CertificateRestored => {
            tracing::info!("the certificate files match the certificate in use again");
        }
        Event::CertificateOutOfDate { cause } => {
            tracing::warn!("clients will reject the certificate: {cause}");
        }
        Event::StoredKeysFailing { cause } => {
            tracing::warn!("the keys of [access.keys] cannot be read: {cause}");
        }
        Event::StoredKeysRecovered => {
            tracing::info!("the keys of [access.keys] can be read again");
        }
        Event::IssuerKeysLoaded {
            issuer,
            is_change: true,
            ..
        } => {
            let issuer = issuer_name(plan, *issuer);
            tracing::info!(issuer, "new keys of the issuer {issuer} are in use");
        }
        Event::IssuerKeysFailing { issuer, cause } => {
            let issuer = issuer_name(plan, *issuer);
            tracing::warn!(
                issuer,
                "the keys of the issuer {issuer} cannot be read, and earlier ones stay in use: {cause}"
            );
        }
        Event::IssuerKeysRecovered { issuer } => {
            let issuer = issuer_name(plan, *issuer);
            tracing::info!(issuer, "the keys of the issuer {issuer} can be read again");
        }
        Event::AcceptFailing { cause } => {
            tracing::error!(
                "no client can connect: {cause}; see `ulimit -n` and `max_connections`"
            );
        }
        Event::AcceptRecovered => tracing::info!("clients can connect again"),
        Event::HandlerPanicked => {
            tracing::error!("a request handler panicked; its client got a 500");
        }
        Event::TaskFailed { task, end } => {
            let (task, end) = (task.as_str(), end.as_str());
            tracing::error!(task, "the task `{task}` {end} and is restarted");
        }
        Event::ConnectionRefused => {
            tracing::debug!("a client connection was refused: too many are open");
        }
        Event::SlowClientCut => {
            tracing::debug!("a client was cut off: it reads too slowly, or holds too much memory");
        }
        Event::RequestServed {
            endpoint,
            client,
            cache,
            code,
            problem: _,
            elapsed,
            age,
            stale_if_error: _,
        } => {
            // The request itself is never logged: arguments are private to the client.
            let (endpoint, cache) = (endpoint.map_or("", path), cache.as_str());
            let client = || {
                let client = (*client)?;
                let mut plans = plans.iter();
                plans.find_map(|plan| plan.access()?.client_name(client))
            };
            let (took, age) = (elapsed.as_secs_f64(), age.map(|age| age.as_secs_f64()));
            tracing::debug!(
                target: "larder::access",
                endpoint, client = client(), cache, code, took, age,
                "{code} {cache} {endpoint} in {elapsed:?}"
            );
        }
        // The queue reports it, once lines can be written again.
        Event::LogLinesDropped { .. }
        | Event::StoredKeysLoaded { .. }
        | Event::IssuerKeysLoaded { .. }
        | Event::QueryFinished { .. }
        | Event::RefreshFinished { .. }
        | Event::ConnectionOpened
        | Event::ConnectionClosed
        | Event::CacheMeasured { .. }
        | Event::EntryEvicted
        | Event::PendingMeasured { .. }
        | Event::WaitingMeasured { .. }
        | Event::ConnectionsMeasured { .. } => {}
    }
}
fn issuer_name(plan: &Plan, id: IssuerId) -> &str {
    let issuers = plan.access().map(|access| &access.issuers);
    let issuer = issuers.and_then(|issuers| issuers.get(id.index()));
    issuer.map_or("", |issuer| &issuer.name)
}
