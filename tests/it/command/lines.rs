//! The lines on stderr: what they never hold, and that writing them costs nobody anything.

use std::net::SocketAddr;

use futures_util::StreamExt;
use futures_util::stream;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::{TcpSocket, TcpStream};

use super::serve::{address, wait_for_stderr};
use super::{config, folder};
use crate::support::http::{self, Connection};
use crate::support::postgres::Postgres;
use crate::support::program::Program;

/// Endpoints that fail because of their argument, each in a way of its own.
const TALKATIVE: &str = r#"
[[endpoint]]
path = "/raised/{who}"
sql = "SELECT raised(:who) AS n"

[[endpoint]]
path = "/folded/{who}"
sql = "SELECT raised(lower(:who) || '!') AS n"

[[endpoint]]
path = "/coded/{who}"
sql = "SELECT coded(:who) AS n"

[[endpoint]]
path = "/named/{who}"
sql = "SELECT named(:who) AS n"

[[endpoint]]
path = "/noticed/{who}"
sql = "SELECT noticed(:who) AS n"

[[endpoint]]
path = "/cast/{who}"
sql = "SELECT (:who::text || 'x')::int AS n"

[[endpoint]]
path = "/bound/{who}"
sql = "SELECT :who::inet AS n"

[[endpoint]]
path = "/pattern/{who}"
sql = "SELECT 'x' ~ ('(' || :who) AS n"

[[endpoint]]
path = "/lost/{who}"
sql = "SELECT lost(:who) AS n"

[[endpoint]]
path = "/busy/{who}"
sql = "SELECT busy(:who) AS n"

[[endpoint]]
path = "/alone"
sql = "SELECT raised('nobody in particular') AS n"
shape = "value"
on_miss = "load"
"#;

const TALKING: &str = "
    CREATE FUNCTION raised(who text) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION E'no such customer: %\\n\\x1b[2K INFO now forged', who; END $$;
    CREATE FUNCTION coded(who text) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no' USING ERRCODE = upper(left(who, 5)); END $$;
    CREATE FUNCTION named(who text) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no' USING TABLE = who, COLUMN = who, CONSTRAINT = who,
            DATATYPE = who, SCHEMA = who, DETAIL = who, HINT = who; END $$;
    CREATE FUNCTION noticed(who text) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN RAISE NOTICE 'looking for %', who; RAISE WARNING 'looking for %', who; RETURN 1; END $$;
    CREATE FUNCTION lost(who text) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION '%', who USING ERRCODE = '08006'; END $$;
    CREATE FUNCTION busy(who text) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION '%', who USING ERRCODE = '53200'; END $$;
";

#[tokio::test(flavor = "multi_thread")]
async fn no_argument_is_logged_whatever_postgres_does_with_it() {
    let db = Postgres::with(TALKING).await;
    let folder = folder(&[("config.toml", &config(TALKATIVE))]);
    for format in ["human", "json"] {
        let mut serving = Program::larder(&["serve", "--log-format", format])
            .env("RUST_LOG", "info,larder::access=debug")
            .within(folder.path())
            .on(db.url())
            .start();
        let address = address(&mut serving).await;
        // Not `/alone`, which cannot be loaded.
        wait_for_stderr(&mut serving, "loading /alone fails").await;
        for path in [
            "raised", "folded", "coded", "named", "cast", "bound", "pattern", "lost", "busy",
        ] {
            let answer = http::get(address, &format!("/{path}/Zyxwvut")).await;
            assert!(answer.status >= 400, "{path}: {answer:?}");
        }
        http::get(address, "/noticed/Zyxwvut")
            .await
            .assert_status(200);
        serving.signal(Signal::SIGTERM);
        let ended = serving.ended().await;
        ended.assert_code(0);
        let held = ended.stderr.to_lowercase().contains("zyxwv");
        assert!(!held, "{}", ended.stderr);
        // Where the fault is can be seen all the same.
        ended
            .assert_stderr_has(
                "loading /lost/{who} fails (fault: repository): the query failed: connection failure",
            )
            .assert_stderr_has("raised by exec_stmt_raise")
            .assert_stderr_has("no such customer: nobody in particular");
        // One line for one event, though the message has two.
        let forged = |line: &str| {
            line.trim_start().starts_with("INFO now forged") || line.contains('\u{1b}')
        };
        assert!(!ended.stderr.lines().any(forged), "{}", ended.stderr);
    }
}

const N: &str =
    "[[endpoint]]\npath = \"/n\"\nsql = \"SELECT 1 AS n\"\nrefresh = { every = \"1h\" }\n";

/// A port that only a server of this test may listen on, for as long as the socket is kept.
fn port() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A server that says nothing is ready when it answers so.
async fn wait_until_ready(address: SocketAddr) {
    while TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    while http::get(address, "/readyz").await.status != 200 {}
}

/// What a shell does to the program's stderr, and whether lines are lost by it.
const STREAMS: [(&str, bool); 4] = [
    ("exec 2>&-", false),
    ("exec 2>/dev/full", true),
    // The reader dies with the first line.
    ("mkfifo p; (read -r line) < p & exec 2> p", true),
    // Nobody ever reads: the process itself keeps the pipe open.
    ("mkfifo p; exec 9<> p; exec 2> p", true),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_stderr_does_not_affect_clients() {
    let db = Postgres::with("").await;
    for (what, loses) in STREAMS {
        let (_port, address) = port();
        let text = config(N).replace("127.0.0.1:0", &address.to_string());
        let folder = folder(&[("config.toml", &text)]);
        let mut serving = Program::larder_after(what, &["serve"])
            .env("RUST_LOG", "larder=info,larder::access=debug")
            .within(folder.path())
            .on(db.url())
            .start();
        wait_until_ready(address).await;
        let answers = stream::iter(0..2_000).map(|_| http::get(address, "/n"));
        let answered = answers
            .buffer_unordered(50)
            .filter(|answer| std::future::ready(answer.status == 200));
        assert_eq!(answered.count().await, 2_000, "{what}");
        if loses {
            let is_counted = |text: &str| {
                let counted = |line: &str| line.starts_with("larder_log_lines_dropped_total ");
                text.lines()
                    .any(|line| counted(line) && !line.ends_with(" 0"))
            };
            let mut scraping = Connection::open(address).await;
            while !is_counted(scraping.get("/metrics").await.text()) {}
        }
        assert!(serving.is_running());
        serving.signal(Signal::SIGTERM);
        assert_eq!(serving.ended().await.code, Some(0), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_are_written_before_the_process_ends() {
    let db = Postgres::with("").await;
    let folder = folder(&[("config.toml", &config(N))]);
    let mut serving = Program::larder(&["serve", "--log-format", "human"])
        .within(folder.path())
        .on(db.url())
        .start();
    wait_for_stderr(&mut serving, "now ready").await;
    serving.signal(Signal::SIGTERM);
    let ended = serving.ended().await;
    ended
        .assert_code(0)
        .assert_stderr_has(" INFO now draining\n");
    // What ends the process is its last line.
    let (port, address) = port();
    let _taken = port.listen(1).unwrap();
    let text = config(N).replace("127.0.0.1:0", &address.to_string());
    let folder = super::folder(&[("config.toml", &text)]);
    let ended = Program::larder(&["serve"])
        .within(folder.path())
        .on(db.url())
        .env("RUST_LOG", "info,nonsense=nonsense,tokio_postgres=trace")
        .run()
        .await;
    ended
        .assert_code(1)
        .assert_stderr_has("RUST_LOG: `nonsense=nonsense` is ignored")
        .assert_stderr_has("RUST_LOG: `tokio_postgres=trace` is ignored");
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.starts_with("error: "), "{last}");
}

#[tokio::test]
async fn a_full_stdout_is_an_error_and_a_closed_pipe_is_not() {
    let folder = folder(&[("config.toml", &config(N))]);
    let check = |first: &str| {
        Program::larder_after(first, &["check", "--offline"])
            .within(folder.path())
            .on("postgres://localhost/d")
            .run()
    };
    check("exec 1>/dev/full")
        .await
        .assert_code(1)
        .assert_stderr_has("error: cannot write to stdout: No space left on device");
    for first in ["exec 1>&-", "mkfifo p; (exec < p) & exec 1> p; wait"] {
        check(first).await.assert_code(0).assert_stderr("");
    }
    for first in ["exec 2>&-", "exec 2>/dev/full"] {
        let ended = Program::larder_after(first, &["check", "-c", "nowhere.toml"])
            .within(folder.path())
            .run();
        ended.await.assert_code(1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_ends_with_its_terminal_unless_hangups_are_ignored() {
    let db = Postgres::with("").await;
    let folder = folder(&[("config.toml", &config(N))]);
    for (first, ends) in [("true", true), ("trap '' HUP", false)] {
        let mut serving = Program::larder_in_a_terminal(first, &["serve"])
            .within(folder.path())
            .on(db.url())
            .start();
        let (address, id) = serving
            .on_stdout(|text| {
                let (_, rest) = text.split_once("on http://")?;
                let (id, _) = text.split_once('\n')?;
                let address = rest.split_whitespace().next()?.parse().ok()?;
                Some((address, id.trim().parse().ok()?))
            })
            .await;
        serving
            .on_stdout(|text| text.contains("now ready").then_some(()))
            .await;
        // The terminal is gone with the program that made it.
        serving.signal(Signal::SIGKILL);
        if ends {
            while TcpStream::connect::<SocketAddr>(address).await.is_ok() {}
        } else {
            http::get(address, "/n").await.assert_status(200);
            kill(Pid::from_raw(id), Signal::SIGTERM).unwrap();
        }
    }
}
