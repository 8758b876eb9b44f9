//! Probes and notifications go on.

use larder::observe::{Event, Trigger};
use serde_json::json;

use super::{KEPT, endpoint};
use crate::support::app::App;
use crate::support::postgres::Postgres;

#[tokio::test(flavor = "multi_thread")]
async fn watching_for_changes_goes_on() {
    let db = Postgres::with("CREATE TABLE n (v int); INSERT INTO n VALUES (1)").await;
    let notified = |path: &str| {
        endpoint(
            path,
            "SELECT max(v) FROM n",
            "max_age = '1h'\nrefresh = { notify = 'n_changed' }",
        )
    };
    let probed = |path: &str| {
        endpoint(
            path,
            "SELECT max(v) FROM n",
            "max_age = '1h'\nrefresh = { probe = { sql = 'SELECT max(v) FROM n', every = '100ms' } }",
        )
    };
    let app = App::start(&db, &[notified("/a"), probed("/c")].concat()).await;
    let is_probed = |event: &Event| {
        matches!(
            event,
            Event::RefreshFinished {
                trigger: Trigger::Probe,
                ..
            }
        )
    };
    // Its first answer counts as a change.
    app.wait_for(1, is_probed).await;
    let all = [notified("/b"), probed("/d"), notified("/a"), probed("/c")].concat();
    app.reload(&all).await.unwrap();
    assert_eq!(
        app.count(|event| matches!(event, Event::Listening)),
        1,
        "the connection stays"
    );
    assert_eq!(app.count(is_probed), 1, "the probe knows its last answer");
    db.execute("INSERT INTO n VALUES (5); NOTIFY n_changed")
        .await;
    for path in ["/a", "/b", "/c", "/d"] {
        app.poll(path, |answer| answer.json() == json!(5))
            .await
            .assert_cache("hit");
    }
    // The last endpoint of a probe and of a channel is gone.
    app.reload(KEPT).await.unwrap();
    app.reload(&all).await.unwrap();
    app.wait_for(2, |event| matches!(event, Event::Listening))
        .await;
}
