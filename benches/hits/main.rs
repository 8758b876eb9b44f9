//! What a hit costs: a whole Larder on the shipped config.toml, a process of its own on a Postgres of
//! its own, under requests that follow one another on connections that stay open. It knows Larder from
//! outside alone: its configuration, its answers, its `/metrics`.
//!
//! ```sh
//! cargo bench --bench hits                          # or, for what can be chosen:
//! cargo bench --bench hits -- --help
//! ```
//!
//! It prints figures and judges none. It fails when an answer is not a 200, or when more statements
//! reached Postgres than the schedule accounts for.

mod account; // what reached Postgres, beside what was due
mod load; // who asks, and what comes back
mod server; // the Larder that is measured
mod slow; // clients that take their time, beside those who are measured

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use larder::cli::sample;
use larder::repository::throwaway::Throwaway;
use tokio::signal::unix::{SignalKind, signal};

use account::{Account, Look, accounts};
use load::Load;
use server::Server;
use slow::SlowClients;

/// What is asked for: a few bytes that stay resident, and 5 KiB that are found by their arguments.
const TARGETS: [&str; 2] = ["/count", "/sales/Japan"];

/// Sent before each measurement: the first one loads the entry, the others find cold memory.
const WARM_UP: u64 = 2_000;

/// Measures what a hit costs a whole Larder, and prints a table.
///
/// Starts a Postgres with the demo's sales and `larder serve` on the shipped config.toml, asks for
/// /count and for /sales/Japan over connections that are kept open, and ends both. Each connection
/// sends its next request when it has the answer to its last. Exits with 1 when an answer was not a
/// 200, or when more statements reached Postgres than the schedule accounts for; no speed is judged.
#[derive(Debug, Parser)]
#[command(name = "hits", bin_name = "cargo bench --bench hits --")]
struct Options {
    /// Requests for each endpoint.
    #[arg(long, value_name = "NUMBER", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// Connections, each with a thread of its own.
    #[arg(long, value_name = "NUMBER", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Measure once more beside so many clients whose requests never end, and as many that hardly read
    /// their answers.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    slow: usize,
    /// How often to measure each, quiet and beside slow clients in turn.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The program to measure, rather than the one that was built along.
    ///
    /// That one has what the tests ask of its dependencies compiled in, as a clock that can be paused;
    /// the one that `cargo build --release` makes has not.
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_larder"), hide_default_value = true)]
    larder: PathBuf,
    /// Given by `cargo bench`, and by nothing else that runs this.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    // A test runner that was told to take everything has not asked for a load.
    if !std::env::args().any(|argument| ["--bench", "--help", "-h"].contains(&&*argument)) {
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the system has no room for a runtime")
        .and_then(|runtime| runtime.block_on(until_interrupted(&options)));
    match done {
        Ok(complaints) if complaints.is_empty() => ExitCode::SUCCESS,
        Ok(complaints) => explain(&complaints),
        Err(error) => explain(&[format!("{error:#}")]),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "it is a program, and says what is wrong"
)]
fn explain(complaints: &[String]) -> ExitCode {
    for complaint in complaints {
        eprintln!("error: {complaint}");
    }
    ExitCode::FAILURE
}

/// Both servers end with the future that started them.
async fn until_interrupted(options: &Options) -> anyhow::Result<Vec<String>> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        done = bench(options) => done,
        _ = interrupted.recv() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    }
}

/// Measures and prints; what is returned should not have happened.
#[expect(clippy::print_stdout, reason = "the table is what this is for")]
async fn bench(options: &Options) -> anyhow::Result<Vec<String>> {
    let postgres = Throwaway::start().await?;
    sample::load(&postgres).await?;
    let server = Server::start(&options.larder, postgres.url()).await?;
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
        "by schedule"
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
            "\nBeside slow clients the median answer took {ratio:.3} times as long (of {} pairs, the middle one).",
            pairs.len()
        );
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "\nThe server, Postgres and this client shared {cores} cores. Statements are those of all endpoints \
         while one was asked for."
    );
    server.stop().await?;
    Ok(complaints)
}

/// One line of the table. The median time of an answer, in microseconds.
#[expect(clippy::print_stdout, reason = "the table is what this is for")]
async fn round(
    options: &Options,
    server: &Server,
    target: &'static str,
    slow: usize,
    complaints: &mut Vec<String>,
) -> anyhow::Result<f64> {
    let held = SlowClients::hold(server.address, slow).await?;
    server.rest().await?;
    let load = Load {
        address: server.address,
        target,
        connections: options.connections,
    };
    complaints.extend(load.run(WARM_UP).await?.complaint(target));
    let before = Look::at(server)?;
    let mut tally = load.run(options.requests).await?;
    let after = Look::at(server)?;

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
    held.let_go().await;
    Ok(median)
}

fn median(of: &mut [f64]) -> Option<f64> {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied()
}
