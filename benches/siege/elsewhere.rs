//! What runs on machines of its own otherwise: Postgres and the besiegers. They are a process that takes only
//! the processor time that Larder and the timed clients leave.

use std::io;
use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::Context;
use larder::repository::throwaway::Throwaway;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::besiegers;

/// The option by which this program becomes that process.
pub(crate) const OPTION: &str = "elsewhere";

/// The process. It ends when its input does.
pub(crate) struct Elsewhere {
    child: Child,
    input: ChildStdin,
    /// Postgres's URL.
    pub(crate) url: String,
}

impl Elsewhere {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let mut child = Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe()?)
            .args(["--bench", &format!("--{OPTION}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run nice")?;
        let input = child.stdin.take().context("it has no input")?;
        let output = child.stdout.take().context("it has no output")?;
        let url = BufReader::new(output).lines().next_line().await?;
        let url = url.context("it did not start")?;
        Ok(Self { child, input, url })
    }

    /// Starts the siege.
    pub(crate) async fn besiege(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let line = format!("{address}\n");
        Ok(self.input.write_all(line.as_bytes()).await?)
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let Self {
            mut child, input, ..
        } = self;
        drop(input);
        child.wait().await?;
        Ok(())
    }
}

/// The process itself: prints Postgres's URL, reads Larder's address, and besieges it until its input ends.
#[expect(clippy::print_stdout, reason = "the first process reads it")]
pub(crate) async fn run() -> anyhow::Result<Vec<String>> {
    let postgres = Throwaway::start_with(&[]).await?;
    println!("{}", postgres.url());
    let address = spawn_blocking(read_line).await??;
    if !address.is_empty() {
        let over = CancellationToken::new();
        let besiegers = besiegers::start(address.trim_end().parse()?, &over);
        while !spawn_blocking(read_line).await??.is_empty() {}
        over.cancel();
        besiegers.wait().await;
    }
    Ok(Vec::new())
}

/// A line of the input; empty at its end.
fn read_line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line)
}
