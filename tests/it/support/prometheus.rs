//! The real Prometheus, a process on a port of its own, with the files in `grafana/` in a hurry.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::http;

/// How many times faster everything is that the files count in seconds, minutes and hours: what takes
/// Prometheus ten minutes to tell takes it ten seconds here, and it asks four times a second.
const HURRY: u32 = 60;

/// Labels of a series.
pub(crate) type Labels = BTreeMap<String, String>;

/// A series: its labels, and its values from the first to the last.
pub(crate) type Series = (Labels, Vec<f64>);

/// A running Prometheus. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Prometheus {
    address: SocketAddr,
    _process: Child,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it by `grafana/prometheus.yml`, which scrapes the first of these jobs; the others have one
    /// target each as well.
    pub(crate) async fn scraping(jobs: &[(&str, SocketAddr)]) -> Self {
        Self::start(jobs, None).await
    }

    /// [`Prometheus::scraping`], with this key for the first of the jobs as the file shows it.
    pub(crate) async fn scraping_with_key(key: &str, jobs: &[(&str, SocketAddr)]) -> Self {
        Self::start(jobs, Some(key)).await
    }

    async fn start(jobs: &[(&str, SocketAddr)], key: Option<&str>) -> Self {
        let folder = TempDir::new().unwrap();
        let read = |name: &str| std::fs::read_to_string(grafana().join(name)).unwrap();
        let write = |name: &str, text: &str| {
            let text = hurried(text);
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        write("alerts.yaml", &read("alerts.yaml"));
        let ((first, target), others) = jobs.split_first().unwrap();
        let shipped = read("prometheus.yml");
        let name = format!("job_name: {first} ");
        assert!(shipped.contains(&name), "{shipped}");
        let mut config = shipped.replace("127.0.0.1:8080", &target.to_string());
        assert_ne!(config, shipped);
        if let Some(key) = key {
            // With the end of a line, which an editor leaves there.
            std::fs::write(folder.path().join("larder.key"), format!("{key}\n")).unwrap();
            let open = config.clone();
            config = config
                .replace(
                    "    # authorization:\n    #   credentials",
                    "    authorization:\n      credentials",
                )
                .replace("/etc/prometheus/larder.key", "larder.key");
            assert_ne!(config, open, "the file shows how to present a key");
        }
        for (name, target) in others {
            config.push_str(&format!(
                "\n  - job_name: {name}\n    static_configs: [{{ targets: [\"{target}\"] }}]\n"
            ));
        }
        write("prometheus.yml", &config);

        // Free until a moment before Prometheus takes it.
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        drop(taken);
        let mut process = Command::new("prometheus")
            .arg(format!("--web.listen-address={address}"))
            .arg(format!(
                "--storage.tsdb.path={}/data",
                folder.path().display()
            ))
            .arg(format!(
                "--config.file={}/prometheus.yml",
                folder.path().display()
            ))
            .arg(format!("--query.lookback-delta={}", hurried("5m")))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("Prometheus is not installed: {error}; see tests/run"));
        let mut ask = pauses();
        while TcpStream::connect(address).await.is_err()
            || http::get(address, "/-/ready").await.status != 200
        {
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none(), "Prometheus has ended: {ended:?}");
            ask.tick().await;
        }
        Self {
            address,
            _process: process,
            _folder: folder,
        }
    }

    /// What an expression is at this moment.
    pub(crate) async fn now(&self, promql: &str) -> Vec<Series> {
        let target = format!("/api/v1/query?query={}", encoded(promql));
        self.series(&target, promql).await
    }

    /// What an expression was each second of the last minutes.
    pub(crate) async fn over(&self, minutes: u64, promql: &str) -> Vec<Series> {
        let end = self.time().await;
        let start = end - 60.0 * minutes as f64;
        let target = format!(
            "/api/v1/query_range?step=1&start={start}&end={end}&query={}",
            encoded(promql)
        );
        self.series(&target, promql).await
    }

    /// What time it is there, in seconds.
    pub(crate) async fn time(&self) -> f64 {
        self.now("vector(time())").await[0].1[0]
    }

    /// What the API says.
    pub(crate) async fn get(&self, target: &str) -> Value {
        let answer = http::get(self.address, target).await;
        answer.assert_status(200);
        answer.json()["data"].clone()
    }

    async fn series(&self, target: &str, promql: &str) -> Vec<Series> {
        let answer = http::get(self.address, target).await;
        assert_eq!(answer.status, 200, "{promql}: {}", answer.text());
        let result = answer.json()["data"]["result"].clone();
        let number = |value: &Value| value[1].as_str().unwrap().parse::<f64>().unwrap();
        let series = |one: &Value| {
            let labels = serde_json::from_value(one["metric"].clone()).unwrap();
            let values = match one["values"].as_array() {
                Some(values) => values.iter().map(number).collect(),
                None => vec![number(&one["value"])],
            };
            (labels, values)
        };
        result.as_array().unwrap().iter().map(series).collect()
    }
}

/// As often as it makes sense to ask Prometheus again.
pub(crate) fn pauses() -> tokio::time::Interval {
    tokio::time::interval(Duration::from_millis(250))
}

/// The folder with what Prometheus and Grafana are given.
pub(crate) fn grafana() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana")
}

/// The text with every duration in it made shorter: a number with a unit that stands by itself, as in
/// `[5m]` or `for: 2m`, and not as in `rate5m`.
pub(crate) fn hurried(text: &str) -> String {
    let duration = regex::Regex::new(r"\b([0-9]+)(s|m|h|d)\b").unwrap();
    let shorter = |found: &regex::Captures<'_>| {
        let number: u64 = found[1].parse().unwrap();
        let seconds = match &found[2] {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => 86_400,
        };
        let whole = Duration::from_secs(number * seconds);
        format!("{}ms", (whole / HURRY).as_millis())
    };
    duration.replace_all(text, shorter).into_owned()
}

fn encoded(promql: &str) -> String {
    utf8_percent_encode(promql, NON_ALPHANUMERIC).to_string()
}

#[test]
fn durations_are_shortened_and_names_are_not() {
    assert_eq!(
        hurried("for: 2m # rate5m[1h] 15s a_rate1d 0.1 127.0.0.1:8080"),
        "for: 2000ms # rate5m[60000ms] 250ms a_rate1d 0.1 127.0.0.1:8080"
    );
}
