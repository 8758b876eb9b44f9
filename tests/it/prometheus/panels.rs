//! Prometheus's answers fit their panels: the legend distinguishes the series, and the unit fits the values.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::dashboards::{dashboards, labels_of_legend, panels};
use crate::support::prometheus::{Labels, Prometheus, hurried};

/// Beyond this, a number of seconds is a timestamp and not a duration.
const SECONDS_MAX: f64 = 1e6;

/// Runs the queries of every panel and every variable for the last minutes.
pub(super) async fn hold(prometheus: &Prometheus, minutes: u64, endpoint: &str) {
    let mut complaints = Vec::new();
    for (file, dashboard) in dashboards() {
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        for variable in variables
            .iter()
            .filter(|variable| variable["type"] == "query")
        {
            let chosen = choices(prometheus, variable["query"]["query"].as_str().unwrap()).await;
            if chosen == 0 {
                complaints.push(format!(
                    "{file}: nothing to choose for {}",
                    variable["name"]
                ));
            }
        }
        for panel in panels(&dashboard) {
            let mut legends = BTreeSet::new();
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = target["expr"].as_str().unwrap();
                let series = prometheus
                    .over(minutes, &filled(expression, endpoint))
                    .await;
                let mut found = Vec::new();
                if series.is_empty() {
                    found.push("no data".to_owned());
                }
                for (labels, values) in &series {
                    found.extend(about_labels(target, labels, &mut legends));
                    found.extend(about_values(panel, expression, values));
                }
                let title = panel["title"].as_str().unwrap();
                let told = |what| format!("{file}: {title}: {what} in {expression}");
                complaints.extend(found.into_iter().map(told));
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// An expression with the values of its variables: all instances, and one endpoint where it selects one.
fn filled(expression: &str, endpoint: &str) -> String {
    hurried(expression)
        .replace("$__rate_interval", "2s")
        .replace("=~\"$instance\"", "=~\".*\"")
        .replace("=~\"$endpoint\"", "=~\".*\"")
        .replace("=\"$endpoint\"", &format!("=\"{endpoint}\""))
}

/// The number of values of `label_values(metric{…}, label)`.
async fn choices(prometheus: &Prometheus, query: &str) -> usize {
    let inside = query.strip_prefix("label_values(").unwrap();
    let (metric, label) = inside.strip_suffix(')').unwrap().rsplit_once(',').unwrap();
    let promql = format!("group by ({label}) ({})", filled(metric, ""));
    let found = prometheus.now(&promql).await;
    found
        .iter()
        .filter(|(labels, _)| labels.contains_key(label.trim()))
        .count()
}

fn about_labels(target: &Value, labels: &Labels, legends: &mut BTreeSet<String>) -> Vec<String> {
    if target["format"] == "table" {
        // One row per endpoint, joined with the columns of the other queries.
        let names: Vec<&String> = labels.keys().collect();
        let is_row = names == ["endpoint"];
        return (!is_row)
            .then(|| format!("a row of {labels:?}"))
            .into_iter()
            .collect();
    }
    let mut shown = target["legendFormat"].as_str().unwrap().to_owned();
    let mut complaints = Vec::new();
    for label in labels_of_legend(&shown) {
        match labels.get(&label) {
            Some(value) => shown = shown.replace(&format!("{{{{{label}}}}}"), value),
            None => complaints.push(format!("the legend's {label} is not there")),
        }
    }
    if !legends.insert(shown.clone()) {
        complaints.push(format!("two series are called {shown:?}"));
    }
    complaints
}

fn about_values(panel: &Value, expression: &str, values: &[f64]) -> Option<String> {
    let defaults = &panel["fieldConfig"]["defaults"];
    // There are no quantiles without requests.
    let numbers: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    if numbers.is_empty() {
        return Some("no number".to_owned());
    }
    // Two counters of the same scrape are read one after the other.
    let most = match (defaults["max"].as_f64(), defaults["unit"].as_str()) {
        (Some(max), _) => max * 1.01,
        (None, Some("s")) => SECONDS_MAX,
        (None, _) => f64::MAX,
    };
    // A scrape has the timestamp of its start, and a value in it may be later.
    let least = if expression.contains("time()") {
        -1.0
    } else {
        0.0
    };
    let is_sane = |value: &f64| (least..=most).contains(value);
    let wrong = numbers.iter().find(|value| !is_sane(value))?;
    Some(format!("{wrong} is not a possible value"))
}
