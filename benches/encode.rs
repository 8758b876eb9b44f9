//! How long it takes to encode rows from Postgres as JSON and CSV, by type and size; and a load compared with the
//! same document encoded by Postgres.

#[path = "support/site.rs"]
#[expect(dead_code, reason = "only its plan is needed here")]
mod site; // a configuration's plan
#[path = "support/statements.rs"]
#[expect(dead_code, reason = "only compress asks for columns")]
mod statements; // statements on a real Postgres

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use larder::encode::{Coding, Variant};
use larder::plan::{Format, Shape};
use larder::repository::throwaway::Throwaway;
use statements::{Fetched, Statements, json_only, sales};
use tokio::runtime::Runtime;

/// Rows and columns.
const SIZES: [(usize, usize); 4] = [(1, 8), (100, 8), (10_000, 8), (10_000, 2)];

/// An expression of each type, of the row number `n` and the column number `c`.
const TYPES: [(&str, &str); 7] = [
    ("int8", "n::int8 * 1000 + c"),
    ("float8", "n / 7.0::float8 + c"),
    ("numeric", "n / 7.0 + c"),
    ("text", "'a line of text, number ' || n"),
    (
        "timestamptz",
        "'2026-01-01Z'::timestamptz + n * interval '1.5 s'",
    ),
    ("bool", "(n + c) % 2 = 0"),
    ("int4[]", "ARRAY[n, c, n + c]::int4[]"),
];

const CSV: Variant = Variant {
    format: Format::Csv,
    coding: Coding::Identity,
};

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let (runtime, postgres) = site::start()?;
    for (name, value) in TYPES {
        for (rows, columns) in SIZES {
            let sql = (Shape::Rows, table(value, rows, columns));
            let fetched = runtime.block_on(async {
                let statements = Statements::describe(&postgres, &[sql]).await?;
                statements.fetch(0).await
            })?;
            encode(&mut criterion, name, &format!("{rows}x{columns}"), &fetched)?;
        }
    }
    compare_with_postgres(&mut criterion, &runtime, &postgres)?;
    criterion.final_summary();
    Ok(())
}

fn table(value: &str, rows: usize, columns: usize) -> String {
    let columns: Vec<String> = (1..=columns)
        .map(|c| format!("{} AS column{c}", value.replace('c', &c.to_string())))
        .collect();
    format!(
        "SELECT {} FROM generate_series(1, {rows}) AS n",
        columns.join(", ")
    )
}

fn encode(
    criterion: &mut Criterion,
    name: &str,
    size: &str,
    fetched: &Fetched,
) -> anyhow::Result<()> {
    let document = fetched.encode(Shape::Rows)?;
    let columns = &fetched.columns;
    let mut group = criterion.benchmark_group(format!("encode/{name}"));
    group.throughput(Throughput::Bytes(document.json().bytes().len() as u64));
    group.bench_function(BenchmarkId::new("json", size), |bencher| {
        bencher.iter_with_large_drop(|| fetched.encode(Shape::Rows));
    });
    // From JSON, as on the first request for CSV.
    let again = || json_only(columns, &document);
    group.bench_function(BenchmarkId::new("csv", size), |bencher| {
        bencher.iter_batched(
            again,
            |document| {
                let made = document.make(CSV).map(bytes::Bytes::len);
                (made.is_ok(), document)
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
    Ok(())
}

/// A query with its document, encoded by Larder or by Postgres.
fn compare_with_postgres(
    criterion: &mut Criterion,
    runtime: &Runtime,
    postgres: &Throwaway,
) -> anyhow::Result<()> {
    let mut group = criterion.benchmark_group("load");
    for rows in [1, 100, 10_000] {
        let by_postgres = format!(
            "SELECT json_agg(to_json(line)) FROM ({}) AS line",
            sales(rows)
        );
        let both = [(Shape::Rows, sales(rows)), (Shape::Value, by_postgres)];
        let statements = runtime.block_on(Statements::describe(postgres, &both))?;
        for (number, who) in ["larder", "to_json"].into_iter().enumerate() {
            group.bench_function(BenchmarkId::new(who, rows), |bencher| {
                bencher.iter_with_large_drop(|| {
                    let loaded = runtime.block_on(statements.load(number));
                    loaded.expect("the statement is valid")
                });
            });
        }
    }
    group.finish();
    Ok(())
}
