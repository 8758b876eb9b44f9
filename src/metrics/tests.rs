//! Which events are counted, under which labels.

use std::time::{Duration, SystemTime};

use super::endpoints::{CODES, LIMITS};
use super::*;
use crate::config::Config;
use crate::observe::{CacheStatus, QueryOutcome, RefreshOutcome, Trigger};
use crate::plan::{ClientId, FreshnessPolicy};

/// The library finds a child of a family by its label values, concatenated without separators.
#[test]
fn no_label_value_after_the_endpoint_is_the_suffix_of_another() {
    let ends: Vec<String> = CacheStatus::ALL
        .iter()
        .flat_map(|cache| {
            CODES
                .iter()
                .map(move |code| format!("{}{code}", cache.as_str()))
        })
        .collect();
    check_suffix_free(&ends);
    check_suffix_free(&QueryOutcome::ALL.map(|o| o.as_str().to_owned()));
    let refreshes: Vec<String> = Trigger::ALL
        .iter()
        .flat_map(|t| {
            RefreshOutcome::ALL
                .iter()
                .map(move |o| format!("{}{}", t.as_str(), o.as_str()))
        })
        .collect();
    check_suffix_free(&refreshes);
    check_suffix_free(&LIMITS.map(str::to_owned));
}

fn of_one_endpoint() -> Metrics {
    of_one_endpoint_with("")
}

fn of_one_endpoint_with(settings: &str) -> Metrics {
    let text = format!(
        "[server]\nmax_connections = 20\n[repository]\nurl = \"postgres://h/d\"\nmax_connections = 3\n\
         [[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1\"\n{settings}"
    );
    let folder = std::path::Path::new(".");
    let config = Config::parse("config.toml", text, folder, &|_| None);
    Metrics::new(&Plan::compile(config.unwrap()).unwrap())
}

/// The value of a sample, if it is there.
fn value(metrics: &Metrics, sample: &str) -> Option<f64> {
    let text = String::from_utf8(metrics.render()).unwrap();
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    found.map(|value| value.parse().unwrap())
}

#[test]
fn limits_on_age_come_from_the_plan_or_else_from_the_last_load() {
    let limit = |metrics: &Metrics, limit| {
        let sample =
            format!("larder_response_age_limit_seconds{{endpoint=\"/n\",limit=\"{limit}\"}}");
        value(metrics, &sample)
    };
    let windows = "stale_while_revalidate = \"1m\"\nstale_if_error = \"1h\"\n";
    let metrics = of_one_endpoint_with(&format!("max_age = \"10s\"\n{windows}"));
    let limits = LIMITS.map(|name| limit(&metrics, name).unwrap());
    assert_eq!(limits, [10.0, 70.0, 3610.0]);

    let metrics = of_one_endpoint_with("refresh = { every = \"5s\" }\n");
    assert_eq!(limit(&metrics, "fresh"), None);
    let policy = FreshnessPolicy {
        max_age: None,
        stale_while_revalidate: Duration::from_secs(60),
        stale_if_error: Duration::from_secs(3600),
    };
    let until_refresh = Some(Duration::from_secs(5));
    let refreshed = |outcome, lifetime| {
        metrics.record(&Event::RefreshFinished {
            endpoint: EndpointId::new(0),
            trigger: Trigger::Schedule,
            outcome,
            elapsed: Duration::ZERO,
            at: SystemTime::now(),
            lifetime,
        });
    };
    refreshed(RefreshOutcome::Failed, None);
    assert_eq!(limit(&metrics, "fresh"), None);
    let lifetime = policy.lifetime(until_refresh, Duration::from_secs(30));
    refreshed(RefreshOutcome::Changed, Some(lifetime));
    refreshed(RefreshOutcome::Failed, None);
    let limits = LIMITS.map(|name| limit(&metrics, name).unwrap());
    assert_eq!(limits, [35.0, 95.0, 3635.0]);
}

#[test]
fn the_limits_and_the_state_of_the_server_are_exported() {
    let metrics = of_one_endpoint();
    assert_eq!(value(&metrics, "larder_http_max_connections"), Some(20.0));
    assert_eq!(
        value(&metrics, "larder_repository_max_connections"),
        Some(3.0)
    );
    let refused = "larder_http_connections_refused_total";
    assert_eq!(value(&metrics, refused), Some(0.0));
    metrics.record(&Event::ConnectionRefused);
    assert_eq!(value(&metrics, refused), Some(1.0));
    for (readiness, ready) in [
        (Readiness::Warming, 0.0),
        (Readiness::Ready, 1.0),
        (Readiness::Draining, 0.0),
    ] {
        metrics.record(&Event::ReadinessChanged { readiness });
        assert_eq!(value(&metrics, "larder_ready"), Some(ready));
    }
}

#[test]
fn responses_served_only_because_loading_fails_are_counted() {
    let metrics = of_one_endpoint();
    let sample = "larder_responses_stale_if_error_total{endpoint=\"/n\"}";
    assert_eq!(value(&metrics, sample), Some(0.0));
    for stale_if_error in [true, false] {
        metrics.record(&Event::RequestServed {
            endpoint: Some(EndpointId::new(0)),
            client: None,
            cache: CacheStatus::Stale,
            code: 200,
            problem: None,
            elapsed: Duration::ZERO,
            age: Some(Duration::from_secs(70)),
            stale_if_error,
        });
    }
    assert_eq!(value(&metrics, sample), Some(1.0));
}

#[test]
fn problems_are_counted_by_code_with_and_without_an_endpoint() {
    let metrics = of_one_endpoint();
    let text = String::from_utf8(metrics.render()).unwrap();
    assert!(
        !text.contains("larder_problems_total{"),
        "none has occurred"
    );
    let path = Some(EndpointId::new(0));
    for (endpoint, problem) in [
        (path, "LRD-103"),
        (path, "LRD-401"),
        (path, "LRD-401"),
        (None, "LRD-101"),
    ] {
        metrics.record(&Event::RequestServed {
            endpoint,
            client: None,
            cache: CacheStatus::None,
            code: 400,
            problem: Some(problem),
            elapsed: Duration::ZERO,
            age: None,
            stale_if_error: false,
        });
    }
    let count = |endpoint, problem| {
        let labels = format!("endpoint=\"{endpoint}\",problem=\"{problem}\"");
        value(&metrics, &format!("larder_problems_total{{{labels}}}"))
    };
    assert_eq!(count("/n", "LRD-103"), Some(1.0));
    assert_eq!(count("/n", "LRD-401"), Some(2.0));
    assert_eq!(count("", "LRD-101"), Some(1.0));
    assert_eq!(count("/n", "LRD-101"), None);
}

#[test]
fn decisions_and_requests_are_counted_by_client() {
    let settings = r#"
        [access]
        default = "public"
        [access.keys]
        sql = "SELECT"
        every = "1s"
        [[access.key]]
        name = "grafana"
        sha256 = ["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]
        [[access.jwt]]
        name = "idp"
        issuer = "https://idp.example/"
        audience = ["larder"]
        algorithms = ["HS256"]
        keys = { secret = "0123456789abcdef0123456789abcdef" }"#;
    let metrics = of_one_endpoint_with(settings);
    let served = |client, code, problem| {
        metrics.record(&Event::RequestServed {
            endpoint: Some(EndpointId::new(0)),
            client,
            cache: CacheStatus::None,
            code,
            problem,
            elapsed: Duration::ZERO,
            age: None,
            stale_if_error: false,
        });
    };
    let [grafana, idp, stored] = [0, 1, 2].map(|index| Some(ClientId::new(index)));
    served(grafana, 200, None);
    served(grafana, 200, None);
    served(grafana, 404, Some("LRD-101"));
    served(grafana, 429, Some("LRD-405"));
    served(grafana, 418, None);
    served(idp, 403, Some("LRD-203"));
    served(stored, 304, None);
    served(None, 401, Some("LRD-201"));
    served(None, 429, Some("LRD-405"));
    served(None, 200, None);
    for (sample, count) in [
        ("access_total{method=\"key\",outcome=\"allowed\"}", 5.0),
        ("access_total{method=\"key\",outcome=\"limited\"}", 1.0),
        ("access_total{method=\"token\",outcome=\"allowed\"}", 0.0),
        (
            "access_total{method=\"token\",outcome=\"insufficient_scope\"}",
            1.0,
        ),
        (
            "access_total{method=\"none\",outcome=\"no_credential\"}",
            1.0,
        ),
        ("access_total{method=\"none\",outcome=\"limited\"}", 1.0),
        (
            "client_requests_total{client=\"grafana\",code=\"200\"}",
            2.0,
        ),
        (
            "client_requests_total{client=\"grafana\",code=\"418\"}",
            1.0,
        ),
        ("client_requests_total{client=\"idp\",code=\"403\"}", 1.0),
        (
            "client_requests_total{client=\"(repository)\",code=\"304\"}",
            1.0,
        ),
        ("limited_total{client=\"grafana\"}", 1.0),
        ("limited_total{client=\"\"}", 1.0),
    ] {
        let sample = format!("larder_{sample}");
        assert_eq!(value(&metrics, &sample), Some(count), "{sample}");
    }
    assert_eq!(
        value(
            &metrics,
            "larder_access_total{method=\"none\",outcome=\"allowed\"}"
        ),
        None
    );
}

#[test]
fn saved_time_is_counted_at_the_duration_of_the_last_query() {
    let metrics = of_one_endpoint();
    let endpoint = EndpointId::new(0);
    let queried = |millis, outcome| {
        let elapsed = Duration::from_millis(millis);
        metrics.record(&Event::QueryFinished {
            endpoint,
            outcome,
            elapsed,
        });
    };
    let served = |cache, code| {
        let (elapsed, age) = (Duration::ZERO, None);
        let endpoint = Some(endpoint);
        metrics.record(&Event::RequestServed {
            endpoint,
            client: None,
            cache,
            code,
            problem: None,
            elapsed,
            age,
            stale_if_error: false,
        });
    };
    let saved = || {
        value(
            &metrics,
            "larder_repository_seconds_saved_total{endpoint=\"/n\"}",
        )
        .unwrap()
    };
    served(CacheStatus::None, 400);
    queried(500, QueryOutcome::Ok);
    served(CacheStatus::Miss, 200);
    assert_eq!(saved(), 0.0);
    served(CacheStatus::Hit, 200);
    served(CacheStatus::Hit, 304);
    served(CacheStatus::Coalesced, 200);
    assert_eq!(saved(), 1.5);
    assert_eq!(saved(), 1.5);
    served(CacheStatus::Stale, 200);
    queried(9_000, QueryOutcome::Timeout);
    queried(250, QueryOutcome::Ok);
    served(CacheStatus::Hit, 200);
    assert_eq!(saved(), 2.25);
}

fn check_suffix_free(ends: &[String]) {
    for a in ends {
        for b in ends.iter().filter(|b| *b != a) {
            assert!(
                !a.ends_with(b.as_str()),
                "{a} ends with {b}: two endpoints could share a metric"
            );
        }
    }
}
