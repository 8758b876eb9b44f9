//! What clients can hold and spend of a server, all at once: whether its memory stays within what was
//! declared, and whether others are still answered in time.
//!
//! ```sh
//! cargo bench --bench siege                          # or, for what can be chosen:
//! cargo bench --bench siege -- --help
//! ```

mod besiegers; // who holds what there is to hold

#[path = "../support/client.rs"]
#[allow(
    dead_code,
    reason = "nothing is held against an answer here but its status"
)]
mod client;
#[path = "../support/larder.rs"]
#[allow(dead_code, reason = "the soak asks more of it")]
mod larder;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::larder::repository::throwaway::Throwaway;
use anyhow::Context;
use clap::Parser;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use client::Connection;
use larder::Server;

/// What the server may keep and what may wait, each in MiB.
const BOUND: u64 = 64;

/// What a server takes besides: connections, statements, metrics, and what is being loaded.
const BESIDES: u64 = 100;

/// Clients that are to be answered in time, and how long each rests between two requests.
const CLIENTS: u32 = 8;
const REST: Duration = Duration::from_millis(5);

/// How long everything is quiet at first.
const QUIET: Duration = Duration::from_secs(20);

/// Endpoints besides, so that there is something to say about them.
const FILLERS: u32 = 500;

const CONFIG: &str = r#"
[server]
listen = "LISTEN"
h2c = true
max_pending = "64MiB"

[repository]
url = "${DATABASE_URL}"
# What is being loaded is nobody's to hold, and comes on top.
max_connections = 2
# Each large answer takes a tenth of a second of processor time, most of it in Postgres. On a machine with
# two cores that both share, more of them would measure the scheduler.
max_loads_per_second = 4

[cache]
max_size = "64MiB"

[defaults]
shape = "value"
max_age = "1h"

[[endpoint]]
path = "/count"
sql = "SELECT count(*) FROM generate_series(1, 100)"

[[endpoint]]
path = "/hot/{n}"
sql = "SELECT :n::int"
max_keys = 1_000

[[endpoint]]
path = "/large/{n}"
sql = "SELECT :n::int AS n, repeat('x', 100) AS x FROM generate_series(1, 100000)"
shape = "rows"
"#;

/// Puts a Larder under everything at once that clients can do to hold its memory and its processor, and
/// prints what it held and how long others waited.
///
/// Starts a Postgres and `larder serve`, and asks for hits, first alone, then beside clients that ask for
/// large answers over HTTP/1.1 and HTTP/2 and read nothing, or a byte a second, clients that ask for
/// metrics and read nothing, heads that never end, long paths of percent-escapes, and invented arguments.
/// Exits with 1 when resident memory passed max_size, max_pending and 100 MiB, or when the slowest
/// hundredth of the hits took longer than its factor allows.
#[derive(Debug, Parser)]
#[command(name = "siege", bin_name = "cargo bench --bench siege --")]
struct Options {
    /// How long it goes on.
    #[arg(long, value_name = "NUMBER", default_value_t = 2.0)]
    minutes: f64,
    /// How many times as long the slowest hundredth of the hits may take as when all was quiet.
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0)]
    slower: f64,
    /// The program to run, rather than the one that was built along.
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_larder"), hide_default_value = true)]
    larder: PathBuf,
    /// Given by `cargo bench`, and by nothing else that runs this.
    #[arg(long, hide = true)]
    bench: bool,
}

#[expect(
    clippy::print_stderr,
    reason = "it is a program, and says what is wrong"
)]
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
        .and_then(|runtime| runtime.block_on(siege(&options)));
    let complaints = done.unwrap_or_else(|error| vec![format!("{error:#}")]);
    for complaint in &complaints {
        eprintln!("error: {complaint}");
    }
    ExitCode::from(u8::from(!complaints.is_empty()))
}

/// Runs and prints; what is returned are bounds that were passed.
#[expect(clippy::print_stdout, reason = "the figures are what this is for")]
async fn siege(options: &Options) -> anyhow::Result<Vec<String>> {
    let postgres = Throwaway::start_with(&[]).await?;
    let mut config = CONFIG.to_owned();
    for n in 0..FILLERS {
        write!(
            config,
            "[[endpoint]]\npath = \"/filler/{n}\"\nsql = \"SELECT {n}\"\n"
        )?;
    }
    let server = Server::start(&options.larder, postgres.url(), &config).await?;
    let quiet = Seen::of(&server, QUIET).await?;
    let over = CancellationToken::new();
    let besiegers = besiegers::start(server.address, &over);
    let loud = Seen::of(&server, Duration::from_secs_f64(options.minutes * 60.0)).await?;
    let metrics = Connection::open(server.address)
        .await?
        .get("/metrics")
        .await?;
    over.cancel();
    besiegers.wait().await;
    println!("quiet:     {quiet}\nbesieged:  {loud}");
    let metrics = String::from_utf8(metrics.body)?;
    let told = [
        "larder_http_pending_bytes ",
        "larder_http_slow_clients_cut_total ",
        "larder_requests_total{",
    ];
    let is_told = |line: &&str| {
        let of_a_filler = line.contains("/filler/");
        !of_a_filler && told.iter().any(|name| line.starts_with(name))
    };
    for line in metrics.lines().filter(is_told) {
        println!("{line}");
    }
    server.stop().await?;
    let mut complaints = Vec::new();
    let allowed = 2 * BOUND + BESIDES;
    if loud.memory > allowed {
        complaints.push(format!(
            "{} MiB were held, where {allowed} are allowed",
            loud.memory
        ));
    }
    if loud.p99() > quiet.p99().mul_f64(options.slower) {
        complaints.push(format!(
            "the slowest hundredth of the hits took {:?}, more than {} times {:?}",
            loud.p99(),
            options.slower,
            quiet.p99()
        ));
    }
    if loud.failed > 0 {
        complaints.push(format!("{} hits were not answered", loud.failed));
    }
    Ok(complaints)
}

/// What clients and the system saw of the server for a while.
#[derive(Default)]
struct Seen {
    /// How long each hit took, the quickest first.
    took: Vec<Duration>,
    failed: u64,
    /// The most resident memory, in MiB.
    memory: u64,
}

impl Seen {
    async fn of(server: &Server, lasts: Duration) -> anyhow::Result<Self> {
        let until = Instant::now() + lasts;
        let seen = Arc::new(Mutex::new(Self::default()));
        let clients = (0..CLIENTS).map(|number| {
            let (address, seen) = (server.address, Arc::clone(&seen));
            tokio::spawn(async move {
                let mut mine = Self::default();
                while Instant::now() < until {
                    if mine.ask(address, number, until).await.is_err() {
                        mine.failed += 1;
                        sleep(REST).await;
                    }
                }
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.took.append(&mut mine.took);
                seen.failed += mine.failed;
            })
        });
        let clients: Vec<_> = clients.collect();
        let mut memory = 0;
        while Instant::now() < until {
            memory = memory.max(server.memory()? / 1024);
            sleep(Duration::from_millis(100)).await;
        }
        for client in clients {
            client.await?;
        }
        let mut seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        seen.took.sort_unstable();
        seen.memory = memory;
        Ok(seen)
    }

    /// Asks over one connection.
    async fn ask(
        &mut self,
        address: std::net::SocketAddr,
        number: u32,
        until: Instant,
    ) -> std::io::Result<()> {
        let mut connection = Connection::open(address).await?;
        let target = match number % 2 {
            0 => "/count".to_owned(),
            _ => format!("/hot/{number}"),
        };
        while Instant::now() < until {
            let asked = Instant::now();
            let answer = connection.get(&target).await?;
            self.took.push(asked.elapsed());
            self.failed += u64::from(answer.status != 200);
            sleep(REST).await;
        }
        Ok(())
    }

    fn p99(&self) -> Duration {
        let at = self.took.len() * 99 / 100;
        self.took.get(at).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let median = self.took.get(self.took.len() / 2).copied();
        write!(
            f,
            "{} hits, half within {:?}, 99 % within {:?}, {} failed; at most {} MiB resident",
            self.took.len(),
            median.unwrap_or_default(),
            self.p99(),
            self.failed,
            self.memory
        )
    }
}
