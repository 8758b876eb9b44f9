//! Faults between Larder and Postgres.

use std::collections::BTreeMap;
use std::time::Duration;

use ::larder::repository::throwaway::Throwaway;
use tokio::time::Instant;

use crate::ledger::Ledger;
use crate::proxy::Proxy;

/// Ranges of how long a fault lasts, and of the pause before the next, in milliseconds.
const LASTS: std::ops::Range<u64> = 300..7_000;
const QUIET: std::ops::Range<u64> = 500..5_000;

/// Causes one fault after the other until a moment, then repairs everything. Returns how often each occurred.
pub(crate) async fn inject(
    proxy: &mut Proxy,
    postgres: &Throwaway,
    seed: u64,
    until: Instant,
    ledger: &Ledger,
) -> anyhow::Result<String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    while Instant::now() < until {
        let lasts = Duration::from_millis(random.u64(LASTS));
        let fault = random.choice(["cut", "stall", "reset", "slow", "truncate", "stop", "crash"]);
        let fault = fault.unwrap_or("cut");
        *times.entry(fault).or_default() += 1;
        ledger.note_fault(fault);
        match fault {
            "cut" => proxy.cut().await,
            "stall" => proxy.stall(),
            "slow" => proxy.slow(),
            "truncate" => proxy.truncate_after(random.usize(100..50_000)),
            "stop" => postgres.stop().await?,
            "crash" => postgres.crash().await?,
            _ => proxy.reset().await,
        }
        tokio::time::sleep(lasts).await;
        postgres.start_again().await?;
        proxy.heal().await;
        ledger.note_fault("none");
        tokio::time::sleep(Duration::from_millis(random.u64(QUIET))).await;
    }
    let times = times
        .iter()
        .map(|(fault, count)| format!("{count} × {fault}"));
    Ok(times.collect::<Vec<_>>().join(", "))
}
