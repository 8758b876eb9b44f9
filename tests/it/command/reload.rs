//! `larder serve` reads its configuration again: on SIGHUP, and with `--watch` when a file changes.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::json;

use super::serve::{address, wait_for_stderr};
use super::{config, folder};
use crate::support::http;
use crate::support::postgres::Postgres;
use crate::support::program::Program;

const COUNT: &str =
    "[[endpoint]]\npath = \"/count\"\nsql_file = \"count.sql\"\nshape = \"value\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reloads_and_a_mistake_is_shown_with_its_line() {
    let db = Postgres::with("").await;
    let folder = folder(&[("config.toml", &config(COUNT)), ("count.sql", "SELECT 1")]);
    let mut serving = Program::larder(&["serve"])
        .within(folder.path())
        .on(db.url())
        .start();
    let address = address(&mut serving).await;
    wait_for_stderr(&mut serving, "now ready").await;

    fs::write(
        folder.path().join("config.toml"),
        config(&format!("{COUNT}max_agee = '1s'")),
    )
    .unwrap();
    serving.signal(Signal::SIGHUP);
    wait_for_stderr(
        &mut serving,
        "stays in use: config.toml:10: unknown key `max_agee`",
    )
    .await;
    http::get(address, "/count").await.assert_json(json!(1));

    fs::write(folder.path().join("config.toml"), config(COUNT)).unwrap();
    fs::write(folder.path().join("count.sql"), "SELECT 2").unwrap();
    serving.signal(Signal::SIGHUP);
    wait_for_stderr(
        &mut serving,
        "reloaded; endpoints: 1 changed, 0 added, 0 removed, 0 kept",
    )
    .await;
    http::get(address, "/count")
        .await
        .assert_json(json!(2))
        .assert_cache("hit");
    serving.signal(Signal::SIGTERM);
    serving.ended().await.assert_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_watched_also_behind_a_symbolic_link_and_when_newly_named() {
    let db = Postgres::with("").await;
    let folder = folder(&[("count.sql", "SELECT 1"), ("other.sql", "SELECT 10")]);
    let path = |name: &str| folder.path().join(name);
    // As Kubernetes mounts a ConfigMap: a folder behind a link, which is replaced.
    let mount = |name: &str, endpoints: &str| {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("config.toml"), config(endpoints)).unwrap();
        std::os::unix::fs::symlink(name, path("next")).unwrap();
        fs::rename(path("next"), path("mounted")).unwrap();
    };
    let count = COUNT.replace("count.sql", "../count.sql");
    mount("first", &count);
    let mut serving = Program::larder(&["serve", "--watch", "-c", "mounted/config.toml"])
        .within(folder.path())
        .on(db.url())
        .start();
    let address = address(&mut serving).await;
    wait_for_stderr(&mut serving, "now ready").await;

    fs::write(path("count.sql"), "SELECT 2").unwrap();
    wait_for_stderr(&mut serving, "1 changed, 0 added").await;
    http::get(address, "/count").await.assert_json(json!(2));

    let other = count.replace("count", "other");
    mount("second", &(count + &other));
    wait_for_stderr(&mut serving, "0 changed, 1 added, 0 removed, 1 kept").await;
    fs::write(path("other.sql"), "SELECT 20").unwrap();
    wait_for_stderr(&mut serving, "1 changed, 0 added, 0 removed, 1 kept").await;
    http::get(address, "/other").await.assert_json(json!(20));
    fs::remove_file(path("other.sql")).unwrap();
    wait_for_stderr(&mut serving, "the file of `sql_file` cannot be read").await;
    http::get(address, "/other").await.assert_json(json!(20));
}
