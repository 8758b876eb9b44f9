//! How long it takes to find the endpoint of a path, among few and among many.

#[path = "support/site.rs"]
#[expect(dead_code, reason = "only its plan is needed here")]
mod site; // a configuration's plan

use std::fmt::Write as _;

use criterion::{BenchmarkId, Criterion};

/// Half of the endpoints have a parameter in their path.
fn config(endpoints: usize) -> String {
    let mut config = "[repository]\nurl = \"${DATABASE_URL}\"\n".to_owned();
    for n in 1..=endpoints {
        let end = if n % 2 == 0 { "/{id}" } else { "" };
        let sql = if n % 2 == 0 { "SELECT :id" } else { "SELECT 1" };
        let endpoint = format!("[[endpoint]]\npath = \"/shop/{n}/orders{end}\"\nsql = \"{sql}\"\n");
        config
            .write_str(&endpoint)
            .expect("writing to a String does not fail");
    }
    config
}

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("route");
    for endpoints in [1, 100, 10_000] {
        let plan = site::plan(&config(endpoints), "postgres://localhost/larder")?;
        // The last ones of each kind.
        let odd = endpoints - usize::from(endpoints > 1);
        let mut paths = vec![
            ("literal", format!("/shop/{odd}/orders"), true),
            ("unknown", "/shop/none/orders".to_owned(), false),
        ];
        if endpoints > 1 {
            paths.push(("parameter", format!("/shop/{endpoints}/orders/4711"), true));
        }
        for (name, path, is_there) in &paths {
            anyhow::ensure!(plan.route(path).is_some() == *is_there, "{path}");
            group.bench_function(BenchmarkId::new(*name, endpoints), |bencher| {
                bencher.iter(|| plan.route(std::hint::black_box(path)));
            });
        }
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
