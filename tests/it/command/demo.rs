//! `larder demo`: a Postgres of its own, gone at its end.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{config, folder};
use crate::support::http::{self, Answer, Connection};
use crate::support::program::Program;

/// A temporary folder for the demo, which its Postgres's user may enter.
fn room() -> TempDir {
    let room = tempfile::tempdir().unwrap();
    fs::set_permissions(room.path(), Permissions::from_mode(0o755)).unwrap();
    room
}

/// The folders of Postgres servers in there.
fn servers(room: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(room).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The server's process and its port: the first and the fourth line of this file.
fn server(folder: &Path) -> (Pid, u16) {
    let text = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    (
        Pid::from_raw(lines[0].parse().unwrap()),
        lines[3].parse().unwrap(),
    )
}

/// The only number in the answer's array.
fn count(answer: &Answer) -> u64 {
    answer.json()[0].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_adds_sales_and_leaves_nothing_behind() {
    let room = room();
    let mut demo = Program::larder(&["demo", "--listen", "127.0.0.1:0"])
        .env("TMPDIR", room.path())
        .start();
    // The last of the URLs is followed by an empty line.
    let urls = demo
        .on_stdout(|text| {
            let (_, tail) = text.split_once("Try:\n\n")?;
            let (asked, tail) = tail.split_once("\n\nIn a browser:\n\n")?;
            let (read, _) = tail.split_once("\n\n")?;
            let urls = asked.lines().chain(read.lines());
            let urls = urls.map(|line| line.trim().replace("curl -i ", ""));
            Some(urls.collect::<Vec<_>>())
        })
        .await;
    let targets: Vec<&str> = urls
        .iter()
        .map(|url| {
            let authority = url.strip_prefix("http://").unwrap();
            &authority[authority.find('/').unwrap()..]
        })
        .collect();
    let address: SocketAddr = urls[0]["http://".len()..]
        .strip_suffix(targets[0])
        .unwrap()
        .parse()
        .unwrap();
    assert_ne!(address.port(), 0);
    for target in [
        "/count",
        "/sales/by-country",
        "/sales/Japan",
        "/metrics",
        "/readyz",
        "/status",
        "/docs",
    ] {
        assert!(
            targets.contains(&target),
            "{target} is missing in {targets:?}"
        );
    }
    demo.on_stderr(|text| text.contains("now ready").then_some(()))
        .await;
    for target in targets {
        http::get(address, target).await.assert_status(200);
    }

    let mut connection = Connection::open(address).await;
    let first = connection.get("/count").await;
    first.assert_status(200).assert_cache("hit");
    assert!(count(&first) >= 2_823, "{first:?}");
    while count(&connection.get("/count").await) <= count(&first) {}

    let [folder] = &servers(room.path())[..] else {
        panic!("there is one server: {:?}", servers(room.path()))
    };
    let (process, port) = server(folder);
    kill(process, None).expect("its Postgres runs");
    demo.signal(Signal::SIGINT);
    demo.ended().await.assert_code(0);
    assert!(TcpStream::connect(address).await.is_err(), "it has gone");
    assert!(
        TcpStream::connect(("127.0.0.1", port)).await.is_err(),
        "so has its Postgres"
    );
    assert!(kill(process, None).is_err(), "with its process");
    assert!(servers(room.path()).is_empty(), "and its data");
}

/// What appears in the server's folder while it is being made, in this order.
const STAGES: [&str; 5] = [
    "owner",
    "data/PG_VERSION",
    "data/global/pg_control",
    "server",
    "data/postmaster.pid",
];

#[tokio::test]
async fn it_can_be_stopped_while_its_postgres_starts() {
    for stage in STAGES {
        let room = room();
        let mut demo = Program::larder_in_the_background(&["demo", "--listen", "127.0.0.1:0"])
            .env("TMPDIR", room.path())
            .start();
        while !servers(room.path())
            .iter()
            .any(|folder| folder.join(stage).exists())
        {
            assert!(demo.is_running(), "it ended by itself before {stage}");
            tokio::task::yield_now().await;
        }
        demo.signal(Signal::SIGTERM);
        demo.ended().await.assert_code(0);
        assert!(servers(room.path()).is_empty(), "stopped at {stage}");
    }
}

#[tokio::test]
async fn it_ends_with_its_terminal() {
    let room = room();
    for signal in [Signal::SIGHUP, Signal::SIGQUIT] {
        let mut demo = Program::larder(&["demo", "--listen", "127.0.0.1:0"])
            .env("TMPDIR", room.path())
            .start();
        demo.on_stdout(|text| text.contains("Starting a temporary Postgres").then_some(()))
            .await;
        demo.signal(signal);
        demo.ended().await.assert_code(0).assert_stderr("");
        assert!(servers(room.path()).is_empty());
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_reported_before_postgres_starts() {
    let folder = folder(&[("config.toml", &config("[[endpoint]]\npath = \"/n\""))]);
    let room = room();
    Program::larder(&["demo", "-c", "config.toml"])
        .within(folder.path())
        .env("TMPDIR", room.path())
        .run()
        .await
        .assert_code(1)
        .assert_stdout("")
        .assert_stderr_has("--> config.toml:");
    assert!(servers(room.path()).is_empty());
}
