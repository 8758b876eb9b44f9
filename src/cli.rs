//! The operator's hands: what is typed, what is printed, and how the process ends.

pub mod sample;

mod check;
mod demo;
mod openapi;
mod serve;
mod table;

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::{self, Rejection, TlsError};
use crate::config::{Config, Mistake, Report};
use crate::log::{self, Lines, LogFormat, escaped};
use crate::plan::{Endpoint, Finding, Listen, Mismatch, Plan, Subject};
use crate::repository::Refusal;
use crate::repository::RepositoryError;

/// Turns SQL you declare into REST endpoints over Postgres, answered from memory and kept fresh in
/// the background.
#[derive(Debug, Parser)]
#[command(name = "larder", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The form of the lines about what happens: human on a terminal, json elsewhere.
    #[arg(long, global = true, value_name = "FORMAT", value_parser = log_format)]
    log_format: Option<LogFormat>,
}

fn log_format(word: &str) -> Result<LogFormat, String> {
    let found = LogFormat::ALL
        .into_iter()
        .find(|format| format.as_str() == word);
    found.ok_or_else(|| "it is human or json".to_owned())
}

fn listen(text: &str) -> Result<Listen, String> {
    let help = "it is an address or a name, and a port, as in localhost:8080";
    Listen::parse(text).ok_or_else(|| help.to_owned())
}

fn server_url(text: &str) -> Result<String, String> {
    let is_url = ["https://", "http://"].iter().any(|scheme| {
        text.strip_prefix(scheme)
            .is_some_and(|rest| !rest.is_empty())
    });
    let is_written = text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_url && is_written && !text.contains(['?', '#']) {
        Ok(text.to_owned())
    } else {
        Err("it is a URL, as in https://api.example/sales".to_owned())
    }
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 the configuration or the repository is wrong, 2 wrong usage.
Lines about what happens go to stderr; RUST_LOG chooses which, as in RUST_LOG=larder=debug. One for each
answer is among RUST_LOG=info,larder::access=debug. Larder's own lines hold nothing that a client sent; those
that libraries write at debug or trace may. Lines that stderr cannot take in time are dropped and counted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the declared endpoints.
    ///
    /// Listens at once and is ready (see /readyz) when every statement is described by Postgres and
    /// every endpoint without parameters is loaded. While Postgres is away it keeps trying. SIGTERM,
    /// SIGINT (Ctrl-C), SIGQUIT or SIGHUP (the terminal closes; ignored under nohup) ends it: it stops
    /// accepting, finishes what runs, then leaves. A second SIGTERM, SIGINT or SIGQUIT ends it at once.
    #[command(after_help = AFTER_HELP)]
    Serve {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Report every mistake in the configuration.
    ///
    /// Has Postgres prepare every statement as well, and prints a table of the endpoints with their
    /// parameters, columns, schedules, and the most queries they can cause.
    ///
    /// Then runs each query once and times each probe, one at a time and within the limits of a load, and
    /// says which share of max_connections they will keep busy. With parameters, a query is run for its
    /// first key in `warm` or `warm_sql`, or if none is required. One that fails, takes longer than its
    /// timeout or returns more than max_rows or max_bytes is a mistake. Queries too slow for their
    /// schedule are a warning, and the exit code stays 0: the next run may be faster.
    #[command(after_help = AFTER_HELP)]
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Look at the file alone; connect to nothing.
        #[arg(long)]
        offline: bool,
        /// Have the statements prepared, and run none of them but probes.
        #[arg(long, conflicts_with = "offline")]
        no_measure: bool,
    },
    /// Print the endpoints as an OpenAPI 3.1 document.
    ///
    /// The document that a server shows at /openapi.json, for client generators and reviews. Has Postgres
    /// prepare every statement, which tells the types, and runs none of the endpoints' queries: so it has
    /// no examples of answers, which a server takes from memory.
    #[command(after_help = AFTER_HELP)]
    Openapi {
        #[command(flatten)]
        config: ConfigFile,
        /// The URL under which clients find the endpoints; default: that of the document's folder.
        #[arg(long, value_name = "URL", value_parser = server_url)]
        server: Option<String>,
    },
    /// Try it: a Postgres of its own with made-up sales, and the shipped configuration on it.
    ///
    /// Needs the PostgreSQL server's programs on this machine. Its data lives in a temporary folder
    /// and is gone when the demo ends.
    #[command(after_help = AFTER_HELP)]
    Demo {
        /// Serve this configuration instead of the shipped one; ${DATABASE_URL} in it is the demo's.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Listen here instead of where the configuration says: an address or a name, and a port.
        #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
        listen: Option<Listen>,
    },
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration.
    #[arg(short, long, value_name = "FILE", default_value = "config.toml")]
    config: PathBuf,
}

/// What ends a command early.
#[derive(Debug)]
enum Failure {
    /// Mistakes in the configuration, or that Postgres found in it.
    Mistakes(Report),
    /// Anything else.
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self::Mistakes(report)
    }
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.log_format.unwrap_or_else(LogFormat::of_stderr);
    let lines = log::init(std::env::var("RUST_LOG").ok().as_deref(), format);
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => explain(&failure, &lines),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?;
    runtime.block_on(async {
        match command {
            Command::Serve { config } => serve::serve(&config.config).await,
            Command::Check {
                config,
                offline,
                no_measure,
            } => match (offline, no_measure) {
                (true, _) => check::offline(&config.config),
                (false, true) => check::described(&config.config).await,
                (false, false) => check::measured(&config.config).await,
            },
            Command::Openapi { config, server } => {
                openapi::openapi(&config.config, server.as_deref()).await
            }
            Command::Demo { config, listen } => demo::demo(config.as_deref(), listen).await,
        }
    })
}

/// Says on stderr what went wrong.
fn explain(failure: &Failure, lines: &Lines) -> ExitCode {
    match failure {
        // However long it is, and however long it takes to read: it is what the command is for.
        Failure::Mistakes(report) => {
            lines.flush();
            let text = if std::io::stderr().is_terminal() {
                report.coloured()
            } else {
                report.to_string()
            };
            // Nobody is left to hear that stderr is closed.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        // A server that ends does not stay because nobody reads why.
        Failure::Other(error) => {
            lines.write(&format!("error: {}\n", escaped(&format!("{error:#}"))));
        }
    }
    ExitCode::FAILURE
}

/// Writes to stdout; a reader that has gone away is not an error. What it says of others is shown as
/// it is written, and breaks no line.
fn say(text: &str) -> anyhow::Result<()> {
    let lines: Vec<_> = text.split('\n').map(escaped).collect();
    let mut out = std::io::stdout().lock();
    let said = out.write_all(lines.join("\n").as_bytes());
    match said.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow::anyhow!("cannot write to stdout: {error}"))
        }
        _ => Ok(()),
    }
}

fn load(path: &Path) -> Result<Arc<Plan>, Failure> {
    let config = Config::load(path, &|name| std::env::var(name).ok())?;
    let plan = Plan::compile(config)?;
    app::check_files(&plan).map_err(|error| unusable_file(&plan, &error))?;
    Ok(Arc::new(plan))
}

/// A file that cannot be used, shown where it is named.
fn unusable_file(plan: &Plan, error: &TlsError) -> Failure {
    let finding = Finding {
        help: Some(error.help.to_owned()),
        ..Finding::new(&error.reason)
    };
    Failure::Mistakes(plan.mistake(Subject::TlsFile(error.file), &finding))
}

/// What cannot be served, shown where the configuration declares it.
fn rejected(plan: &Plan, rejections: Vec<Rejection>) -> Failure {
    let mut report = Report::new();
    let mut other = None;
    for Rejection { subject, error } in rejections {
        match error {
            RepositoryError::Refused { refusal } => report.append(refused(plan, subject, refusal)),
            RepositoryError::Failed { refusal } => {
                let finding = Finding {
                    detail: refusal.detail,
                    ..Finding::new(format!(
                        "the query fails: {} ({})",
                        refusal.message, refusal.code
                    ))
                };
                report.append(plan.mistake(subject, &finding));
            }
            RepositoryError::Unusable { mistakes } => {
                for mismatch in mistakes {
                    report.append(unusable(plan, subject, mismatch));
                }
            }
            // These concern the whole repository: one is enough, and what Postgres did find comes first.
            RepositoryError::Settings { .. }
            | RepositoryError::Unavailable { .. }
            | RepositoryError::TimedOut { .. }
            | RepositoryError::Cancelled { .. }
            | RepositoryError::SessionEnded { .. }
            | RepositoryError::TooManyRows { .. }
            | RepositoryError::ArgumentRefused { .. }
            | RepositoryError::Busy { .. }
            | RepositoryError::Outdated { .. } => other = other.or(Some(error)),
        }
    }
    match other {
        Some(error) if report.is_empty() => Failure::Other(error.into()),
        Some(error) => {
            report.push(Mistake::new(format!(
                "not everything could be checked: {error}"
            )));
            Failure::Mistakes(report)
        }
        None => Failure::Mistakes(report),
    }
}

/// SQLSTATEs for a parameter whose type Postgres cannot determine, or determines to be two:
/// indeterminate_datatype and ambiguous_parameter.
const UNTYPED: [&str; 2] = ["42P18", "42P08"];

fn refused(plan: &Plan, subject: Subject, refusal: Refusal) -> Report {
    let is_untyped = UNTYPED.contains(&refusal.code.as_str());
    let subject = match (subject, is_untyped) {
        (Subject::Statement(id), true) => Subject::ParameterTypes(id),
        (subject, _) => subject,
    };
    let finding = Finding {
        detail: refusal.detail,
        position: refusal.position,
        ..Finding::new(format!(
            "Postgres refuses this statement: {}",
            refusal.message
        ))
    };
    plan.mistake(subject, &finding)
}

fn unusable(plan: &Plan, subject: Subject, mismatch: Mismatch) -> Report {
    let index_of = |endpoint: &Endpoint, name: &String| {
        let mut parameters = endpoint.parameters.iter();
        parameters.position(|parameter| parameter.name == *name)
    };
    let subject = match (subject, &mismatch.parameter) {
        (Subject::Statement(id), Some(name)) => {
            index_of(plan.endpoint(id), name).map_or(subject, |index| Subject::Parameter(id, index))
        }
        (subject, _) => subject,
    };
    plan.mistake(subject, &Finding::new(mismatch.text))
}

/// What signals ask for.
#[derive(Clone)]
struct Stop {
    /// After the first: to end in good order.
    gently: CancellationToken,
    /// After the second: to end at once.
    at_once: CancellationToken,
}

/// Hears the signals that ask a server to end.
fn stop() -> anyhow::Result<Stop> {
    let stop = Stop {
        gently: CancellationToken::new(),
        at_once: CancellationToken::new(),
    };
    for kind in [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::quit(),
    ] {
        hear(kind, &stop, |stop| {
            if stop.gently.is_cancelled() {
                stop.at_once.cancel();
            }
            stop.gently.cancel();
        })?;
    }
    // A terminal that closes may say so twice, through its shell as well.
    if !is_hangup_ignored() {
        hear(SignalKind::hangup(), &stop, |stop| stop.gently.cancel())?;
    }
    Ok(stop)
}

fn hear(kind: SignalKind, stop: &Stop, then: fn(&Stop)) -> anyhow::Result<()> {
    let mut signals = signal(kind)?;
    let stop = stop.clone();
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            then(&stop);
        }
    });
    Ok(())
}

/// Whether this process was started with SIGHUP ignored, as nohup does: then it outlives its terminal.
/// Told by Linux; elsewhere it is not known.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    is_ignored(&status, Signal::SIGHUP)
}

/// Whether a signal is among those in the mask `SigIgn` of proc_pid_status(5), of which the lowest bit is
/// signal 1.
fn is_ignored(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal as i32 - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signals_that_are_ignored_are_read_from_linux() {
        let status = "Name:\tlarder\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(status, Signal::SIGHUP));
        assert!(is_ignored(status, Signal::SIGPIPE));
        assert!(!is_ignored(status, Signal::SIGINT));
        assert!(!is_ignored("", Signal::SIGHUP));
        assert!(!is_ignored("SigIgn:\tx\n", Signal::SIGHUP));
    }
}
