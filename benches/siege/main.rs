//! Whether memory and answer times stay bounded while hostile clients use all they can of a server at once.
//!
//! ```sh
//! cargo bench --bench siege                          # or, for what can be chosen:
//! cargo bench --bench siege -- --help
//! ```

mod besiegers; // hostile clients
mod elsewhere; // the process that they and Postgres run in

#[path = "../support/client.rs"]
#[allow(dead_code, reason = "only the status of an answer matters here")]
mod client;
#[path = "../support/larder.rs"]
#[allow(dead_code, reason = "soak and hits use more of it")]
mod larder;
#[path = "../support/program.rs"]
mod program;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use tokio::time::{Instant, sleep};

use client::Connection;
use elsewhere::Elsewhere;
use larder::Server;

/// max_size and max_pending, in MiB.
const BOUND: u64 = 64;

/// MiB for connections, statements, metrics and running loads.
const OVERHEAD: u64 = 100;

/// Clients whose hits are timed, and how long each pauses between two requests.
const CLIENTS: u32 = 8;
const REST: Duration = Duration::from_millis(5);

/// How long hits are timed before the siege.
const QUIET: Duration = Duration::from_secs(20);

/// Further endpoints, so that /metrics is large.
const FILLERS: u32 = 500;

const CONFIG: &str = r#"
[server]
listen = "LISTEN"
h2c = true
max_pending = "64MiB"

[repository]
url = "${DATABASE_URL}"
# Running loads are not bounded by max_pending, and come on top.
max_connections = 2
# Each large answer takes a tenth of a second of processor time.
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
warm = [{ n = 1 }, { n = 3 }, { n = 5 }, { n = 7 }]

[[endpoint]]
path = "/large/{n}"
sql = "SELECT :n::int AS n, repeat('x', 100) AS x FROM generate_series(1, 100000)"
shape = "rows"
"#;

/// Attacks a Larder in every way at once that clients can use its memory and processor, and prints the memory
/// it used and how long other clients waited.
///
/// Starts a Postgres and `larder serve`, and times hits, first alone, then during the siege: clients that
/// request large answers over HTTP/1.1 and HTTP/2 and read nothing, or a byte per second; clients that
/// request metrics and read nothing; heads that never end; long paths of percent-escapes; invented arguments.
/// Exits with 1 when resident memory exceeds max_size, max_pending and 100 MiB together, or when the p99 of
/// hits exceeds its factor.
#[derive(Debug, Parser)]
#[command(name = "siege", bin_name = "cargo bench --bench siege --")]
struct Options {
    /// How long the siege lasts.
    #[arg(long, value_name = "NUMBER", default_value_t = 2.0)]
    minutes: f64,
    /// The largest allowed ratio between the p99 of hits during the siege and before.
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0)]
    slower: f64,
    /// The program to run; default: the one that was built with this bench.
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_larder"), hide_default_value = true)]
    larder: PathBuf,
    /// Run Postgres and the besiegers, for another process of this program.
    #[arg(long = elsewhere::OPTION, hide = true)]
    elsewhere: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    program::run(|options: Options| {
        program::block_on(async {
            if options.elsewhere {
                elsewhere::run().await
            } else {
                siege(&options).await
            }
        })
    })
}

/// Runs and prints; returns the bounds that were exceeded.
#[expect(clippy::print_stdout, reason = "the figures are the result")]
async fn siege(options: &Options) -> anyhow::Result<Vec<String>> {
    let mut elsewhere = Elsewhere::start().await?;
    let mut config = CONFIG.to_owned();
    for n in 0..FILLERS {
        write!(
            config,
            "[[endpoint]]\npath = \"/filler/{n}\"\nsql = \"SELECT {n}\"\n"
        )?;
    }
    let server = Server::start(&options.larder, &elsewhere.url, &config).await?;
    let quiet = Seen::of(&server, QUIET).await?;
    elsewhere.besiege(server.address).await?;
    let loud = Seen::of(&server, Duration::from_secs_f64(options.minutes * 60.0)).await?;
    let metrics = Connection::open(server.address)
        .await?
        .get("/metrics")
        .await?;
    println!("quiet:     {quiet}\nbesieged:  {loud}");
    let metrics = String::from_utf8(metrics.body)?;
    let shown = [
        "larder_http_pending_bytes ",
        "larder_http_slow_clients_cut_total ",
        "larder_requests_total{",
    ];
    let is_shown = |line: &&str| {
        let of_a_filler = line.contains("/filler/");
        !of_a_filler && shown.iter().any(|name| line.starts_with(name))
    };
    for line in metrics.lines().filter(is_shown) {
        println!("{line}");
    }
    // First, because clients that take nothing delay a shutdown.
    elsewhere.stop().await?;
    server.stop().await?;
    let mut complaints = Vec::new();
    let allowed = 2 * BOUND + OVERHEAD;
    if loud.memory > allowed {
        complaints.push(format!(
            "{} MiB were resident, but {allowed} are allowed",
            loud.memory
        ));
    }
    if loud.p99() > quiet.p99().mul_f64(options.slower) {
        complaints.push(format!(
            "the p99 of hits is {:?}, more than {} times {:?}",
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

/// What clients and the system measured for a while.
#[derive(Default)]
struct Seen {
    /// How long each hit took, the fastest first.
    took: Vec<Duration>,
    failed: u64,
    /// The maximum of resident memory, in MiB.
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

    /// Polls over one connection.
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
