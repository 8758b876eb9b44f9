//! How long it takes to load a key: a whole miss, with its query on a real Postgres, and the cache's part alone.

#[path = "support/site.rs"]
#[expect(dead_code, reason = "this bench has its own configuration")]
mod site; // a Larder without sockets

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use larder::cache::{Answer, Cache, Entry, Key, Origin};
use larder::http::Site;
use larder::observe::Observer;
use larder::plan::EndpointId;
use site::Sinks;
use tokio::time::Instant;

const CONFIG: &str = r#"
[repository]
url = "${DATABASE_URL}"
max_loads_per_second = 1_000_000

[[endpoint]]
path = "/lines/{id}"
sql = "SELECT :id::int8 AS id, repeat('x', 100) AS text"
shape = "row"
max_age = "1d"
max_keys = 100_000_000
"#;

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let (runtime, postgres) = site::start()?;
    let site = runtime.block_on(site::site(CONFIG, postgres.url(), Sinks::All))?;
    let mut keys = (0_u64..).map(|id| key(&site, id));
    let mut group = criterion.benchmark_group("fill");

    let mut miss = || keys.next().expect("numbers do not run out");
    group.bench_function("miss", |bencher| {
        bencher.iter_batched(
            &mut miss,
            |key| {
                let served = runtime.block_on(site.read_through.get(&key));
                served.expect("Postgres answers")
            },
            BatchSize::SmallInput,
        );
    });

    let served = runtime.block_on(site.read_through.get(&miss()))?;
    let cache = Cache::new(&site.plan, Observer::new(Vec::new()));
    let mut another = || (miss(), Arc::new(like(&served.entry)));
    group.bench_function("put", |bencher| {
        bencher.iter_batched(
            &mut another,
            |(key, entry)| cache.put(&key, entry),
            BatchSize::SmallInput,
        );
    });
    group.finish();
    criterion.final_summary();
    Ok(())
}

/// The key of `/lines/{id}`.
fn key(site: &Site, id: u64) -> Key {
    let endpoint = &site.plan.endpoints()[0];
    let description = site.read_through.inspect().description(EndpointId::new(0));
    let signature = &description.expect("it is described").signature;
    let path = [("id", id.to_string().into())];
    let arguments = signature.arguments(endpoint, &path, &[]);
    Key::new(endpoint.id, arguments.expect("the parameter is a number"))
}

/// Another entry with the same document.
fn like(entry: &Entry) -> Entry {
    let answer: Answer = entry.answer().clone();
    let origin = Origin {
        began: Instant::now(),
        generation: entry.generation(),
    };
    Entry::new(answer, origin, Duration::ZERO, *entry.lifetime(), None)
}
