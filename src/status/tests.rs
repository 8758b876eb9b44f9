//! The documents of a Larder that has not connected to anything.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::cache::Cache;
use crate::config::Config;
use crate::observe::{CacheStatus, Event, Observer, Readiness};
use crate::plan::EndpointId;
use crate::read_through::PostgresSource;
use crate::repository::Repository;

fn status() -> Status {
    let text = "[repository]\nurl = \"postgres://h/d\"\n\
        [[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1\"\nrefresh = { every = \"5s\" }\n\
        [[endpoint]]\npath = \"/keyed/{n}\"\nsql = \"SELECT :n::int\"\nmax_keys = 7\n";
    let config = Config::parse("config.toml", text.to_owned(), Path::new("."), &|_| None);
    let plan = Arc::new(Plan::compile(config.unwrap()).unwrap());
    let nobody = Observer::new(Vec::new());
    let repository = Repository::new(plan.repository(), nobody.clone()).unwrap();
    let read_through = ReadThrough::new(
        Arc::clone(&plan),
        PostgresSource::new(&plan, repository, nobody.clone()),
        Cache::new(&plan, nobody.clone()),
        nobody,
    );
    let metrics = Arc::new(Metrics::new(&plan));
    Status::new(plan, metrics, read_through, Arc::default())
}

fn now(status: &Status) -> Value {
    let explain = |_: &LoadError| Explanation {
        code: "LRD-301",
        detail: "It cannot.",
    };
    serde_json::from_slice(&status.document(explain)).unwrap()
}

fn history(status: &Status) -> Value {
    serde_json::from_slice(&status.history_document()).unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().unwrap();
    object.keys().map(String::as_str).collect()
}

fn serve(status: &Status, endpoint: usize, cache: CacheStatus, code: u16) {
    status.metrics.record(&Event::RequestServed {
        endpoint: Some(EndpointId::new(endpoint)),
        client: None,
        cache,
        code,
        problem: None,
        elapsed: Duration::from_millis(2),
        age: None,
        stale_if_error: false,
    });
}

/// Programs read the document.
#[tokio::test(start_paused = true)]
async fn the_document_has_these_names() {
    let status = status();
    let now = now(&status);
    assert_eq!(
        keys(&now),
        [
            "version",
            "timestamp_seconds",
            "uptime_seconds",
            "readiness",
            "window_seconds",
            "samples",
            "sample_step_seconds",
            "troubles",
            "repository",
            "cache",
            "http",
            "states",
            "total",
            "endpoints",
        ]
    );
    assert_eq!(
        now["repository"],
        json!({
            "up": null, "since_timestamp_seconds": null,
            "connections": { "idle": 0, "active": 0, "max": 4 },
        })
    );
    let states = json!({ "failing": 0, "stale": 0, "warming": 2, "fresh": 0, "idle": 0 });
    assert_eq!(now["states"], states);
    let rates = [
        "requests_per_second",
        "errors_per_second",
        "hit_ratio",
        "stale_ratio",
        "request_duration_seconds",
        "queries_per_second",
        "repository_seconds_saved_per_second",
    ];
    assert_eq!(keys(&now["total"]), rates);
    let (before, after) = (
        ["endpoint", "state"],
        [
            "refresh",
            "next_refresh_seconds",
            "limits",
            "entry",
            "keys",
            "last_error",
        ],
    );
    let of_endpoint = [&before[..], &rates, &after].concat();
    for endpoint in now["endpoints"].as_array().unwrap() {
        assert_eq!(keys(endpoint), of_endpoint);
    }
    let keyed = &now["endpoints"][1];
    assert_eq!(keyed["endpoint"], "/keyed/{n}");
    assert_eq!(keyed["limits"]["fresh_seconds"], 10.0);
    assert_eq!(
        keyed["keys"],
        json!({
            "entries": 0, "max_entries": 7, "fresh": 0, "bytes": 0,
            "youngest_age_seconds": null, "oldest_age_seconds": null,
        })
    );
}

#[tokio::test(start_paused = true)]
async fn the_history_is_what_was_reported_at_each_sample() {
    let status = status();
    for _ in 0..10 {
        serve(&status, 0, CacheStatus::Hit, 200);
    }
    serve(&status, 1, CacheStatus::Miss, 503);
    tokio::time::advance(STEP).await;
    status.sample();
    let document = now(&status);
    assert_eq!(document["samples"], 1);
    assert_eq!(document["endpoints"][0]["requests_per_second"], 2.0);
    assert_eq!(document["endpoints"][0]["hit_ratio"], 1.0);
    assert_eq!(document["endpoints"][1]["errors_per_second"], 0.2);
    assert_eq!(document["total"]["requests_per_second"], 2.2);
    tokio::time::advance(STEP * 2).await;
    status.sample();
    tokio::time::advance(STEP * 2).await;
    status.sample();
    let history = history(&status);
    assert_eq!(history["samples"], 3);
    assert_eq!(history["timestamp_seconds"].as_array().unwrap().len(), 3);
    let of_first = json!({
        "endpoint": "/n",
        "requests_per_second": [2.0, 0.6667, 0.0],
        "request_duration_seconds": [0.002, 0.002, null],
        "age_seconds": [null, null, null],
    });
    assert_eq!(history["endpoints"][0], of_first);
    assert_eq!(
        history["total"]["errors_per_second"],
        json!([0.2, 0.06667, 0.0])
    );
    assert_eq!(history["total"]["hit_ratio"], json!([0.9091, 0.9091, null]));
}

#[tokio::test(start_paused = true)]
async fn what_events_report_is_shown_and_raises_the_revision() {
    let status = status();
    let cause = || "host db.example, user larder".to_owned();
    let record = |event| {
        let before = status.revision();
        status.incidents.record(&event);
        assert!(status.revision() > before, "{event:?} raises the revision");
        now(&status)
    };
    let ready = Readiness::Ready;
    let document = record(Event::ReadinessChanged { readiness: ready });
    assert_eq!(document["readiness"], "ready");
    assert_eq!(record(Event::RepositoryReached)["repository"]["up"], true);
    let document = record(Event::RepositoryLost { cause: cause() });
    assert_eq!(document["repository"]["up"], false);
    assert_eq!(document["endpoints"][0]["state"], "failing");
    let kinds = |document: &Value| -> Vec<String> {
        let troubles = document["troubles"].as_array().unwrap();
        troubles
            .iter()
            .map(|one| one["kind"].as_str().unwrap().to_owned())
            .collect()
    };
    record(Event::AcceptFailing { cause: cause() });
    record(Event::CertificateRefused { cause: cause() });
    let document = record(Event::ListeningFailed { cause: cause() });
    assert_eq!(kinds(&document), ["accept", "tls", "notify"]);
    assert!(!document.to_string().contains("db.example"), "{document}");
    record(Event::CertificateOutOfDate { cause: cause() });
    let document = record(Event::CertificateRestored);
    assert_eq!(kinds(&document), ["accept", "tls", "notify"], "out of date");
    record(Event::CertificateRefused { cause: cause() });
    record(Event::CertificateRenewed);
    record(Event::Listening);
    assert_eq!(kinds(&record(Event::AcceptRecovered)), [""; 0]);
    let before = status.revision();
    status.incidents.record(&Event::EntryEvicted);
    assert_eq!(status.revision(), before);
}
