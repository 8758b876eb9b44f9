//! Prometheus presents a key to a Larder that is closed.

use larder::access::key;
use serde_json::Value;

use crate::support::app::App;
use crate::support::postgres::Postgres;
use crate::support::prometheus::{Prometheus, pauses};

/// The target of a job, once it has been scraped.
async fn scraped(prometheus: &Prometheus, job: &str) -> Value {
    let mut pauses = pauses();
    loop {
        pauses.tick().await;
        let found = prometheus.get("/api/v1/targets?state=active").await;
        let targets = found["activeTargets"].as_array().unwrap();
        let is_scraped = |one: &&Value| one["labels"]["job"] == job && one["health"] != "unknown";
        if let Some(target) = targets.iter().find(is_scraped) {
            return target.clone();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_larder_is_scraped_with_a_key_and_is_down_without() {
    let db = Postgres::with("").await;
    let declared = |name: &str, scopes: &str| {
        let digest = key::hexadecimal(&key::digest(&format!("{name}-key")));
        format!("[[access.key]]\nname = \"{name}\"\nsha256 = [\"{digest}\"]\nscopes = [{scopes}]\n")
    };
    let app = App::start(
        &db,
        &format!(
            "[access]\ndefault = \"deny\"\n{}{}\n[[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1 AS n\"",
            declared("prometheus", "\"larder:observe\""),
            declared("grafana", "\"sales\""),
        ),
    )
    .await;
    let jobs = [("larder", app.address()), ("keyless", app.address())];
    let prometheus = Prometheus::scraping_with_key("prometheus-key", &jobs).await;
    let target = scraped(&prometheus, "larder").await;
    assert_eq!(target["health"], "up", "{target}");
    let scraped_from = prometheus.now("larder_build_info").await;
    assert_eq!(scraped_from[0].0["job"], "larder");
    let target = scraped(&prometheus, "keyless").await;
    assert_eq!(target["health"], "down", "{target}");
    let error = target["lastError"].as_str().unwrap();
    assert!(error.contains("401 Unauthorized"), "{error}");

    let prometheus = Prometheus::scraping_with_key("grafana-key", &jobs[..1]).await;
    let target = scraped(&prometheus, "larder").await;
    assert_eq!(target["health"], "down", "{target}");
    let error = target["lastError"].as_str().unwrap();
    assert!(error.contains("403 Forbidden"), "{error}");
}
