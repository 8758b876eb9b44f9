//! What a hit costs in instructions and allocations, counted by callgrind. They are the same on a busy machine as on
//! a quiet one, so that a regression is visible where times would not show it.
//!
//! ```sh
//! cargo bench --bench instructions                  # or, for what can be chosen:
//! cargo bench --bench instructions -- --help
//! ```

mod access; // requests with a credential
mod baseline; // what a hit cost before
mod callgrind; // runs this program under callgrind, and reads the counts
mod cost; // what a hit costs
mod hostile; // requests that are made to be expensive
mod wire; // a connection without a socket

#[path = "../support/hits.rs"]
mod hits; // requests that the cache answers
#[path = "../support/program.rs"]
#[expect(dead_code, reason = "callgrind runs it on one thread, without signals")]
mod program;
#[path = "../support/site.rs"]
mod site; // a Larder without sockets

use std::convert::Infallible;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use futures_util::FutureExt;
use hyper::service::Service;
use larder::http::{Site, in_memory};

use baseline::Baseline;
use cost::Cost;
use hits::{Asked, Hit};
use site::Sinks;

/// The largest share of a hit that metrics, log and status may take, not counting the kernel.
const OBSERVED_MAX: f64 = 0.03;

/// Hits of each kind. What happens once in some dozens of hits, such as cache maintenance, is averaged.
const HITS: usize = 4_096;

/// The same for hostile requests, which are long.
const HOSTILE: usize = 64;

fn times(name: &str) -> usize {
    if hostile::is_hostile(name) {
        HOSTILE
    } else {
        HITS
    }
}

/// Counts the instructions and allocations of a hit, and compares them with the baseline.
///
/// Runs itself under valgrind's callgrind: a Larder without sockets on a throwaway Postgres, answering from
/// its cache. On `wire` lines hyper reads and writes on a connection in memory, and on `floor` lines it does
/// so for a finished response. `hostile` lines are requests made to be expensive, with a limit of
/// instructions per byte. Exits with 1 when a hit costs more than the baseline allows.
#[derive(Debug, Parser)]
#[command(
    name = "instructions",
    bin_name = "cargo bench --bench instructions --"
)]
struct Options {
    /// Write the counts to the baseline instead of comparing.
    #[arg(long)]
    write: bool,
    /// Keep callgrind's files, for callgrind_annotate.
    #[arg(long)]
    keep: bool,
    /// Passed by this program when it runs itself under callgrind.
    #[arg(long, hide = true)]
    counted: bool,
    /// Passed by `cargo bench`.
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

/// Prints the table; returns what has become too expensive.
#[expect(clippy::print_stdout, reason = "the table is the result")]
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
        println!("{name} takes {ratio:.2} times the instructions of a finished response.");
    }
    let with_credential = access::ratios(&costs);
    for (name, ratio, _) in &with_credential {
        println!("A hit with a {name} takes {ratio:.3} times the instructions of a public one.");
    }
    let observed = observed(&costs).context("a hit is counted with and without sinks")?;
    println!(
        "Metrics, log and status take {:.1} % of `{WHOLE}`.",
        observed * 100.0
    );
    if let Some(why) = baseline.incomparable()? {
        println!("\nInstructions are not judged: {why}.");
    }
    let mut complaints = baseline.complaints(&costs)?;
    complaints.extend(hostile::complaints(&costs)?);
    for (name, ratio, most) in with_credential {
        if ratio > most {
            complaints.push(format!(
                "a hit with a {name} takes {ratio:.3} times the instructions of a public one; {most} are allowed"
            ));
        }
    }
    if observed > OBSERVED_MAX {
        complaints.push("metrics, log and status take too large a share of a hit".to_owned());
    }
    Ok(complaints)
}

/// The hit that is also counted without sinks, and its whole path.
const RESIDENT: &str = "resident";
const UNOBSERVED: &str = "resident, unobserved";
const WHOLE: &str = "wire resident";

/// The share of the whole path that sinks add.
fn observed(costs: &[(String, Cost)]) -> Option<f64> {
    let of = |name| {
        let (_, cost) = costs.iter().find(|(it, _)| it == name)?;
        Some(cost.instructions)
    };
    Some((of(RESIDENT)? - of(UNOBSERVED)?) / of(WHOLE)?)
}

/// The whole path of a hit, compared with hyper alone.
fn ratios(costs: &[(String, Cost)]) -> impl Iterator<Item = (&str, f64)> {
    costs.iter().filter_map(|(name, cost)| {
        let kind = name.strip_prefix("wire ")?;
        let floor = format!("floor {kind}");
        let (_, floor) = costs.iter().find(|(name, _)| *name == floor)?;
        Some((name.as_str(), cost.instructions / floor.instructions))
    })
}

/// Runs under callgrind, and prints the names of what is counted, in order.
fn serve_hits() -> anyhow::Result<()> {
    let (runtime, postgres) = site::start()?;
    let (site, kinds) = runtime.block_on(async {
        let site = site::site(site::CONFIG, postgres.url(), Sinks::All).await?;
        let kinds = hits::hits(&in_memory::service(site.clone())).await?;
        anyhow::Ok((site, kinds))
    })?;
    let restricted = access::config();
    let restricted = site::site(&restricted, postgres.url(), Sinks::All);
    let restricted = runtime.block_on(restricted)?;
    let unobserved = site::site(site::CONFIG, postgres.url(), Sinks::None);
    let unobserved = runtime.block_on(unobserved)?;
    let _entered = runtime.enter();
    let service = in_memory::service(site.clone());
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
    let resident = resident.context("`resident` is one of the kinds")?;
    alone(
        UNOBSERVED,
        &in_memory::service(unobserved),
        &resident.request,
    );
    for Hit { name, request } in hostile::requests()? {
        alone(name, &service, &request);
    }
    let on_the_wire = |name: &str, site: &Site, request: &Asked| {
        let (wire, constant) = wire::both(&in_memory::service(site.clone()), request)?;
        count(&format!("wire {name}"), |times| {
            wire.to_larder(times, site.clone())
        });
        anyhow::Ok((wire, constant))
    };
    for Hit { name, request } in &kinds {
        let (wire, constant) = on_the_wire(name, &site, request)?;
        count(&format!("floor {name}"), |times| {
            wire.to_constant(times, constant.clone())
        });
    }
    for Hit { name, request } in access::requests()? {
        alone(name, &in_memory::service(restricted.clone()), &request);
        on_the_wire(name, &restricted, &request)?;
    }
    Ok(())
}

fn answer<S>(service: &S, request: Asked)
where
    S: Service<Asked, Error = Infallible>,
{
    let answered = service.call(request).now_or_never();
    answered.expect("a hit does not wait").ok();
}

/// Runs something once to warm up and once to be counted. Its input is prepared beforehand.
#[expect(clippy::print_stdout, reason = "the parent process reads it")]
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
