//! Larder as curl and h2load see it, over every version of HTTP that it speaks.

use std::path::Path;
use std::process::Stdio;

use larder::observe::Event;
use tempfile::TempDir;
use tokio::process::Command;

use crate::protocols::{certificate, tls};
use crate::support::app::App;
use crate::support::postgres::Postgres;
use crate::wire::ENDPOINTS;

/// A protocol version: the server's setting, the scheme, and the options of either program.
struct Version {
    server: String,
    scheme: &'static str,
    h2load: &'static [&'static str],
    curl: &'static str,
    /// The negotiated version, as curl names it.
    name: &'static str,
}

impl Version {
    fn url(&self, app: &App, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, app.address().port())
    }
}

fn versions(folder: &Path) -> [Version; 4] {
    let version = |scheme, h2load, curl, name| Version {
        server: match scheme {
            "http" => "h2c = true".to_owned(),
            _ => tls(folder),
        },
        scheme,
        h2load,
        curl,
        name,
    };
    // h2load speaks HTTP/2 by default.
    [
        version("http", &["--h1"], "--http1.1", "1.1"),
        version("http", &[], "--http2-prior-knowledge", "2"),
        version("https", &["--h1"], "--http1.1", "1.1"),
        version("https", &[], "--http2", "2"),
    ]
}

async fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().await;
    let output =
        output.unwrap_or_else(|error| panic!("{program}, which tests/run installs: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn h2load_gets_every_response_in_every_version() {
    /// More than the connections have in flight, so that most are sent on a connection that was used before.
    const REQUESTS: &str = "4000";
    let db = Postgres::with("").await;
    let folder = TempDir::new().unwrap();
    certificate(folder.path());
    for version in versions(folder.path()) {
        let app = App::start_with(&db, &version.server, ENDPOINTS).await;
        let url = version.url(&app, "/n");
        let load = ["-n", REQUESTS, "-c", "20", "-m", "10", &url];
        let said = output_of("h2load", &[&load[..], version.h2load].concat()).await;
        let all = format!("{REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout");
        assert!(said.contains(&all), "{url}: {said}");
        assert!(said.contains(&format!("{REQUESTS} 2xx, 0 3xx")), "{said}");
        assert!(app.stop().await);
    }
}

/// Requests that h2load sends while its connection is closed may be lost. It gets every response that was sent.
#[tokio::test(flavor = "multi_thread")]
async fn h2load_gets_every_finished_response_during_a_shutdown() {
    let served = |event: &Event| matches!(event, Event::RequestServed { .. });
    let db = Postgres::with("").await;
    let folder = TempDir::new().unwrap();
    certificate(folder.path());
    for version in versions(folder.path()) {
        let app = App::start_with(&db, &version.server, ENDPOINTS).await;
        let url = version.url(&app, "/n");
        // More than can be answered before the shutdown.
        let load = ["-n", "100000000", "-c", "20", "-m", "10", &url];
        let loading = Command::new("h2load")
            .args([&load[..], version.h2load].concat())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        app.wait_for(2_000, served).await;
        let (clean, answered) = app.stop_and_count(served).await;
        assert!(clean, "{url}");
        let said = loading.wait_with_output().await.unwrap().stdout;
        let said = String::from_utf8(said).unwrap();
        let got = said
            .split(", ")
            .find_map(|it| it.strip_suffix(" succeeded"));
        assert_eq!(got, Some(&*answered.to_string()), "{url}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_negotiates_a_version_decompresses_and_revalidates() {
    let db = Postgres::with("").await;
    let folder = TempDir::new().unwrap();
    certificate(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (root, etag, body) = (file("server.crt"), file("etag"), file("body"));
    for version in versions(folder.path()) {
        let app = App::start_with(&db, &version.server, ENDPOINTS).await;
        let ask = async |path: &str, more: &[&str]| {
            let url = version.url(&app, path);
            let every = ["-sS", "--cacert", &root, version.curl, "-o", &body, &url];
            let told = ["-w", "%{http_code} %{http_version} %{size_download}"];
            output_of("curl", &[&every[..], &told, more].concat()).await
        };
        let name = version.name;
        assert_eq!(
            ask("/n", &["--etag-save", &etag]).await,
            format!("200 {name} 1")
        );
        assert_eq!(
            ask("/n", &["--etag-compare", &etag]).await,
            format!("304 {name} 0")
        );
        assert_eq!(ask("/n", &["--head"]).await, format!("200 {name} 0"));
        assert_eq!(
            ask("/n", &["-X", "DELETE"]).await[..3],
            *"405",
            "{}",
            std::fs::read_to_string(&body).unwrap()
        );

        let said = ask("/large", &["--compressed"]).await;
        let sent: u64 = said.rsplit_once(' ').unwrap().1.parse().unwrap();
        assert!(sent < 100_000, "{said}");
        assert_eq!(std::fs::metadata(&body).unwrap().len(), 4_000_002);
        assert!(app.stop().await);
    }
}
