//! The command line: its arguments, its output, and its exit codes.

pub mod sample; // the demo's data

mod allocator; // has glibc return memory
mod check; // `larder check`
mod demo; // `larder demo`
mod key; // `larder key`
mod openapi; // `larder openapi`
mod reload; // when the configuration is read again
mod serve; // `larder serve`
mod table; // text in columns

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Report;
use crate::log::{self, Lines, LogFormat, escaped};
use crate::plan::access::is_key_name;
use crate::plan::{Listen, Plan};
use reload::Files;

/// Turns SQL you declare into REST endpoints over Postgres, answered from memory and kept fresh in
/// the background.
#[derive(Debug, Parser)]
#[command(name = "larder", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Log format: `human` on a terminal, `json` otherwise.
    #[arg(long, global = true, value_name = "FORMAT", value_parser = log_format)]
    log_format: Option<LogFormat>,
}

fn log_format(word: &str) -> Result<LogFormat, String> {
    let found = LogFormat::ALL
        .into_iter()
        .find(|format| format.as_str() == word);
    found.ok_or_else(|| "expected human or json".to_owned())
}

fn listen(text: &str) -> Result<Listen, String> {
    let help = "expected an address or a name, and a port, such as localhost:8080";
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
        Err("expected a URL, such as https://api.example/sales".to_owned())
    }
}

fn key_name(text: &str) -> Result<String, String> {
    let help = "expected up to 64 letters, digits, `-`, `_` and `.`";
    is_key_name(text)
        .then(|| text.to_owned())
        .ok_or_else(|| help.to_owned())
}

const AFTER_HELP: &str = "\
Exit codes: 0 success, 1 the configuration or the repository is wrong, 2 wrong usage.
Logs go to stderr. RUST_LOG filters them, for example RUST_LOG=larder=debug; RUST_LOG=info,larder::access=debug
adds one line per request. Larder's own lines contain nothing that a client sent; lines that libraries log at debug
or trace may. Lines that stderr cannot take in time are dropped and counted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the declared endpoints.
    ///
    /// Listens at once, and is ready (see /readyz) when Postgres has described every statement and every
    /// endpoint without parameters is loaded. While Postgres is unreachable, it keeps trying. On SIGHUP it
    /// reloads the configuration; endpoints that did not change keep their answers, and a mistake changes
    /// nothing. On SIGTERM, SIGINT (Ctrl-C) or SIGQUIT, or when its terminal closes (but not under nohup), it
    /// stops accepting connections, finishes running requests and exits. A second SIGTERM, SIGINT or SIGQUIT
    /// ends it at once.
    #[command(after_help = AFTER_HELP)]
    Serve {
        #[command(flatten)]
        config: ConfigFile,
        /// Reload the configuration also when its files change, which are compared every two seconds.
        #[arg(long)]
        watch: bool,
    },
    /// Report every mistake in the configuration.
    ///
    /// Also has Postgres prepare every statement, and prints a table of the endpoints with their
    /// parameters, columns, schedules, and the most queries they can cause.
    ///
    /// Then runs each query and each probe once, one at a time and within the limits of a load, and
    /// reports what share of max_connections they will keep busy. A query with parameters is run for its
    /// first key in `warm` or `warm_sql`, or without arguments if none is required. A query that fails,
    /// exceeds its timeout, or returns more than max_rows or max_bytes is a mistake. A query too slow for
    /// its schedule is only a warning, and the exit code stays 0: the next run may be faster.
    #[command(after_help = AFTER_HELP)]
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Check only the file; do not connect to Postgres.
        #[arg(long)]
        offline: bool,
        /// Only prepare the statements; run nothing but probes.
        #[arg(long, conflicts_with = "offline")]
        no_measure: bool,
    },
    /// Print the endpoints as an OpenAPI 3.1 document.
    ///
    /// The document that a server serves at /openapi.json, for client generators and reviews. Postgres
    /// prepares every statement to determine its types, but runs none of the endpoints' queries. So the
    /// document has no example responses, which a server takes from its cache.
    #[command(after_help = AFTER_HELP)]
    Openapi {
        #[command(flatten)]
        config: ConfigFile,
        /// The base URL of the endpoints; by default, they are relative to the document's own URL.
        #[arg(long, value_name = "URL", value_parser = server_url)]
        server: Option<String>,
    },
    /// Make keys for clients, and explain what a credential may do.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Try it: serve the shipped configuration from a temporary Postgres with made-up sales.
    ///
    /// Needs the PostgreSQL server programs on this machine. The data lives in a temporary folder that is
    /// removed when the demo ends.
    #[command(after_help = AFTER_HELP)]
    Demo {
        /// Serve this configuration instead of the shipped one; ${DATABASE_URL} in it is the demo's database.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Listen here instead of at the configured address: an address or a name, and a port.
        #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
        listen: Option<Listen>,
    },
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Print a new key once, and its digest for config.toml.
    New {
        /// Its name in metrics and logs, such as grafana.
        #[arg(value_name = "NAME", value_parser = key_name)]
        name: String,
    },
    /// Say whose credential stdin is, and which endpoints it may use.
    Check {
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "config.toml")]
    config: PathBuf,
}

/// Why a command fails.
#[derive(Debug)]
enum Failure {
    /// Mistakes in the configuration, some of which only Postgres can find.
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

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Serve { .. } = cli.command {
        allocator::return_large_blocks();
    }
    let format = cli.log_format.unwrap_or_else(LogFormat::of_stderr);
    let lines = log::init(std::env::var("RUST_LOG").ok().as_deref(), format);
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report_failure(&failure, &lines),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    /// Tasks that a thread runs before it looks for requests that have arrived. With tokio's 61, requests wait for
    /// milliseconds while all threads encode large answers.
    const EVENT_INTERVAL: u32 = 8;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .event_interval(EVENT_INTERVAL)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?;
    runtime.block_on(async {
        match command {
            Command::Serve { config, watch } => serve::serve(&config.config, watch).await,
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
            Command::Key(KeyCommand::New { name }) => key::new(&name),
            Command::Key(KeyCommand::Check { config }) => key::check(&config.config).await,
            Command::Demo { config, listen } => demo::demo(config.as_deref(), listen).await,
        }
    })
}

/// Reports a failure on stderr.
fn report_failure(failure: &Failure, lines: &Lines) -> ExitCode {
    match failure {
        // Written in full, however long it takes: the report is what the command is for.
        Failure::Mistakes(report) => {
            lines.flush();
            let text = if std::io::stderr().is_terminal() {
                report.coloured()
            } else {
                report.to_string()
            };
            // If stderr is closed, there is nowhere to report it.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        // A server that ends does not wait for a reader of stderr.
        Failure::Other(error) => {
            lines.write(&format!("error: {}\n", escaped(&format!("{error:#}"))));
        }
    }
    ExitCode::FAILURE
}

/// Writes to stdout. A closed pipe is not an error. Control characters within a line are escaped.
fn print(text: &str) -> anyhow::Result<()> {
    let lines: Vec<_> = text.split('\n').map(escaped).collect();
    let mut out = std::io::stdout().lock();
    let written = out.write_all(lines.join("\n").as_bytes());
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow::anyhow!("cannot write to stdout: {error}"))
        }
        _ => Ok(()),
    }
}

fn load(path: &Path) -> Result<Arc<Plan>, Failure> {
    Ok(Arc::new(Files::new(path).read()?))
}

/// The two ways in which signals end a server.
#[derive(Clone)]
struct Stop {
    /// Cancelled by the first signal: drain and exit.
    graceful: CancellationToken,
    /// Cancelled by the second signal: exit at once.
    at_once: CancellationToken,
}

/// Listens for the signals that end a server.
///
/// # Errors
/// The system's reason why signals cannot be received.
fn stop_on_signals() -> anyhow::Result<Stop> {
    let stop = Stop {
        graceful: CancellationToken::new(),
        at_once: CancellationToken::new(),
    };
    for kind in [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::quit(),
    ] {
        on_signal(kind, &stop, |stop| {
            if stop.graceful.is_cancelled() {
                stop.at_once.cancel();
            }
            stop.graceful.cancel();
        })?;
    }
    Ok(stop)
}

/// Ends a server when its terminal closes, which may send the signal twice, once through the shell.
fn stop_on_hangup(stop: &Stop) -> anyhow::Result<()> {
    if is_hangup_ignored() {
        return Ok(());
    }
    on_signal(SignalKind::hangup(), stop, |stop| stop.graceful.cancel())
}

fn on_signal(kind: SignalKind, stop: &Stop, then: fn(&Stop)) -> anyhow::Result<()> {
    let mut signals = signal(kind)?;
    let stop = stop.clone();
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            then(&stop);
        }
    });
    Ok(())
}

/// Whether this process was started with SIGHUP ignored, as by nohup, to outlive its terminal. Only Linux
/// reveals it.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    is_ignored(&status, Signal::SIGHUP)
}

/// Whether a signal is in the `SigIgn` mask of proc_pid_status(5), whose lowest bit is signal 1.
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
