//! Events as lines on stderr: one per change of state, none per request unless it is asked for. People
//! read the message; programs read JSON, with what the message names as fields of its own.
//!
//! | part     | does                                                            |
//! |----------|-----------------------------------------------------------------|
//! | `escape` | text from outside, on one line                                  |
//! | `queue`  | lines on their way to stderr, which nobody waits for            |
//! | `panics` | panics as lines, without the values they were made of           |

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
use crate::plan::{EndpointId, Plan};
use escape::Escaped;
use queue::Queue;

/// What is said without `RUST_LOG`. The libraries' own lines are for their developers.
const DEFAULT_FILTER: &str = "warn,larder=info,tokio_cron_scheduler=off";

/// Whatever `RUST_LOG` says: tokio-postgres prints notices, which functions may make of arguments, at
/// `info` and bound values at `debug`.
const TALKATIVE: &str = "tokio_postgres";

/// Lines on their way to stderr.
static LINES: Queue = Queue::new();

/// Who reads the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// People: a time, a level, a sentence.
    Human,
    /// Programs: a JSON object a line.
    Json,
}

impl LogFormat {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Human, Self::Json];

    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
        }
    }

    /// People sit at terminals; elsewhere something collects the lines.
    pub fn of_stderr() -> Self {
        if io::stderr().is_terminal() {
            Self::Human
        } else {
            Self::Json
        }
    }
}

/// Holds that lines are written. Dropped, it waits for them, though not for ever.
#[derive(Debug)]
#[must_use = "lines are written for as long as this is held"]
pub struct Lines(());

impl Lines {
    /// Waits until the lines so far have been written, for a second at most.
    pub fn flush(&self) {
        LINES.flush();
    }

    /// Writes a line as it is, after those so far.
    pub fn write(&self, line: &str) {
        LINES.push(line.as_bytes());
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        LINES.flush();
    }
}

/// How many lines stderr could not take since the start: it was full, or nobody read it.
pub fn lines_dropped() -> u64 {
    LINES.lost()
}

/// A line's way to the queue.
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

/// Sends lines to stderr, those of panics among them; `filter` has the form of `RUST_LOG`. A second
/// call leaves what the first one chose.
pub fn init(filter: Option<&str>, format: LogFormat) -> Lines {
    static STARTED: Once = Once::new();
    STARTED.call_once(start);
    let (filter, ignored) = filter_of(filter);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Line)
        .log_internal_errors(false)
        .with_target(false);
    // It fails only where there is one already, as in a bench that builds many servers.
    let _ = match format {
        LogFormat::Human => lines
            .with_ansi(io::stderr().is_terminal())
            .fmt_fields(debug_fn(|to, field, value| match field.name() {
                "message" => write!(Escaped(to), "{value:?}"),
                // The message says it too.
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

/// Starts the writing, and has panics written as well.
fn start() {
    let tell = |lines| tracing::warn!(lines, "stderr could not take {lines} lines of the log");
    let writing = std::thread::Builder::new().name("log".to_owned());
    let writing = writing.spawn(move || LINES.write_to(io::stderr(), tell));
    // Without the thread nothing is logged, which is counted, and the server serves all the same.
    if writing.is_err() {
        LINES.close();
    }
    panics::hook();
}

/// What is said, and what of `text` has no effect on it.
fn filter_of(text: Option<&str>) -> (EnvFilter, Vec<&str>) {
    let directives = text.unwrap_or(DEFAULT_FILTER).split(',');
    let (taken, ignored): (Vec<&str>, Vec<&str>) = directives
        .filter(|directive| !directive.is_empty())
        .partition(|it| !it.starts_with(TALKATIVE) && it.parse::<Directive>().is_ok());
    let quiet = format!("{TALKATIVE}=warn");
    let quiet = quiet.parse().expect("it is one");
    // Each was found to be one, so that nothing is printed about them.
    let filter = EnvFilter::builder().parse_lossy(taken.join(","));
    (filter.add_directive(quiet), ignored)
}

/// Says that the server listens.
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

/// Says what the operator should know although it is no mistake.
pub fn caution(sentence: &str) {
    tracing::warn!("{sentence}");
}

/// Says that there may be too few file descriptors.
pub fn descriptors_short(limit: u64, needed: u64) {
    tracing::warn!(
        "the system allows {limit} open files, and with max_connections it may take {needed}: raise \
         the limit (ulimit -Hn, LimitNOFILE=), or lower max_connections of [server]"
    );
}

/// Writes an event's line, if it is worth one.
pub fn record(plan: &Arc<Plan>, event: &Event) {
    let path = |id: EndpointId| plan.endpoint(id).path.as_str();
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
            let sql = plan.probes()[probe.index()].sql.escape_debug();
            let whose = fault.as_str();
            tracing::warn!(
                fault = whose,
                "the probe `{sql}` fails (fault: {whose}): {cause}"
            );
        }
        Event::ProbeRecovered { probe } => {
            let sql = plan.probes()[probe.index()].sql.escape_debug();
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
                "{endpoint}: a query of {query_time:?} is too slow to load answers ahead that are \
                 fresh for {max_age:?}; raise max_age"
            );
        }
        Event::RepositoryReached => tracing::info!("the repository is reached"),
        Event::RepositoryLost { cause } => tracing::warn!("the repository is lost: {cause}"),
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
                "an answer of {endpoint} can not be had in another form: {cause}"
            );
        }
        Event::CertificateRenewed => tracing::info!("the certificate was renewed"),
        Event::CertificateRefused { cause } => {
            tracing::error!(
                "the certificate's new files can not be used, the old one stays: {cause}"
            );
        }
        Event::CertificateRestored => {
            tracing::info!("the certificate's files are again those in use");
        }
        Event::CertificateOutOfDate { cause } => {
            tracing::warn!("no client will take the certificate: {cause}");
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
            tracing::error!(task, "the task `{task}` {end}, and is started again");
        }
        Event::ConnectionRefused => {
            tracing::debug!("a client connection was refused: too many are open");
        }
        Event::SlowClientCut => {
            tracing::debug!("a client was cut off: it takes too little, or holds too much");
        }
        Event::RequestServed {
            endpoint,
            cache,
            code,
            elapsed,
            age,
            stale_if_error: _,
        } => {
            // Never what was asked for: arguments are the clients' own affair.
            let (endpoint, cache) = (endpoint.map_or("", path), cache.as_str());
            let (took, age) = (elapsed.as_secs_f64(), age.map(|age| age.as_secs_f64()));
            tracing::debug!(
                target: "larder::access",
                endpoint, cache, code, took, age,
                "{code} {cache} {endpoint} in {elapsed:?}"
            );
        }
        // The queue says so itself, once lines can be written again.
        Event::LogLinesDropped { .. }
        | Event::ProblemServed { .. }
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
