//! The recipes in `docs/access.md` work as they are written.

use larder::access::key;
use serde_json::json;

use crate::support::app::App;
use crate::support::front::{Cache, Front};
use crate::support::http;
use crate::support::postgres::Postgres;

const SALES: &str = "CREATE TABLE sales (tenant text, year int, amount int);
    INSERT INTO sales VALUES ('acme', 2004, 1), ('acme', 2005, 2), ('umbrella', 2005, 40)";

/// The configuration under this heading, with the digest of a key whose text is `secret`.
fn recipe(heading: &str) -> String {
    let text = include_str!("../../docs/access.md");
    let (_, section) = text.split_once(&format!("\n{heading}\n")).unwrap();
    let (_, rest) = section.split_once("```toml\n").unwrap();
    let (config, _) = rest.split_once("```").unwrap();
    let (_, digest) = config.split_once("sha256 = [\"").unwrap();
    let ours = key::hexadecimal(&key::digest("secret"));
    config.replace(&digest[..ours.len()], &ours)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_for_grafana() {
    let db = Postgres::with(SALES).await;
    let app = App::start(&db, &recipe("### One key for Grafana")).await;
    let ask = |fields: &'static [(&str, &str)]| {
        http::request(app.address(), "GET", "/sales/by-year", fields)
    };
    let by_year = json!([{ "year": 2004, "total": 1 }, { "year": 2005, "total": 42 }]);
    let answer = ask(&[("X-API-Key", "secret")]).await;
    answer.assert_status(200).assert_json(by_year);
    ask(&[]).await.assert_status(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_answer_per_tenant() {
    let db = Postgres::with(SALES).await;
    let config = recipe("## One answer per tenant");
    let app = App::start(&db, &format!("[access]\ndefault = \"deny\"\n{config}")).await;
    let fields = [("Authorization", "Bearer secret")];
    let answer = http::request(app.address(), "GET", "/mine", &fields).await;
    answer
        .assert_status(200)
        .assert_json(json!([{ "total": 3 }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cdn_in_front() {
    let db = Postgres::with(SALES).await;
    let config = recipe("### A CDN in front").replace("203.0.113.0/24", "127.0.0.1");
    let app = App::start(&db, &config).await;
    let front = Front::of(Cache::Nginx, app.address()).await;
    for (target, fields, total, stored) in [
        ("/sales/total", &[][..], 43, "HIT"),
        ("/sales/mine", &[("X-API-Key", "secret")][..], 3, "MISS"),
    ] {
        http::request(front.address, "GET", target, fields).await;
        let answer = http::request(front.address, "GET", target, fields).await;
        answer.assert_status(200);
        answer.assert_json(json!([{ "total": total }]));
        assert_eq!(answer.header("x-cache"), Some(stored), "{target}");
    }
    let nobody = http::get(front.address, "/sales/mine").await;
    nobody.assert_status(401);
}
