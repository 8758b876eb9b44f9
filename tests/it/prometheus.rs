//! Exported metrics, alerts and panels. Prometheus and its tools check them on Larders with every fault for which
//! there is an alert.

mod faults; // each alert fires in its fault, and in no other
mod key; // a closed Larder is scraped with a key
mod panels; // Prometheus's answers fit the panels

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::dashboards::IN_USE;
use crate::documents::anchor;
use crate::support::app::App;
use crate::support::http;
use crate::support::postgres::Postgres;
use crate::support::prometheus::grafana;

const RUNBOOK: &str = include_str!("../../docs/runbook.md");

/// Runs `promtool`. Panics with its output if it complains.
fn promtool(arguments: &[&str], stdin: &str) {
    let mut process = Command::new("promtool")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool is not installed: {error}; see tests/run"));
    let input = process.stdin.take().unwrap();
    { input }.write_all(stdin.as_bytes()).unwrap();
    let ended = process.wait_with_output().unwrap();
    let output = [ended.stdout, ended.stderr].concat();
    let output = String::from_utf8_lossy(&output);
    assert!(ended.status.success(), "{output}");
    // `check metrics` succeeds with warnings.
    let is_silent = arguments != ["check", "metrics"] || output.is_empty();
    assert!(is_silent, "{output}");
}

#[test]
fn promtool_accepts_the_configuration_and_the_rules() {
    promtool(&["check", "config", "grafana/prometheus.yml"], "");
    promtool(
        &["check", "rules", "--lint-fatal", "grafana/alerts.yaml"],
        "",
    );
}

#[test]
fn each_alert_fires_in_its_fault_and_in_no_other_by_promtool() {
    promtool(
        &["test", "rules", "tests/it/prometheus/alerts.test.yaml"],
        "",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exported_metrics_match_the_list() {
    let db = Postgres::own().await;
    db.execute("CREATE TABLE n AS SELECT 1 AS v").await;
    let app = App::start(&db, IN_USE).await;
    app.get("/n").await.assert_cache("hit");
    let fields = [("X-API-Key", "abc")];
    for status in [200, 429] {
        let answer = http::request(app.address(), "GET", "/n/1", &fields).await;
        answer.assert_status(status);
    }
    app.get("/nowhere").await.assert_status(404);
    let text = app.get("/metrics").await.text().to_owned();
    promtool(&["check", "metrics"], &text);

    let surface = surface(&text);
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/prometheus/surface.txt"
    );
    if std::env::var_os("LARDER_BLESS").is_some() {
        std::fs::write(path, &surface).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    // The process metrics exist only on Linux.
    if cfg!(target_os = "linux") {
        assert_eq!(surface, written, "LARDER_BLESS=1 rewrites it");
    }
}

/// Each family with its type, the labels of its samples and its help.
fn surface(exported: &str) -> String {
    let mut surface = String::new();
    let mut help = "";
    let mut lines = exported.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').unwrap().1;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let mut labels = BTreeSet::new();
            while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
                let pairs = sample.split_once('{').map_or("", |(_, rest)| rest);
                let names = pairs
                    .split("=\"")
                    .map(|part| part.rsplit([',', ' ']).next().unwrap());
                labels.extend(names.filter(|name| is_name(name)).map(str::to_owned));
            }
            let labels: Vec<String> = labels.into_iter().collect();
            surface.push_str(&format!("{rest} {{{}}}\n    {help}\n", labels.join(", ")));
        }
    }
    surface
}

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|first| first.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c == '_')
}

/// The values of a key in the rules.
fn values_of(key: &str) -> Vec<String> {
    let rules = std::fs::read_to_string(grafana().join("alerts.yaml")).unwrap();
    let prefix = format!("{key}: ");
    rules
        .lines()
        .filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix(&prefix))
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_alert_is_complete_and_links_to_the_runbook() {
    let alerts = values_of("alert");
    for key in ["summary", "description", "runbook_url", "severity", "for"] {
        assert_eq!(values_of(key).len(), alerts.len(), "{key}");
    }
    for severity in values_of("severity") {
        assert!(["page", "ticket"].contains(&&*severity), "{severity}");
    }
    for (alert, url) in alerts.iter().zip(values_of("runbook_url")) {
        assert_eq!(url, format!("docs/runbook.md#{}", anchor(alert)));
    }
    let explained: Vec<&str> = RUNBOOK
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    assert_eq!(explained, alerts, "in the order of the rules");
}

#[test]
fn provisioning_of_grafana_and_prometheus_fits_together() {
    let read = |name: &str| std::fs::read_to_string(grafana().join(name)).unwrap();
    let value = |text: &str, key: &str| {
        let found = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(key)?.strip_prefix(": "));
        let value = found.unwrap().split(" #").next().unwrap();
        value.trim().to_owned()
    };
    let prometheus = read("prometheus.yml");
    let source = read("provisioning/datasources/larder.yaml");
    let interval = value(&source, "timeInterval");
    assert_eq!(interval, value(&prometheus, "scrape_interval"));
    let config = include_str!("../../config.toml");
    let listen = config
        .lines()
        .find_map(|line| line.strip_prefix("listen = \"")?.split('"').next());
    let target = value(&prometheus, "- targets");
    assert_eq!(target, format!("[\"{}\"]", listen.unwrap()));
    // The folder that the variable in the documents refers to.
    let path = value(&read("provisioning/dashboards/larder.yaml"), "path");
    let folder = path.strip_prefix("${LARDER_GRAFANA}/").unwrap();
    assert!(grafana().join(folder).join("overview.json").is_file());
    assert!(read("README.md").contains("LARDER_GRAFANA=$PWD/grafana "));
}
