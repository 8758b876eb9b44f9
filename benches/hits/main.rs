//! What a hit costs: `larder serve` with the shipped config.toml on a throwaway Postgres, under requests on
//! connections that stay open. It sees Larder only from outside: its answers and its `/metrics`.
//!
//! ```sh
//! cargo bench --bench hits                          # or, for what can be chosen:
//! cargo bench --bench hits -- --help
//! ```
//!
//! It fails when an answer is not a 200, or when more statements reached Postgres than the schedule allows,
//! never because of a time.

mod account; // statements that reached Postgres, and how many were due
mod load; // the clients that are measured
mod server; // processor time of the server
mod slow; // clients that read and write slowly

#[path = "../support/client.rs"]
#[expect(dead_code, reason = "only the status of an answer matters here")]
mod client;
#[path = "../support/larder.rs"]
#[expect(dead_code, reason = "memory comes from its metrics here")]
mod larder;
#[path = "../support/program.rs"]
mod program;

use std::path::PathBuf;
use std::process::ExitCode;

use ::larder::cli::sample;
use ::larder::repository::throwaway::Throwaway;
use clap::Parser;

use account::{Account, Snapshot, accounts};
use larder::Server;
use load::Load;
use slow::SlowClients;

/// A few bytes without arguments, and 5 KiB that are found by their arguments.
const TARGETS: [&str; 2] = ["/count", "/sales/Japan"];

/// The shipped configuration, and where it listens.
const SHIPPED: &str = include_str!("../../config.toml");
const LISTEN: &str = "127.0.0.1:8080";

/// Requests before each measurement: the first loads the entry, the others warm caches.
const WARM_UP: u64 = 2_000;

/// Measures what a hit costs a whole Larder, and prints a table.
///
/// Starts a Postgres with the demo's sales and `larder serve` with the shipped config.toml, and requests
/// /count and /sales/Japan over persistent connections. Each connection sends its next request when it
/// has the answer to the last. Exits with 1 when an answer is not a 200, or when more statements reach
/// Postgres than the schedule allows, never because of a time.
#[derive(Debug, Parser)]
#[command(name = "hits", bin_name = "cargo bench --bench hits --")]
struct Options {
    /// Requests for each endpoint.
    #[arg(long, value_name = "NUMBER", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// Connections, each with a thread of its own.
    #[arg(long, value_name = "NUMBER", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Measure again with this many clients whose requests never end, and as many that hardly read their
    /// answers.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    slow: usize,
    /// How often to measure each, without and with slow clients in turn.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The program to measure; default: the one that was built with this bench.
    ///
    /// That one includes features of dependencies that only tests need, such as a clock that can be
    /// paused; a program from `cargo build --release` does not.
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_larder"), hide_default_value = true)]
    larder: PathBuf,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    program::run(|options: Options| program::block_on(bench(&options)))
}

/// Measures and prints; returns what should not have happened.
#[expect(clippy::print_stdout, reason = "the table is the result")]
async fn bench(options: &Options) -> anyhow::Result<Vec<String>> {
    let postgres = Throwaway::start().await?;
    sample::load(&postgres).await?;
    let config = SHIPPED.replacen(LISTEN, "LISTEN", 1);
    let server = Server::start(&options.larder, postgres.url(), &config).await?;
    println!(
        "{:<14} {:>6} {:>11} {:>9} {:>11} {:>14} {:>8} {:>8} {:>10} {:>11} {:>12}",
        "endpoint",
        "slow",
        "connections",
        "requests",
        "requests/s",
        "CPU µs/request",
        "p50 µs",
        "p99 µs",
        "memory MiB",
        "statements",
        "due"
    );
    let mut complaints = Vec::new();
    let mut pairs = Vec::new();
    for _ in 0..options.rounds {
        for target in TARGETS {
            let quiet = round(options, &server, target, 0, &mut complaints).await?;
            if options.slow > 0 {
                let busy = round(options, &server, target, options.slow, &mut complaints).await?;
                pairs.push(busy / quiet);
            }
        }
    }
    if let Some(ratio) = median(&mut pairs) {
        println!(
            "\nWith slow clients the median answer took {ratio:.3} times as long (median of {} pairs).",
            pairs.len()
        );
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "\nThe server, Postgres and this client shared {cores} cores. Statements are those of all endpoints."
    );
    server.stop().await?;
    Ok(complaints)
}

/// Measures one line of the table. Returns the median time of an answer, in microseconds.
#[expect(clippy::print_stdout, reason = "the table is the result")]
async fn round(
    options: &Options,
    server: &Server,
    target: &'static str,
    slow: usize,
    complaints: &mut Vec<String>,
) -> anyhow::Result<f64> {
    let slow_clients = SlowClients::connect(server.address, slow).await?;
    server.wait_until_idle().await?;
    let load = Load {
        address: server.address,
        target,
        connections: options.connections,
    };
    complaints.extend(load.run(WARM_UP).await?.complaint(target));
    let before = Snapshot::take(server)?;
    let mut tally = load.run(options.requests).await?;
    let after = Snapshot::take(server)?;

    let cpu = after.cpu.zip(before.cpu).map(|(after, before)| {
        let micros = after.saturating_sub(before).as_secs_f64() * 1e6;
        format!("{:.1}", micros / tally.answers() as f64)
    });
    let accounts = accounts(&server.plan, &TARGETS, &before, &after);
    let sum = |of: fn(&Account) -> u64| accounts.iter().map(of).sum::<u64>();
    let median = tally.micros_at(0.5);
    println!(
        "{target:<14} {:>6} {:>11} {:>9} {:>11.0} {:>14} {median:>8.0} {:>8.0} {:>10.0} {:>11} {:>12}",
        2 * slow,
        options.connections,
        tally.answers(),
        tally.answers() as f64 / tally.elapsed.as_secs_f64(),
        cpu.as_deref().unwrap_or("unknown"),
        tally.micros_at(0.99),
        after.memory as f64 / f64::from(1 << 20),
        sum(|account| account.statements),
        format!("at most {}", sum(|account| account.at_most)),
    );
    complaints.extend(tally.complaint(target));
    complaints.extend(accounts.iter().filter_map(Account::complaint));
    slow_clients.disconnect().await;
    Ok(median)
}

fn median(of: &mut [f64]) -> Option<f64> {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied()
}
