//! Whether the promises hold for minutes: `larder serve` on a throwaway Postgres, under thousands of clients, a
//! writer, and a fault every few seconds. It sees Larder only from outside: its answers, its `/metrics`, its
//! memory.
//!
//! ```sh
//! cargo bench --bench soak                          # or, for what can be chosen:
//! cargo bench --bench soak -- --help
//! ```

mod clients; // thousands of clients that poll
mod faults; // faults between Larder and Postgres
mod ledger; // promises, answers, and broken promises
mod server; // configuration, and checks through the server
mod versions; // when each version of the data was committed
mod writer; // changes the data

#[path = "../../tests/it/support/proxy.rs"]
#[expect(dead_code, reason = "the tests use more kinds of faults")]
mod proxy; // the way to Postgres, and its faults

#[path = "../support/client.rs"]
mod client;
#[path = "../support/larder.rs"]
mod larder;
#[path = "../support/program.rs"]
mod program;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ::larder::repository::throwaway::Throwaway;
use clap::Parser;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use larder::Server;
use ledger::Ledger;
use proxy::Proxy;
use versions::Versions;

/// How long there are no faults: at the beginning, so that memory is measured under load, and at the end, for
/// recovery.
const QUIET: Duration = Duration::from_secs(15);

/// Checks that the promises hold while everything around Larder fails.
///
/// Starts a Postgres, a proxy in front of it, and `larder serve`. Clients on persistent connections request
/// resident endpoints and hot and cold keys; a writer changes the data and notifies; every few seconds the
/// connection to Postgres is cut, stalled, reset or slowed, or Postgres restarts. Exits with 1 when a promise
/// is broken: an answer is older than its limit, older than an earlier one, or mixed from two; a resident
/// endpoint does not answer within its limit; there are more queries than `larder check` allows; memory has
/// grown beyond its factor; or Larder does not recover at the end.
#[derive(Debug, Parser)]
#[command(name = "soak", bin_name = "cargo bench --bench soak --")]
struct Options {
    /// How long there are faults.
    #[arg(long, value_name = "NUMBER", default_value_t = 2.0)]
    minutes: f64,
    /// Persistent connections, each of which polls.
    #[arg(long, value_name = "NUMBER", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// How long each client waits, on average, between an answer and its next request.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    pause: u64,
    /// How many times as much memory the server may hold at the end as it did before the first fault.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.5)]
    growth: f64,
    /// Seed of the random faults; the same seed causes the same faults.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// The program to run; default: the one that was built with this bench.
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_larder"), hide_default_value = true)]
    larder: PathBuf,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    program::run(|options: Options| program::block_on(soak(&options)))
}

/// Runs and prints; returns the broken promises.
#[expect(clippy::print_stdout, reason = "the figures are the result")]
async fn soak(options: &Options) -> anyhow::Result<Vec<String>> {
    // Commits survive a crash, so versions never go back.
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
    let faults = faults::inject(&mut proxy, &postgres, options.seed, until, &ledger).await?;
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
            "{queries} queries were sent, but `larder check` allows {allowed}"
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
