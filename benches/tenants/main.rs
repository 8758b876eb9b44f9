//! What reaches Postgres when many tenants poll many endpoints, whose answers are cached per claim.
//!
//! ```sh
//! cargo bench --bench tenants                        # or, for what can be chosen:
//! cargo bench --bench tenants -- --help
//! ```

mod greedy; // a tenant that sends ever new arguments
mod tenant; // one tenant, and what it has seen

#[path = "../support/client.rs"]
#[allow(dead_code, reason = "soak uses more of an answer")]
mod client;
#[path = "../support/larder.rs"]
#[allow(dead_code, reason = "soak and hits use more of it")]
mod larder;
#[path = "../support/program.rs"]
mod program;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ::larder::access::key;
use ::larder::repository::throwaway::Throwaway;
use anyhow::{Context, ensure};
use clap::Parser;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use client::Connection;
use larder::{PATIENCE, Server};
use tenant::{Seen, Tenant};

/// Tenants that ask for the first time at once. Each of these requests waits for a load.
const FIRST_AT_ONCE: usize = 16;

/// A limit that is not reached: other benches measure what it does.
const LOADS_MAX: u32 = 100_000;

/// Polls a Larder as many tenants on a connection each, and compares the queries with those that the
/// configuration asks for: one for each endpoint, claim and `max_age`.
///
/// Starts a Postgres and `larder serve`, with a key for each tenant and endpoints with a claim each. First, each
/// tenant asks each endpoint once. Then each polls its endpoints one after the other at a fixed rate, whatever the
/// answers take, while one more tenant, with a limit of loads, sends ever new arguments. Exits with 1 when a request
/// fails, when an answer is not that of its tenant, when there are more or fewer queries than due, or when new
/// arguments cause more loads than the limit allows.
///
/// Clients, Larder and Postgres share the machine. Where it cannot keep up, requests are sent late, and the rate
/// that was reached is printed.
#[derive(Debug, Parser)]
#[command(name = "tenants", bin_name = "cargo bench --bench tenants --")]
pub(crate) struct Options {
    /// How many tenants.
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000)]
    tenants: usize,
    /// How many endpoints.
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    endpoints: usize,
    /// Requests of each tenant per second.
    #[arg(long, value_name = "NUMBER", default_value_t = 10.0)]
    rate: f64,
    /// The max_age of each endpoint. The default is between two requests for the same answer, which are 5 s apart.
    #[arg(long, value_name = "SECONDS", default_value_t = 22.5)]
    max_age: f64,
    /// How long they poll.
    #[arg(long, value_name = "NUMBER", default_value_t = 60.0)]
    seconds: f64,
    /// The program to run; default: the one that was built with this bench.
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_larder"), hide_default_value = true)]
    larder: PathBuf,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// The time between two requests of a tenant.
    fn pause(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.rate)
    }

    fn keys(&self) -> usize {
        self.tenants * self.endpoints
    }
}

fn main() -> ExitCode {
    program::run(|options: Options| program::block_on(bench(Arc::new(options))))
}

/// Runs and prints; returns what is wrong.
#[expect(clippy::print_stdout, reason = "the figures are the result")]
async fn bench(options: Arc<Options>) -> anyhow::Result<Vec<String>> {
    let postgres = Throwaway::start_with(&[]).await?;
    let server = Server::start(&options.larder, postgres.url(), &config(&options)?).await?;

    let (tenants, took) = first_requests(&options, &server).await?;
    let first = queries(&server).await?;
    println!(
        "first:    {} requests in {took:.1?}, {first} queries, one for each endpoint and tenant",
        options.keys()
    );
    let mut complaints = Vec::new();
    if first != options.keys() as u64 {
        complaints.push(format!("{first} queries loaded {} keys", options.keys()));
    }

    let greedy = tokio::spawn(greedy::ask(server.address, options.seconds));
    let (seen, took) = poll(&options, tenants).await?;
    let taken = greedy.await??;
    let due = (seen.due.start + taken.loaded)..(seen.due.end + taken.loaded);
    // Loads in the background may still be running.
    let mut loaded = queries(&server).await? - first;
    let ended = Instant::now();
    while loaded < due.start && ended.elapsed() < PATIENCE {
        sleep(Duration::from_secs(1)).await;
        loaded = queries(&server).await? - first;
    }
    println!("polled:   {seen}");
    let offered = options.rate * options.tenants as f64;
    let reached = seen.requests as f64 / took.as_secs_f64();
    println!("rate:     {reached:.0} requests per second of {offered:.0}");
    if reached < 0.99 * offered {
        println!("          this machine cannot keep up; lower --tenants or --rate");
    }
    println!("greedy:   {taken}");
    println!(
        "queries:  {loaded}, of which {} to {} are due: one for each endpoint, tenant and {} s, and those of new arguments",
        due.start, due.end, options.max_age
    );
    println!("memory:   {} MiB resident", server.memory()? / 1024);
    server.stop().await?;
    if !(due.start..=due.end).contains(&loaded) {
        complaints.push(format!(
            "there were {loaded} queries, but {} to {} are due",
            due.start, due.end
        ));
    }
    if !(1..=taken.share).contains(&taken.loaded) {
        complaints.push(format!(
            "new arguments caused {} loads, and may cause {}",
            taken.loaded, taken.share
        ));
    }
    if seen.failed > 0 {
        complaints.push(format!("{} requests failed", seen.failed));
    }
    Ok(complaints)
}

fn config(options: &Options) -> anyhow::Result<String> {
    let mut config = format!(
        "[server]\nlisten = \"LISTEN\"\n\
         [repository]\nurl = \"${{DATABASE_URL}}\"\nmax_loads_per_second = {LOADS_MAX}\n\
         [defaults]\nshape = \"value\"\nmax_age = \"{}ms\"\nstale_while_revalidate = \"1h\"\nmax_keys = {}\n\
         [access]\ndefault = \"deny\"\n",
        options.max_age * 1_000.0,
        options.tenants,
    );
    let mut key = |name: &str, settings: &str| {
        let digest = key::hexadecimal(&key::digest(&format!("{name}-key")));
        write!(
            config,
            "[[access.key]]\nname = \"{name}\"\nsha256 = [\"{digest}\"]\n{settings}\n"
        )
    };
    key("observer", "scopes = [\"larder:observe\"]")?;
    let limit = format!("limit = {{ loads = \"{}/1s\" }}", greedy::SHARE);
    key(greedy::NAME, &limit)?;
    for number in 0..options.tenants {
        let name = tenant::name(number);
        key(&name, &format!("claims = {{ tenant = \"{name}\" }}"))?;
    }
    config.push_str(greedy::CONFIG);
    for number in 0..options.endpoints {
        write!(
            config,
            "[[endpoint]]\npath = \"{}\"\nsql = \"SELECT :tenant || ' {number}'\"\n\
             params.tenant = {{ claim = \"tenant\" }}\n",
            tenant::path(number)
        )?;
    }
    Ok(config)
}

/// Has each tenant ask each endpoint once. Returns how long that took.
async fn first_requests(
    options: &Arc<Options>,
    server: &Server,
) -> anyhow::Result<(Vec<Tenant>, Duration)> {
    let begun = Instant::now();
    let turns = Arc::new(Semaphore::new(FIRST_AT_ONCE));
    let mut asking = JoinSet::new();
    for number in 0..options.tenants {
        let (options, turns, address) = (Arc::clone(options), Arc::clone(&turns), server.address);
        asking.spawn(async move {
            let _turn = turns.acquire().await?;
            let mut tenant = Tenant::connect(number, address, options.endpoints).await?;
            for endpoint in 0..options.endpoints {
                let answer = tenant.first(endpoint).await?;
                ensure!(answer.is_right, "a first request failed: {}", answer.code);
            }
            anyhow::Ok(tenant)
        });
    }
    let mut tenants = Vec::with_capacity(options.tenants);
    while let Some(tenant) = asking.join_next().await {
        tenants.push(tenant??);
    }
    Ok((tenants, begun.elapsed()))
}

/// Has all of them poll for a while. Returns how long that took.
async fn poll(options: &Arc<Options>, tenants: Vec<Tenant>) -> anyhow::Result<(Seen, Duration)> {
    let begun = Instant::now();
    let mut polling = JoinSet::new();
    for (turn, tenant) in tenants.into_iter().enumerate() {
        // Evenly spread over the pause.
        let start = begun
            + options
                .pause()
                .mul_f64(turn as f64 / options.tenants as f64);
        polling.spawn(tenant.poll(Arc::clone(options), start));
    }
    let mut seen = Seen::default();
    while let Some(of_one) = polling.join_next().await {
        seen.add(&of_one??);
    }
    Ok((seen, begun.elapsed()))
}

/// How many queries have ended.
async fn queries(server: &Server) -> anyhow::Result<u64> {
    // The text is rendered at most once a second.
    sleep(Duration::from_millis(1_100)).await;
    let mut connection = Connection::open(server.address).await?;
    let fields = "Authorization: Bearer observer-key\r\n";
    let metrics = connection.get_with("/metrics", fields).await?;
    ensure!(metrics.status == 200, "/metrics: {}", metrics.code());
    let text = String::from_utf8(metrics.body)?;
    let counts = text
        .lines()
        .filter(|line| line.starts_with("larder_repository_queries_total{"));
    let count = |line: &str| line.rsplit_once(' ')?.1.parse::<u64>().ok();
    counts
        .map(|line| count(line).context("a count is not a number"))
        .sum()
}
