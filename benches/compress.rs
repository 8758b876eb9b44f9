//! How long it takes to compress an answer, which happens once per entry; and how small it gets.

#[path = "support/site.rs"]
#[expect(dead_code, reason = "only its plan is needed here")]
mod site; // a configuration's plan
#[path = "support/statements.rs"]
mod statements; // statements on a real Postgres

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use larder::encode::{Coding, Variant};
use larder::plan::{Format, Shape};
use statements::{Statements, json_only, sales};

/// About 2 KB, 100 KB and 1 MB.
const ROWS: [usize; 3] = [15, 760, 7_800];

#[expect(clippy::print_stdout, reason = "sizes are part of the result")]
fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let (runtime, postgres) = site::start()?;
    let documents = runtime.block_on(async {
        let each = ROWS.map(|rows| (Shape::Rows, sales(rows)));
        let statements = Statements::describe(&postgres, &each).await?;
        let mut documents = Vec::new();
        for number in 0..ROWS.len() {
            documents.push((statements.columns(number), statements.load(number).await?));
        }
        anyhow::Ok(documents)
    })?;
    let mut group = criterion.benchmark_group("compress");
    for (columns, document) in &documents {
        let size = document.json().bytes().len();
        group.throughput(Throughput::Bytes(size as u64));
        for coding in Coding::ALL {
            let Some(name) = coding.name() else { continue };
            let variant = Variant {
                format: Format::Json,
                coding,
            };
            let again = || json_only(columns, document);
            let coded = again().make(variant)?.len();
            println!("{name}: {size} bytes become {coded}");
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter_batched(
                    again,
                    |document| {
                        let made = document.make(variant).map(bytes::Bytes::len);
                        (made.is_ok(), document)
                    },
                    BatchSize::LargeInput,
                );
            });
        }
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
