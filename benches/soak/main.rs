//! Whether the promises hold for minutes: a whole Larder, a process of its own on a Postgres of its own,
//! under thousands of clients, a writer, and a fault every few seconds. It knows Larder from outside
//! alone: its configuration, its answers, its `/metrics`, its memory.
//!
//! ```sh
//! cargo bench --bench soak                          # or, for what can be chosen:
//! cargo bench --bench soak -- --help
//! ```

mod clients; // who asks, and what each answer is held to
mod faults; // what goes wrong, and when
mod ledger; // what was promised, what was seen, and what was broken
mod server; // the Larder that is held to its promises
mod writer; // who changes the data, and when each version was there

#[path = "../../tests/it/support/proxy.rs"]
#[expect(dead_code, reason = "the tests break the way in more manners")]
mod proxy; // the way to Postgres, and what can go wrong on it

#[path = "../support/client.rs"]
mod client;
#[path = "../support/larder.rs"]
mod larder;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ::larder::repository::throwaway::Throwaway;
use anyhow::{Context, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use larder::Server;
use ledger::Ledger;
use proxy::Proxy;
use writer::Versions;

/// How long everything runs undisturbed at first, so that memory is measured when it is in use, and at
/// the end, so that everything can recover.
const QUIET: Duration = Duration::from_secs(15);

/// Holds a whole Larder to its promises while everything around it fails, and prints what it did.
///
/// Starts a Postgres, a way to it that can be broken, and `larder serve`. Clients on connections that
/// are kept open ask for resident endpoints and for hot and cold keys; a writer changes the data and
/// notifies; every few seconds the way to Postgres is cut, stalled, reset or slowed, or Postgres
/// restarts. Exits with 1 when a promise was broken: an answer older than its limit, older than one
/// before it or mixed of two; no answer of an endpoint that is always loaded, within its limit; more queries
/// than `larder check` allows; memory that has grown beyond its factor; or no recovery at the end.
#[derive(Debug, Parser)]
#[command(name = "soak", bin_name = "cargo bench --bench soak --")]
struct Options {
    /// How long faults go on.
    #[arg(long, value_name = "NUMBER", default_value_t = 2.0)]
    minutes: f64,
    /// Connections that are kept open, each of which asks again and again.
    #[arg(long, value_name = "NUMBER", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// How long each client waits, on average, between an answer and its next request.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    pause: u64,
    /// How many times as much memory the server may hold at the end as it did before the first fault.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.5)]
    growth: f64,
    /// What decides which fault comes when; the same seed brings the same faults.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// The program to run, rather than the one that was built along.
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_larder"), hide_default_value = true)]
    larder: PathBuf,
    /// Given by `cargo bench`, and by nothing else that runs this.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    // A test runner that was told to take everything has not asked for minutes of load.
    if !std::env::args().any(|argument| ["--bench", "--help", "-h"].contains(&&*argument)) {
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the system has no room for a runtime")
        .and_then(|runtime| runtime.block_on(until_interrupted(&options)));
    match done {
        Ok(broken) if broken.is_empty() => ExitCode::SUCCESS,
        Ok(broken) => explain(&broken),
        Err(error) => explain(&[format!("{error:#}")]),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "it is a program, and says what is wrong"
)]
fn explain(broken: &[String]) -> ExitCode {
    for promise in broken {
        eprintln!("error: {promise}");
    }
    ExitCode::FAILURE
}

/// Both servers end with the future that started them.
async fn until_interrupted(options: &Options) -> anyhow::Result<Vec<String>> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        done = soak(options) => done,
        _ = interrupted.recv() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    }
}

/// Runs and prints; what is returned are broken promises.
#[expect(clippy::print_stdout, reason = "the figures are what this is for")]
async fn soak(options: &Options) -> anyhow::Result<Vec<String>> {
    // What was committed is there after a restart: versions never go back.
    let postgres = Throwaway::start_with(&[("synchronous_commit", "on")]).await?;
    postgres.execute(server::SCHEMA).await?;
    let mut proxy = Proxy::before(postgres.url()).await;
    let server = Server::start(&options.larder, proxy.url(), server::CONFIG).await?;
    let bound = server.checked_bound(postgres.url()).await?;
    let ledger = Arc::new(Ledger::new(&server.plan, Versions::default()));
    let over = CancellationToken::new();
    let begun = Instant::now();

    let writing = tokio::spawn(writer::write(
        postgres.url().to_owned(),
        Arc::clone(&ledger),
        over.clone(),
    ));
    let clients = clients::start(options.clients, options.pause, &server, &ledger, &over);
    tokio::time::sleep(QUIET).await;
    let memory = server.memory()?;
    let until = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let faults = faults::happen(&mut proxy, &postgres, options.seed, until, &ledger).await?;
    tokio::time::sleep(QUIET).await;
    let mut broken = server.complaints_after_recovery(&ledger).await;
    let queries = server.queries().await?;
    let elapsed = begun.elapsed();
    let memory_after = server.memory()?;
    over.cancel();
    clients.wait().await;
    writing.await?;

    println!("{}", ledger.report());
    println!("faults: {faults}");
    let allowed = bound * (elapsed.as_secs() / 60 + 1);
    println!(
        "queries sent: {queries} in {:.0} s; `larder check` allows {bound} a minute: {allowed}",
        elapsed.as_secs_f64()
    );
    println!(
        "memory of the server: {memory} KiB before the first fault, {memory_after} KiB at the end"
    );
    server.stop().await?;
    broken.extend(ledger.broken());
    if queries > allowed {
        broken.push(format!(
            "{queries} queries were sent, where `larder check` allows {allowed}"
        ));
    }
    if memory_after as f64 > memory as f64 * options.growth {
        broken.push(format!(
            "memory has grown from {memory} KiB to {memory_after} KiB, more than {} times",
            options.growth
        ));
    }
    Ok(broken)
}
