//! What a hit costs in instructions and allocations, counted by callgrind: the same on a busy machine as
//! on a quiet one, so that a hit which has become dearer is seen where no time could tell.
//!
//! ```sh
//! cargo bench --bench instructions                  # or, for what can be chosen:
//! cargo bench --bench instructions -- --help
//! ```

mod baseline; // what a hit cost before
mod callgrind; // this program under callgrind, and what it counted
mod hostile; // requests that are made to cost much
mod wire; // a connection without a socket

#[path = "../support/hits.rs"]
mod hits; // requests that the cache answers
#[path = "../support/program.rs"]
#[expect(dead_code, reason = "callgrind runs it on one thread, without signals")]
mod program;
#[path = "../support/site.rs"]
mod site; // the Larder that is measured

use std::convert::Infallible;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use futures_util::FutureExt;
use hyper::service::Service;
use larder::cli::sample;
use larder::http::server;
use larder::repository::throwaway::Throwaway;

use baseline::{Baseline, Cost};
use hits::{Asked, Hit};
use site::Sinks;

/// So much of a hit may be what metrics, log and status take, the kernel's share of it not counted.
const OBSERVED_MAX: f64 = 0.03;

/// Of each kind. What happens once in some dozens of hits, as tidying the cache, is shared among them.
const HITS: usize = 4_096;

/// The same of those which are long.
const HOSTILE: usize = 64;

fn times(name: &str) -> usize {
    if hostile::is_one(name) { HOSTILE } else { HITS }
}

/// Counts what a hit costs in instructions and allocations, and compares it with what it cost before.
///
/// Runs itself under valgrind's callgrind: a Larder without sockets on a Postgres of its own, whose
/// answers come from the cache. `wire` lines have it read and written by hyper on a connection in memory,
/// and `floor` lines have hyper do so for an answer that is there already. `hostile` lines are of requests made to cost much, and are held to so many
/// instructions a byte. Exits with 1 when a hit costs more than the baseline allows.
#[derive(Debug, Parser)]
#[command(
    name = "instructions",
    bin_name = "cargo bench --bench instructions --"
)]
struct Options {
    /// Write what was counted to the baseline, rather than compare.
    #[arg(long)]
    write: bool,
    /// Leave callgrind's files where callgrind_annotate finds them.
    #[arg(long)]
    keep: bool,
    /// Given by this program when it runs itself under callgrind.
    #[arg(long, hide = true)]
    counted: bool,
    /// Given by `cargo bench`, and by nothing else that runs this.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    program::run(|options: Options| {
        if options.counted {
            serve_hits().map(|()| Vec::new())
        } else {
            compare(&options)
        }
    })
}

/// Prints the table; what is returned has become too dear.
#[expect(clippy::print_stdout, reason = "the table is what this is for")]
fn compare(options: &Options) -> anyhow::Result<Vec<String>> {
    let costs: Vec<(String, Cost)> = callgrind::run(options.keep)?
        .into_iter()
        .map(|(name, counted)| {
            let cost = Cost::per_hit(&counted, times(&name));
            (name, cost)
        })
        .collect();
    if options.write {
        Baseline::write(&costs)?;
    }
    let baseline = Baseline::read()?;
    println!(
        "{:<26} {:>12} {:>9} {:>11} {:>9}",
        "hit", "instructions", "before", "allocations", "before"
    );
    for (name, cost) in &costs {
        let before = baseline.of(name);
        let or_none = |of: Option<f64>| of.map_or("-".to_owned(), |it| format!("{it:.1}"));
        println!(
            "{name:<26} {:>12.0} {:>9} {:>11.1} {:>9}",
            cost.instructions,
            before.map_or("-".to_owned(), |it| format!("{:.0}", it.instructions)),
            cost.allocations,
            or_none(before.map(|it| it.allocations)),
        );
    }
    println!();
    for (name, ratio) in ratios(&costs) {
        println!(
            "{name} takes {ratio:.2} times the instructions of an answer that is there already."
        );
    }
    let observed = observed(&costs).context("a hit is counted with and without its sinks")?;
    println!(
        "Metrics, log and status take {:.1} % of `{WHOLE}`.",
        observed * 100.0
    );
    if let Some(why) = baseline.is_of_another_machine()? {
        println!("\nInstructions are not judged: {why}.");
    }
    let mut complaints = baseline.complaints(&costs)?;
    complaints.extend(hostile::complaints(&costs)?);
    if observed > OBSERVED_MAX {
        complaints.push("metrics, log and status take more of a hit than they may".to_owned());
    }
    Ok(complaints)
}

/// The hit that is counted without sinks as well, and the whole way of it.
const RESIDENT: &str = "resident";
const UNOBSERVED: &str = "resident, unobserved";
const WHOLE: &str = "wire resident";

/// What sinks add to a hit, as a part of all of it.
fn observed(costs: &[(String, Cost)]) -> Option<f64> {
    let of = |name| {
        let (_, cost) = costs.iter().find(|(it, _)| it == name)?;
        Some(cost.instructions)
    };
    Some((of(RESIDENT)? - of(UNOBSERVED)?) / of(WHOLE)?)
}

/// The whole way of a hit, against hyper alone.
fn ratios(costs: &[(String, Cost)]) -> impl Iterator<Item = (&str, f64)> {
    costs.iter().filter_map(|(name, cost)| {
        let kind = name.strip_prefix("wire ")?;
        let floor = format!("floor {kind}");
        let (_, floor) = costs.iter().find(|(name, _)| *name == floor)?;
        Some((name.as_str(), cost.instructions / floor.instructions))
    })
}

/// What runs under callgrind: says on stdout, in order, what is counted.
fn serve_hits() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the system has no room for a runtime")?;
    // Kept until the end: dropped, it takes its server along.
    let postgres = runtime.block_on(Throwaway::start())?;
    let (site, kinds) = runtime.block_on(async {
        sample::load(&postgres).await?;
        let site = site::site(site::CONFIG, postgres.url(), Sinks::All).await?;
        let kinds = hits::hits(&server::service(site.clone())).await?;
        anyhow::Ok((site, kinds))
    })?;
    let unobserved = site::site(site::CONFIG, postgres.url(), Sinks::None);
    let unobserved = runtime.block_on(unobserved)?;
    let _entered = runtime.enter();
    let service = server::service(site.clone());
    let alone = |name: &str, service: &_, request: &Asked| {
        count(name, |times| {
            let requests = vec![request.clone(); times];
            move || {
                for request in requests {
                    answer(service, request);
                }
            }
        });
    };
    for Hit { name, request } in &kinds {
        alone(name, &service, request);
    }
    let resident = kinds.iter().find(|hit| hit.name == RESIDENT);
    let resident = resident.context("it is one of the kinds")?;
    alone(UNOBSERVED, &server::service(unobserved), &resident.request);
    for Hit { name, request } in hostile::requests()? {
        alone(name, &service, &request);
    }
    for Hit { name, request } in &kinds {
        let (wire, constant) = wire::both(&service, request)?;
        count(&format!("wire {name}"), |times| {
            wire.to_larder(times, site.clone())
        });
        count(&format!("floor {name}"), |times| {
            wire.to_constant(times, constant.clone())
        });
    }
    Ok(())
}

fn answer<S>(service: &S, request: Asked)
where
    S: Service<Asked, Error = Infallible>,
{
    let answered = service.call(request).now_or_never();
    answered.expect("a hit waits for nothing").ok();
}

/// Has something done once to warm up and once to be counted. What it needs is made beforehand.
#[expect(clippy::print_stdout, reason = "callgrind's caller reads it")]
fn count<R: FnOnce()>(name: &str, make: impl Fn(usize) -> R) {
    let times = times(name);
    make(times / 16)();
    let mut made = Some(make(times));
    callgrind::counted_from_here(&mut || {
        if let Some(run) = made.take() {
            run();
        };
    });
    println!("{name}");
}
