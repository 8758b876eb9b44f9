//! The dashboards in `grafana/` and the metrics of a running Larder fit together: every metric that they query is
//! exported, and every exported metric is shown. Panels do not overlap, and links resolve. `prometheus` checks
//! the results of their queries, `tests/grafana` that Grafana can read them.

mod promql; // the names in an expression

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use larder::metrics::REFUSALS;
use larder::observe::{CacheStatus, QueryOutcome, RefreshOutcome, Trigger};
use serde_json::Value;

use crate::support::app::App;
use crate::support::http;
use crate::support::postgres::Postgres;
use crate::support::prometheus::grafana;
use promql::Query;

/// Metrics that no panel shows, and why.
const LEFT_OUT: [(&str, &str); 2] = [
    (
        "process_virtual_memory_bytes",
        "addresses are free; resident memory is not",
    ),
    ("process_threads", "the number of cores, and a few more"),
];

/// Labels that Prometheus adds to every sample.
const ADDED_BY_PROMETHEUS: [&str; 2] = ["instance", "job"];

#[tokio::test(flavor = "multi_thread")]
async fn every_queried_metric_and_label_is_exported() {
    let exported = Exported::by_a_larder_in_use().await;
    let mut complaints = Vec::new();
    for (file, dashboard) in dashboards() {
        let expressions = expressions(&dashboard);
        assert!(!expressions.is_empty(), "{file} has no queries");
        for expression in expressions {
            let found = exported.complaints_about(&expression);
            complaints.extend(found.map(|what| format!("{file}: {what} in {}", expression.promql)));
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_exported_metric_is_shown_or_left_out_for_a_reason() {
    let exported = Exported::by_a_larder_in_use().await;
    let shown: BTreeSet<String> = dashboards()
        .iter()
        .flat_map(|(_, dashboard)| panels(dashboard))
        .flat_map(expressions)
        .flat_map(|expression| Query::read(&expression.promql).selectors)
        .map(|selector| exported.family(&selector.metric).to_owned())
        .collect();
    let left_out = LEFT_OUT.map(|(metric, _)| metric.to_owned());
    for family in &exported.families {
        assert_ne!(
            shown.contains(family),
            left_out.contains(family),
            "{family} belongs either on a panel or in LEFT_OUT"
        );
    }
}

#[test]
fn every_panel_has_a_title_a_unit_and_a_description() {
    let readme = fs::read_to_string(grafana().join("README.md")).expect("it is UTF-8");
    for (file, dashboard) in dashboards() {
        let mut ids = BTreeSet::new();
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap_or_default();
            assert!(!title.is_empty(), "{file}: a panel without a title");
            assert!(readme.contains(title), "README.md does not explain {title}");
            let id = panel["id"].as_u64();
            assert!(
                id.is_some_and(|id| ids.insert(id)),
                "{file}: {title} has an id twice"
            );
            if panel["type"] == "row" {
                continue; // a heading
            }
            let unit = panel["fieldConfig"]["defaults"]["unit"].as_str();
            for (what, text) in [
                ("unit", unit),
                ("description", panel["description"].as_str()),
            ] {
                let is_set = text.is_some_and(|text| !text.is_empty());
                assert!(is_set, "{file}: {title} has no {what}");
            }
            for target in panel["targets"].as_array().into_iter().flatten() {
                let source = &target["datasource"]["uid"];
                assert_eq!(source, "${datasource}", "{file}: {title}");
            }
        }
    }
}

#[test]
fn panels_fill_their_rows_without_overlap() {
    for (file, dashboard) in dashboards() {
        let mut taken = BTreeMap::new();
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap();
            let side = |name: &str| panel["gridPos"][name].as_u64().expect(title);
            for y in side("y")..side("y") + side("h") {
                for x in side("x")..side("x") + side("w") {
                    let other = taken.insert((y, x), title);
                    assert_eq!(other, None, "{file}: overlaps {title}");
                }
            }
        }
        let height = taken.keys().map(|(y, _)| y + 1).max().unwrap();
        let whole: BTreeSet<_> = (0..height)
            .flat_map(|y| (0..24).map(move |x| (y, x)))
            .collect();
        let found: BTreeSet<_> = taken.into_keys().collect();
        let uneven: Vec<_> = found.symmetric_difference(&whole).collect();
        assert_eq!(uneven, Vec::<&(u64, u64)>::new(), "{file}: (y, x)");
    }
}

#[test]
fn dashboards_link_to_one_another() {
    let all = dashboards();
    let uids: BTreeSet<&str> = all
        .iter()
        .map(|(_, it)| it["uid"].as_str().unwrap())
        .collect();
    assert_eq!(uids.len(), all.len());
    for (file, dashboard) in &all {
        let links = dashboard["links"].as_array().unwrap();
        let tags = links
            .iter()
            .flat_map(|link| link["tags"].as_array().unwrap());
        for tag in tags {
            let tagged = all
                .iter()
                .filter(|(_, it)| it["tags"].as_array().unwrap().contains(tag));
            assert_eq!(tagged.count(), all.len(), "{file}: {tag}");
        }
        assert!(!links.is_empty(), "{file}");
        let mut urls = Vec::new();
        texts_of("url", dashboard, &mut urls);
        for url in urls.iter().filter(|url| !url.is_empty()) {
            let (uid, query) = url.strip_prefix("/d/").unwrap().split_once('?').unwrap();
            let target = all.iter().find(|(_, it)| it["uid"] == uid);
            let (_, target) = target.unwrap_or_else(|| panic!("{file}: {url} has no target"));
            let variables = target["templating"]["list"].as_array().unwrap();
            for given in query
                .split('&')
                .filter_map(|part| part.strip_prefix("var-"))
            {
                let name = given.split('=').next().unwrap();
                assert!(
                    variables.iter().any(|it| it["name"] == name),
                    "{file}: {url}"
                );
            }
        }
    }
}

#[test]
fn every_variable_in_a_query_is_declared() {
    for (file, dashboard) in dashboards() {
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        for panel in panels(&dashboard) {
            for expression in expressions(panel) {
                for used in expression.promql.split('$').skip(1) {
                    let is_name = |c: char| c.is_alphanumeric() || c == '_';
                    let name = used.split(|c| !is_name(c)).next().unwrap();
                    let is_given = name == "__rate_interval"
                        || variables.iter().any(|variable| variable["name"] == name);
                    assert!(is_given, "{file}: ${name} in {}", expression.promql);
                }
            }
        }
    }
}

/// Every string value of this key.
fn texts_of<'a>(key: &str, part: &'a Value, texts: &mut Vec<&'a str>) {
    match part {
        Value::Object(members) => {
            texts.extend(members.get(key).and_then(Value::as_str));
            members
                .values()
                .for_each(|member| texts_of(key, member, texts));
        }
        Value::Array(items) => items.iter().for_each(|item| texts_of(key, item, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// With everything that has metrics of its own. The digest is that of `abc`.
pub(crate) const IN_USE: &str = r#"
    [access]
    default = "public"
    [access.keys]
    sql = "SELECT 'nobody' AS name, encode(sha256('nobody'), 'hex') AS sha256"
    every = "1h"
    [[access.key]]
    name = "grafana"
    sha256 = ["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]
    limit = { requests = "1/1h" }
    [[access.jwt]]
    issuer = "https://idp.example/"
    audience = ["larder"]
    algorithms = ["ES256"]
    keys = { url = "http://127.0.0.1:1/" }
    [[endpoint]]
    path = "/n"
    sql = "SELECT v FROM n"
    refresh = { every = "1h" }
    [[endpoint]]
    path = "/n/{v}"
    sql = "SELECT v FROM n WHERE v = :v"
    access = {}
"#;

/// The metrics at `/metrics`.
#[derive(Debug)]
struct Exported {
    families: BTreeSet<String>,
    /// The labels of each sample.
    samples: BTreeMap<String, BTreeSet<String>>,
}

impl Exported {
    /// Exported after requests of several kinds, so that every family has a sample.
    async fn by_a_larder_in_use() -> Self {
        let db = Postgres::with("CREATE TABLE n AS SELECT 1 AS v").await;
        let app = App::start(&db, IN_USE).await;
        app.get("/n").await.assert_cache("hit");
        for (target, status) in [("/n/1", 200), ("/n/1", 429), ("/n", 200)] {
            let fields = [("X-API-Key", "abc")];
            let answer = http::request(app.address(), "GET", target, &fields).await;
            answer.assert_status(status);
        }
        app.get("/nowhere").await.assert_status(404);
        Self::read(app.get("/metrics").await.text())
    }

    fn read(text: &str) -> Self {
        let mut exported = Self {
            families: BTreeSet::new(),
            samples: BTreeMap::new(),
        };
        for line in text.lines() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                let (family, _) = declared.split_once(' ').expect("a family has a type");
                exported.families.insert(family.to_owned());
            } else if !line.starts_with('#') {
                let (sample, _) = line.rsplit_once(' ').expect("a sample has a value");
                for selector in Query::read(sample).selectors {
                    let labels = selector.labels.into_iter().map(|(name, _)| name);
                    exported
                        .samples
                        .entry(selector.metric)
                        .or_default()
                        .extend(labels);
                }
            }
        }
        exported
    }

    /// The family of a sample. The samples of a histogram have names of their own.
    fn family<'a>(&self, metric: &'a str) -> &'a str {
        ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|end| metric.strip_suffix(end))
            .find(|family| self.families.contains(*family))
            .unwrap_or(metric)
    }

    fn complaints_about(&self, expression: &Expression) -> impl Iterator<Item = String> {
        let query = Query::read(&expression.promql);
        let mut complaints = Vec::new();
        let mut known: BTreeSet<&str> = ADDED_BY_PROMETHEUS.into();
        if query.selectors.is_empty() {
            complaints.push("no metric".to_owned());
        }
        for selector in &query.selectors {
            let metric = &selector.metric;
            let Some(labels) = self.samples.get(metric) else {
                // The process metrics exist only on Linux.
                if cfg!(target_os = "linux") || !metric.starts_with("process_") {
                    complaints.push(format!("no metric {metric}"));
                }
                continue;
            };
            known.extend(labels.iter().map(String::as_str));
            for (label, value) in &selector.labels {
                let is_there =
                    labels.contains(label) || ADDED_BY_PROMETHEUS.contains(&label.as_str());
                if !is_there {
                    complaints.push(format!("{metric} has no label {label}"));
                }
                complaints.extend(unknown_values(label, value));
            }
        }
        let named = query.grouping.iter().chain(&expression.labels);
        for label in named.filter(|label| !known.contains(label.as_str())) {
            complaints.push(format!("no metric has the label {label}"));
        }
        // Aggregation removes the labels that it does not group by.
        let is_lost =
            |label: &&String| !query.grouping.is_empty() && !query.grouping.contains(label);
        for label in expression.labels.iter().filter(is_lost) {
            complaints.push(format!("the legend's {label} is aggregated away"));
        }
        complaints.into_iter()
    }
}

/// The words that are not values of this label, if all its values are known.
fn unknown_values(label: &str, value: &str) -> Vec<String> {
    let words: Vec<&str> = match label {
        "cache" => CacheStatus::ALL.map(CacheStatus::as_str).to_vec(),
        "trigger" => Trigger::ALL.map(Trigger::as_str).to_vec(),
        "outcome" => {
            let mut words = QueryOutcome::ALL.map(QueryOutcome::as_str).to_vec();
            words.extend(RefreshOutcome::ALL.map(RefreshOutcome::as_str));
            words.extend(REFUSALS.map(|(_, outcome)| outcome));
            words.push("allowed");
            words
        }
        "state" => vec!["idle", "active"],
        "limit" => vec!["fresh", "stale_while_revalidate", "stale_if_error"],
        _ => return Vec::new(),
    };
    value
        .split('|')
        .filter(|word| !words.contains(word))
        .map(|word| format!("{label} is never {word:?}"))
        .collect()
}

/// Every dashboard, with its file's name.
pub(crate) fn dashboards() -> Vec<(String, Value)> {
    let mut dashboards = Vec::new();
    let mut folders = vec![grafana()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("it can be read").flatten() {
            let path = entry.path();
            let name = path.display().to_string();
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("json") => {
                    let text = fs::read_to_string(&path).expect("it is UTF-8");
                    let dashboard = serde_json::from_str(&text);
                    dashboards.push((name, dashboard.expect("a dashboard is JSON")));
                }
                // For people, for Prometheus, and for provisioning Grafana.
                Some("md" | "yaml" | "yml") => {}
                _ => panic!("{name}: this test cannot read such a file"),
            }
        }
    }
    assert!(!dashboards.is_empty());
    dashboards
}

/// Every panel, including those inside rows.
pub(crate) fn panels(dashboard: &Value) -> Vec<&Value> {
    let own = dashboard["panels"].as_array().into_iter().flatten();
    own.flat_map(|panel| [vec![panel], panels(panel)].concat())
        .collect()
}

/// A query of a dashboard.
#[derive(Debug)]
struct Expression {
    promql: String,
    /// The labels in its legend.
    labels: Vec<String>,
}

/// Every expression in a part of a dashboard: of panels and of variables.
fn expressions(part: &Value) -> Vec<Expression> {
    match part {
        Value::Object(members) => {
            let own = members.get("expr").and_then(Value::as_str);
            let legend = members.get("legendFormat").and_then(Value::as_str);
            let own = own.map(|promql| Expression {
                promql: promql.to_owned(),
                labels: labels_of_legend(legend.unwrap_or_default()),
            });
            let below = members.values().flat_map(expressions);
            own.into_iter().chain(below).collect()
        }
        Value::Array(items) => items.iter().flat_map(expressions).collect(),
        Value::String(text) => label_values(text).into_iter().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// `{{endpoint}} {{code}}`
pub(crate) fn labels_of_legend(legend: &str) -> Vec<String> {
    let parts = legend.split("{{").skip(1);
    parts
        .filter_map(|part| Some(part.split_once("}}")?.0.trim().to_owned()))
        .collect()
}

/// `label_values(metric{label="value"}, label)`, which is Grafana's own and not PromQL.
fn label_values(text: &str) -> Option<Expression> {
    let inside = text.strip_prefix("label_values(")?.strip_suffix(')')?;
    let (promql, label) = inside.rsplit_once(',')?;
    Some(Expression {
        promql: promql.to_owned(),
        labels: vec![label.trim().to_owned()],
    })
}
