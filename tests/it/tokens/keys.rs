//! Where the keys of an issuer are, and how they are followed.

use std::fs;
use std::time::SystemTime;

use futures_util::future::join_all;
use larder::access::{Credential, Denied, Identities};
use larder::observe::{Event, Observer};
use larder::repository::Repository;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{SALES, ask, assert_problem, issuer};
use crate::support::app::{App, plan};
use crate::support::http::Connection;
use crate::support::issuer::{Publisher, SigningKey, claims, jwks};
use crate::support::postgres::Postgres;

async fn with_a_url(db: &Postgres, publisher: &Publisher) -> App {
    App::start(db, &with_keys_at(publisher)).await
}

fn with_keys_at(publisher: &Publisher) -> String {
    issuer("ES256", &format!("url = \"{}\"", publisher.url()))
}

fn is_loaded(event: &Event) -> bool {
    matches!(event, Event::IssuerKeysLoaded { .. })
}

fn is_failing(event: &Event) -> bool {
    matches!(event, Event::IssuerKeysFailing { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_published_and_rotated() {
    let db = Postgres::with(SALES).await;
    let (first, second) = (SigningKey::generate("1"), SigningKey::generate("2"));
    let publisher = Publisher::of(&[&first]).await;
    let held = publisher.hold();
    let app = with_a_url(&db, &publisher).await;
    publisher.wait_for(1).await;
    let token = first.token(&claims(&json!({})));
    let answer = ask(&app, "/closed", &token).await;
    assert_problem(&answer, 503, "LRD-207");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.header("www-authenticate"), None);
    drop(held);
    app.wait_for(1, is_loaded).await;
    ask(&app, "/closed", &token).await.assert_status(200);
    assert_eq!(publisher.requests(), 1);

    // Both keys are published while old tokens are in use.
    publisher.publish(&[&first, &second]);
    let renewed = second.token(&claims(&json!({})));
    // All of them wait for one fetch.
    let held = publisher.hold();
    let asking = join_all((0..50).map(|_| ask(&app, "/closed", &renewed)));
    let releasing = async {
        publisher.wait_for(2).await;
        drop(held);
    };
    let (answers, ()) = tokio::join!(asking, releasing);
    for answer in answers {
        answer.assert_status(200);
    }
    ask(&app, "/closed", &token).await.assert_status(200);
    // Keys with made-up names cause no fetch for a while.
    for name in ["3", "../1", "", "1/../../2"] {
        let made_up = SigningKey::generate(name).token(&claims(&json!({})));
        assert_problem(&ask(&app, "/closed", &made_up).await, 401, "LRD-202");
    }
    // A known name with another key does not either.
    let forged = SigningKey::generate("1").token(&claims(&json!({})));
    assert_problem(&ask(&app, "/closed", &forged).await, 401, "LRD-202");
    assert_eq!(publisher.requests(), 2);
}

/// A request that was judged by the old keys when others fetched the new ones.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_others_have_fetched_meanwhile_are_used() {
    let db = Postgres::with(SALES).await;
    let (first, second) = (SigningKey::generate("1"), SigningKey::generate("2"));
    let publisher = Publisher::of(&[&first]).await;
    let plan = plan(db.url(), "", &with_keys_at(&publisher));
    let (seen, mut loaded) = watch::channel(0);
    let observer = Observer::new(vec![Box::new(move |event| {
        seen.send_modify(|count| *count += usize::from(is_loaded(event)));
    })]);
    let repository = Repository::new(plan.repository(), observer.clone()).unwrap();
    let identities = Identities::new(plan.access().unwrap()).unwrap();
    let shutdown = CancellationToken::new();
    let _end = shutdown.clone().drop_guard();
    identities.follow(&repository, &observer, &shutdown);
    loaded.wait_for(|count| *count > 0).await.unwrap();
    let token = format!("Bearer {}", second.token(&claims(&json!({}))));
    let credential = Credential::read([token.as_bytes()].into_iter(), std::iter::empty())
        .unwrap()
        .unwrap();
    let changes = identities.changes();
    let judged = identities.identify(&credential, SystemTime::now());
    let Err(Denied::UnknownIssuerKey(issuer)) = judged else {
        panic!("{judged:?}");
    };
    publisher.publish(&[&first, &second]);
    for _ in 0..2 {
        let late = identities.identify_with_newer_keys(&credential, issuer, changes);
        assert_eq!(late.await.unwrap().name, "idp");
    }
    assert_eq!(publisher.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_cannot_choose_where_its_key_is() {
    let db = Postgres::with(SALES).await;
    let (key, own) = (SigningKey::generate("1"), SigningKey::generate("2"));
    let publisher = Publisher::of(&[&key]).await;
    let elsewhere = Publisher::of(&[&own]).await;
    let app = with_a_url(&db, &publisher).await;
    app.wait_for(1, is_loaded).await;
    let url = elsewhere.url();
    for others in [
        json!({ "jku": url }),
        json!({ "x5u": url }),
        json!({ "jwk": own.jwk() }),
        json!({ "kid": url }),
        json!({ "jku": url, "jwk": own.jwk(), "kid": "1" }),
    ] {
        let token = own.token_with(&others, &claims(&json!({ "jku": url })));
        assert_problem(&ask(&app, "/closed", &token).await, 401, "LRD-202");
    }
    let with_jku = key.token_with(&json!({ "jku": url }), &claims(&json!({})));
    ask(&app, "/closed", &with_jku).await.assert_status(200);
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_usable_keys_are_reported_and_nothing_is_followed() {
    let db = Postgres::with(SALES).await;
    let key = SigningKey::generate("1");
    let elsewhere = Publisher::of(&[&key]).await;
    let token = key.token(&claims(&json!({})));
    let set = jwks(&[&key]);
    let location = format!("Location: {}\r\n", elsewhere.url());
    let padded = format!("{set}{}", " ".repeat(256 * 1024));
    for (status, fields, body, why) in [
        ("302 Found", location.as_str(), "", "redirect"),
        ("307 Temporary Redirect", &location, "", "redirect"),
        ("404 Not Found", "", &set, "404"),
        ("500 Internal Server Error", "", &set, "500"),
        ("204 No Content", "", "", "204"),
        ("200 OK", "Content-Encoding: gzip\r\n", &set, "compressed"),
        ("200 OK", "", &padded, "256 KiB"),
        ("200 OK", "", "<html>", "not a JWK set"),
        ("200 OK", "", r#"{"keys":[]}"#, "none of its 0 keys"),
        (
            "200 OK",
            "",
            r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
            "none of its 1 keys",
        ),
    ] {
        let publisher = Publisher::silent().await;
        publisher.answer_with(status, fields, body);
        let app = with_a_url(&db, &publisher).await;
        let is_it = |event: &Event| matches!(event, Event::IssuerKeysFailing { cause, .. } if cause.contains(why));
        app.wait_for(1, is_it).await;
        assert_eq!(app.count(is_failing), 1, "{status}");
        assert_problem(&ask(&app, "/closed", &token).await, 503, "LRD-207");
        // It is tried again.
        publisher.publish(&[&key]);
        app.wait_for(1, is_loaded).await;
        ask(&app, "/closed", &token).await.assert_status(200);
        assert_eq!(
            app.count(|event| matches!(event, Event::IssuerKeysRecovered { .. })),
            1
        );
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_keys_is_read_again_when_it_changes() {
    let db = Postgres::with(SALES).await;
    let (first, second) = (SigningKey::generate("1"), SigningKey::generate("2"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    fs::write(&file, jwks(&[&first])).unwrap();
    let app = App::start(&db, &issuer("ES256", &format!("file = {file:?}"))).await;
    let [old, new] = [&first, &second].map(|key| key.token(&claims(&json!({}))));
    let mut connection = Connection::open(app.address()).await;
    let mut status = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let fields = [("Authorization", bearer.as_str())];
        connection.request("GET", "/closed", &fields).await.status
    };
    assert_eq!((status(&old).await, status(&new).await), (200, 401));

    let is_change = |event: &Event| {
        matches!(
            event,
            Event::IssuerKeysLoaded {
                is_change: true,
                ..
            }
        )
    };
    let replace = |text: &str| {
        let new = folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &file).unwrap();
    };
    replace(&jwks(&[&second]));
    app.wait_for(1, is_change).await;
    // It was remembered, and its key is no longer listed.
    assert_eq!((status(&old).await, status(&new).await), (401, 200));

    replace("{");
    app.wait_for(1, is_failing).await;
    assert_eq!((status(&old).await, status(&new).await), (401, 200));
    fs::remove_file(&file).unwrap();
    app.wait_for(2, is_failing).await;
    assert_eq!(status(&new).await, 200);
    replace(&jwks(&[&first, &second]));
    app.wait_for(2, is_change).await;
    assert_eq!((status(&old).await, status(&new).await), (200, 200));
}
