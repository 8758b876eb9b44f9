//! What is counted, and under which labels.

use super::*;
#[cfg(test)]
use crate::config::Config;

/// The child of a family is found by a hash over its label values with nothing between them.
#[test]
fn label_values_behind_the_endpoint_are_told_apart_without_separators() {
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
}

fn of_one_endpoint() -> Metrics {
    let text =
        "[repository]\nurl = \"postgres://h/d\"\n[[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1\"\n";
    let folder = std::path::Path::new(".");
    let config = Config::parse("config.toml", text.to_owned(), folder, &|_| None);
    Metrics::new(&Plan::compile(config.unwrap()).unwrap())
}

#[test]
fn time_is_saved_at_what_the_query_took_when_it_last_ran() {
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
            cache,
            code,
            elapsed,
            age,
        });
    };
    let saved = || {
        let text = String::from_utf8(metrics.render()).unwrap();
        let sample = "larder_repository_seconds_saved_total{endpoint=\"/n\"} ";
        let found = text.lines().find_map(|line| line.strip_prefix(sample));
        found.unwrap().parse::<f64>().unwrap()
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
