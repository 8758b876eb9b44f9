//! How long a hit takes, from the request to the finished response, without sockets. `cargo bench --bench
//! instructions` counts its instructions and allocations.

#[path = "support/hits.rs"]
mod hits; // requests that the cache answers
#[path = "support/site.rs"]
mod site; // a Larder without sockets

use criterion::{BatchSize, Criterion};
use futures_util::FutureExt;
use hits::Hit;
use hyper::service::Service;
use larder::http::in_memory;
use site::Sinks;

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let (runtime, postgres) = site::start()?;
    let (service, kinds) = runtime.block_on(async {
        let service =
            in_memory::service(site::site(site::CONFIG, postgres.url(), Sinks::All).await?);
        let kinds = hits::hits(&service).await?;
        anyhow::Ok((service, kinds))
    })?;
    let _entered = runtime.enter();
    let mut group = criterion.benchmark_group("hit");
    for Hit { name, request } in kinds {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || request.clone(),
                |request| service.call(request).now_or_never(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
