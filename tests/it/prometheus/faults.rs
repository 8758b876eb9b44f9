//! Several Larders, each with a different fault, scraped by one Prometheus: each alert fires during its fault
//! only, and clears afterwards.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use larder::access::key;
use larder::observe::{Event, RefreshOutcome};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::{panels, values_of};
use crate::support::app::App;
use crate::support::gate::{GATED, Gate};
use crate::support::http::Connection;
use crate::support::issuer::{ISSUER, Publisher, SigningKey};
use crate::support::postgres::Postgres;
use crate::support::prometheus::{Prometheus, pauses};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Healthy,
    Faulty,
    Over,
}

/// The Larder whose Postgres becomes unreachable. Its job name is that of `grafana/prometheus.yml`.
const AWAY: &str = "larder";
/// One endpoint's table is dropped.
const FAILING: &str = "failing";
/// Clients request more keys than fit into the cache.
const THRASHING: &str = "thrashing";
/// Clients open all connections.
const CROWDED: &str = "crowded";
/// More loads are requested than can run.
const SLOW: &str = "slow";
/// Clients keep requesting new keys.
const COLD: &str = "cold";
/// The keys to warm cannot be loaded, nor those of an issuer of tokens.
const UNREADY: &str = "unready";
/// The task of a probe panics.
const DEFECTIVE: &str = "defective";
/// Clients are refused, or use up their limit: no fault of Larder's.
const GUARDED: &str = "guarded";
/// A configuration with a mistake is refused.
const MISTAKEN: &str = "mistaken";
/// There are no requests.
const IDLE: &str = "idle";

/// The alerts that each fault must raise.
const EXPECTED: [(&str, &str); 12] = [
    (AWAY, "LarderFreshnessBurningFast"),
    (AWAY, "LarderFreshnessBurningSlow"),
    (AWAY, "LarderRepositoryDown"),
    (FAILING, "LarderRefreshFailing"),
    (THRASHING, "LarderCacheThrashing"),
    (CROWDED, "LarderHttpConnectionsSaturated"),
    (SLOW, "LarderRepositoryConnectionsSaturated"),
    (COLD, "LarderHitRatioCollapsed"),
    (UNREADY, "LarderNotReady"),
    (UNREADY, "LarderJwksStale"),
    (DEFECTIVE, "LarderTaskFailing"),
    (MISTAKEN, "LarderReloadFailed"),
];

/// The alerts that fire or have fired, with their jobs.
type Alerts = BTreeSet<(String, String)>;

/// Larders, and the clients that poll them.
struct World {
    away: Postgres,
    failing: Postgres,
    unready: Option<Gate>,
    issuer: Publisher,
    /// Kept for as long as the Larders that use them.
    _shared: [Postgres; 2],
    _guarded_issuer: Publisher,
    apps: Vec<(&'static str, App)>,
    phase: watch::Sender<Phase>,
    clients: JoinSet<()>,
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_fires_in_its_fault_and_in_no_other_and_panels_show_it() {
    let mut world = World::begin().await;
    let targets: Vec<_> = world
        .apps
        .iter()
        .map(|(job, app)| (*job, app.address()))
        .collect();
    let prometheus = Prometheus::scraping(&targets).await;

    // Ten minutes in the time of the rules. Prometheus scrapes for the first time after five real seconds;
    // until then the alert that Larder is down is correct.
    until(&prometheus, "it is looked at for a while", async || {
        let looks = prometheus
            .now("count_over_time(up{job=\"larder\"}[1h])")
            .await;
        looks.iter().any(|(_, values)| values[0] >= 40.0)
    })
    .await;
    let began = prometheus.time().await;
    let early = firing(&prometheus).await;
    assert!(early.iter().all(|(job, _)| job == UNREADY), "{early:?}");
    rules_are_sound(&prometheus).await;

    world.break_all().await;
    let expected: Alerts = EXPECTED
        .map(|(job, alert)| (job.to_owned(), alert.to_owned()))
        .into();
    until(&prometheus, "every alert fires", async || {
        firing(&prometheus).await.is_superset(&expected)
    })
    .await;
    panels::hold(&prometheus, 2, "/steady").await;

    world.mend_all().await;
    until(&prometheus, "no alert fires any more", async || {
        firing(&prometheus).await.is_empty()
    })
    .await;
    let seconds = (prometheus.time().await - began).floor();
    let ever = format!("max_over_time(ALERTS{{alertstate=\"firing\"}}[{seconds}s])");
    assert_eq!(alerts(&prometheus, &ever).await, expected);

    world.stop(AWAY).await;
    let down = [(AWAY.to_owned(), "LarderDown".to_owned())].into();
    until(&prometheus, "it is reported as down", async || {
        firing(&prometheus).await == down
    })
    .await;
    let mut all: BTreeSet<String> = expected.into_iter().map(|(_, alert)| alert).collect();
    all.insert("LarderDown".to_owned());
    assert_eq!(all, values_of("alert").into_iter().collect());
}

/// Checks that every rule was evaluated, and that every ratio is between 0 and 1.
async fn rules_are_sound(prometheus: &Prometheus) {
    let rules = prometheus.get("/api/v1/rules").await;
    let groups = rules["groups"].as_array().unwrap();
    let rules: Vec<_> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    assert_eq!(
        rules.len(),
        values_of("alert").len() + values_of("record").len()
    );
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        if rule["type"] == "recording" {
            let name = rule["name"].as_str().unwrap();
            let series = prometheus.now(name).await;
            assert!(
                series.iter().any(|(labels, _)| labels["job"] == AWAY),
                "{name}"
            );
            for (labels, values) in series {
                let jobs: Vec<&String> = labels.keys().collect();
                assert_eq!(jobs, ["__name__", "job"], "{name}");
                let most = if name.contains("ratio") {
                    1.0
                } else {
                    f64::MAX
                };
                assert!((0.0..=most).contains(&values[0]), "{name}: {values:?}");
            }
        }
    }
}

async fn firing(prometheus: &Prometheus) -> Alerts {
    alerts(prometheus, "ALERTS{alertstate=\"firing\"}").await
}

async fn alerts(prometheus: &Prometheus, promql: &str) -> Alerts {
    let series = prometheus.now(promql).await;
    let names = |(labels, _): crate::support::prometheus::Series| {
        (labels["job"].clone(), labels["alertname"].clone())
    };
    series.into_iter().map(names).collect()
}

/// Queries Prometheus until the condition holds.
async fn until(prometheus: &Prometheus, what: &str, is_it: impl AsyncFn() -> bool) {
    let asking = async {
        let mut pauses = pauses();
        while !is_it().await {
            pauses.tick().await;
        }
    };
    if timeout(PATIENCE, asking).await.is_err() {
        panic!("not so: {what}; firing: {:?}", firing(prometheus).await);
    }
}

impl World {
    async fn begin() -> Self {
        let (phase, _) = watch::channel(Phase::Healthy);
        let away = Postgres::own().await;
        away.execute("CREATE TABLE n AS SELECT 1 AS v").await;
        let failing =
            Postgres::with("CREATE TABLE t AS SELECT 1 AS v; CREATE TABLE p AS SELECT 1 AS v")
                .await;
        let gated = Postgres::with("").await;
        let other = Postgres::with("").await;
        let unready = Some(Gate::close(&gated).await);
        let issuer = Publisher::silent().await;
        let keys_url = issuer.url();
        let unready_keys = format!(
            "[access]\ndefault = \"public\"\n[[access.jwt]]\nissuer = \"{ISSUER}\"\naudience = [\"a\"]\n\
             algorithms = [\"ES256\"]\nkeys = {{ url = \"{keys_url}\" }}\n\
             {GATED}\ntimeout = \"10m\"\nwarm = [{{ n = 1 }}]"
        );
        let guarded_issuer = Publisher::of(&[&SigningKey::generate("1")]).await;
        let small =
            format!("[cache]\nmax_size = \"64KiB\"\n[defaults]\nmax_bytes = \"16KiB\"\n{BY_KEY}");
        let url = &other.patient_url();
        let over_probe = Box::new(|event: &Event| {
            let defect = matches!(event, Event::ProbeFailing { .. });
            assert!(!defect, "a defect");
        });
        let apps = vec![
            (AWAY, App::launch(away.url(), "", STEADY).await),
            (
                FAILING,
                App::launch(&failing.patient_url(), "", ON_A_TABLE).await,
            ),
            (THRASHING, App::launch(url, LOADS, &small).await),
            (
                CROWDED,
                App::start_with(&other, "max_connections = 20", BY_KEY).await,
            ),
            (SLOW, App::launch(url, "max_connections = 2", BY_KEY).await),
            (COLD, App::launch(url, LOADS, BY_KEY).await),
            (
                UNREADY,
                App::launch(&gated.patient_url(), PATIENT, &unready_keys).await,
            ),
            (
                DEFECTIVE,
                App::launch_with(&failing, PROBED, over_probe).await,
            ),
            (
                GUARDED,
                App::launch(url, "", &guarded(&guarded_issuer.url())).await,
            ),
            (MISTAKEN, App::launch(url, "", BY_KEY).await),
            (IDLE, App::launch(url, "", BY_KEY).await),
        ];
        for (_, app) in apps.iter().filter(|(job, _)| *job != UNREADY) {
            app.wait_until_ready().await;
        }
        let mut world = Self {
            away,
            failing,
            unready,
            issuer,
            _shared: [gated, other],
            _guarded_issuer: guarded_issuer,
            apps,
            phase,
            clients: JoinSet::new(),
        };
        world.send_clients();
        world
    }

    fn app(&self, job: &str) -> &App {
        let found = self.apps.iter().find(|(name, _)| *name == job);
        &found.unwrap().1
    }

    fn send_clients(&mut self) {
        use Phase::{Faulty, Healthy, Over};
        let fixed = |target: &str| Some(target.to_owned());
        // Few requests during the outage and many after it: in the end, less than a thousandth of all
        // failed.
        self.ask(AWAY, 100, move |phase, n| match phase {
            Faulty if n % 20 != 0 => None,
            Faulty | Healthy | Over => fixed("/steady"),
        });
        self.ask(AWAY, 2_000, move |_, n| Some(format!("/n/{n}")));
        let (address, phase) = (self.app(AWAY).address(), self.phase.subscribe());
        self.clients.spawn(flood(address, phase));
        self.ask(AWAY, 1_000, move |_, _| fixed("/n/x"));
        self.ask(AWAY, 1_000, move |_, _| fixed("/steady?x=1"));
        self.ask(FAILING, 20, move |_, n| Some(format!("/t/{}", n % 40)));
        self.ask(THRASHING, 20, move |phase, n| {
            (phase == Faulty).then(|| format!("/big/{n}"))
        });
        for _ in 0..19 {
            self.ask(CROWDED, 500, move |phase, _| {
                (phase == Faulty).then(|| "/big/1".to_owned())
            });
        }
        for client in 0..8 {
            self.ask(SLOW, 10, move |phase, n| {
                (phase == Faulty).then(|| format!("/slow/{}", 8 * n + client))
            });
        }
        for fields in [&[("X-API-Key", "dashboard")][..], &[]] {
            let address = self.app(GUARDED).address();
            self.clients.spawn(poll_guarded(address, fields));
        }
        self.ask(COLD, 20, move |phase, n| match phase {
            Faulty => Some(format!("/big/{n}")),
            Healthy | Over => fixed("/big/0"),
        });
    }

    /// Polls at this interval, in milliseconds, over one connection.
    fn ask(
        &mut self,
        job: &str,
        every: u64,
        what: impl Fn(Phase, usize) -> Option<String> + Send + 'static,
    ) {
        let (address, phase) = (self.app(job).address(), self.phase.subscribe());
        self.clients.spawn(ask(address, phase, every, what));
    }

    async fn break_all(&self) {
        self.phase.send_replace(Phase::Faulty);
        let refused = self.app(MISTAKEN).reload_text("no configuration").await;
        refused.expect_err("it has a mistake");
        self.failing
            .execute("ALTER TABLE t RENAME TO gone; ALTER TABLE p RENAME TO q")
            .await;
        self.away.stop().await;
        let lost = |event: &Event| matches!(event, Event::RepositoryLost { .. });
        self.app(AWAY).wait_for(1, lost).await;
    }

    async fn mend_all(&mut self) {
        self.away.start_again().await;
        self.failing
            .execute("ALTER TABLE gone RENAME TO t; ALTER TABLE q RENAME TO p")
            .await;
        self.unready.take().unwrap().open().await;
        self.issuer.publish(&[&SigningKey::generate("1")]);
        let reloaded = self.app(MISTAKEN).reload(BY_KEY).await;
        reloaded.expect("it has no mistake");
        let loaded = |event: &Event| {
            let unchanged = RefreshOutcome::Unchanged;
            matches!(event, Event::RefreshFinished { outcome, .. } if *outcome == unchanged)
        };
        let before = self.app(AWAY).count(loaded);
        self.app(AWAY).wait_for(before + 1, loaded).await;
        self.phase.send_replace(Phase::Over);
    }

    /// Stops a Larder and its clients.
    async fn stop(&mut self, job: &str) {
        self.clients.shutdown().await;
        let place = self.apps.iter().position(|(name, _)| *name == job).unwrap();
        self.apps.swap_remove(place).1.stop().await;
    }
}

async fn ask(
    address: SocketAddr,
    phase: watch::Receiver<Phase>,
    every: u64,
    what: impl Fn(Phase, usize) -> Option<String>,
) {
    let mut ticks = interval(Duration::from_millis(every));
    let mut connection = None;
    for n in 0.. {
        ticks.tick().await;
        let now = *phase.borrow();
        match what(now, n) {
            Some(target) => {
                if connection.is_none() {
                    connection = Some(Connection::open(address).await);
                }
                connection.as_mut().unwrap().get(&target).await;
            }
            None if now != Phase::Faulty => connection = None,
            None => {}
        }
    }
}

/// Polls what needs a credential.
async fn poll_guarded(address: SocketAddr, fields: &[(&str, &str)]) {
    let mut ticks = interval(Duration::from_millis(50));
    let mut connection = Connection::open(address).await;
    loop {
        ticks.tick().await;
        connection.request("GET", "/guarded", fields).await;
    }
}

/// Sends some thousand requests per second once the fault is over, and leaves CPU time for the rest.
async fn flood(address: SocketAddr, mut phase: watch::Receiver<Phase>) {
    const AT_ONCE: usize = 50;
    let over = phase.wait_for(|phase| *phase == Phase::Over).await;
    drop(over.unwrap());
    let mut connection = Connection::open(address).await;
    let requests = "GET /steady HTTP/1.1\r\nHost: larder\r\n\r\n".repeat(AT_ONCE);
    let mut ticks = interval(Duration::from_millis(10));
    loop {
        ticks.tick().await;
        connection.send(requests.as_bytes()).await;
        for _ in 0..AT_ONCE {
            connection.answer("GET").await;
        }
    }
}

/// Answers that expire four seconds after Postgres becomes unreachable.
const STEADY: &str = r#"
    [[endpoint]]
    path = "/steady"
    sql = "SELECT count(*) FROM n"
    shape = "tuple"
    refresh = { every = "250ms" }
    timeout = "1s"
    stale_while_revalidate = "2s"

    [[endpoint]]
    path = "/n/{n}"
    sql = "SELECT :n::int AS n"
    max_age = "1s"
"#;

/// Answers that may be stale for longer than the fault lasts. A failed load is retried after up to ten
/// seconds, which are ten minutes in the time of the rules: it takes many keys for some to fail at any time.
const ON_A_TABLE: &str = r#"
    [[endpoint]]
    path = "/t/{n}"
    sql = "SELECT v FROM t WHERE v <> :n"
    max_age = "250ms"
    stale_while_revalidate = "1h"
"#;

/// Keys of each kind, and a limit that the client reaches.
fn guarded(keys_url: &str) -> String {
    let digest = key::hexadecimal(&key::digest("dashboard"));
    format!(
        r#"
        [access]
        default = "public"
        [[access.key]]
        name = "dashboard"
        sha256 = ["{digest}"]
        limit = {{ requests = "10/1s" }}
        [access.keys]
        sql = "SELECT 'nobody' AS name, encode(sha256('nobody'), 'hex') AS sha256"
        every = "1s"
        [[access.jwt]]
        issuer = "{ISSUER}"
        audience = ["larder"]
        algorithms = ["ES256"]
        keys = {{ url = "{keys_url}" }}
        [[endpoint]]
        path = "/guarded"
        sql = "SELECT 1 AS v"
        refresh = {{ every = "1s" }}
        access = {{}}
        "#
    )
}

const PROBED: &str = r#"
    [[endpoint]]
    path = "/probed"
    sql = "SELECT 1 AS v"
    refresh = { probe = { sql = "SELECT max(v) FROM p", every = "100ms" } }
"#;

const BY_KEY: &str = r#"
    [[endpoint]]
    path = "/big/{n}"
    sql = "SELECT :n::int AS n, repeat('x', 2000) AS filler"
    max_age = "1h"

    [[endpoint]]
    path = "/slow/{n}"
    sql = "SELECT :n::int AS n, pg_sleep(0.1)::text AS slept"
    max_age = "1h"
"#;

const PATIENT: &str = "statement_timeout = \"10m\"";
const LOADS: &str = "max_loads_per_second = 1000";
