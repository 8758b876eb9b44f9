//! Runs a command with a throwaway Postgres, which is removed when the command ends:
//!
//! ```sh
//! cargo run --example with_postgres -- psql                         # an empty database
//! cargo run --example with_postgres -- --sample larder serve        # with the demo's made-up sales
//! ```
//!
//! `DATABASE_URL` and `TEST_DATABASE_URL` contain its URL.

use std::process::ExitCode;

use anyhow::Context;
use larder::cli::sample;
use larder::repository::throwaway::Throwaway;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// Room for the connection pools of as many tests as a large machine runs at once.
const SETTINGS: [(&str, &str); 1] = [("max_connections", "500")];

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let is_sampled = arguments
        .next_if(|argument| argument == "--sample")
        .is_some();
    let program = arguments
        .next()
        .context("say which command to run: [--sample] COMMAND …")?;

    // Caught from here on, so that the server is always stopped.
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;

    let throwaway = Throwaway::start_with(&SETTINGS).await?;
    if is_sampled {
        sample::load(&throwaway).await?;
    }
    let mut command = Command::new(&program)
        .args(arguments)
        .env("DATABASE_URL", throwaway.url())
        .env("TEST_DATABASE_URL", throwaway.url())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let status = loop {
        tokio::select! {
            status = command.wait() => break status?,
            // The terminal signals the command as well, which decides how to end.
            _ = interrupted.recv() => {}
            _ = terminated.recv() => terminate(&command)?,
        }
    };
    // A command that was killed by a signal has no code.
    let code = status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1);
    Ok(ExitCode::from(code))
}

/// Asks the command to end; a test runner ends its tests too.
fn terminate(command: &Child) -> anyhow::Result<()> {
    if let Some(id) = command.id() {
        kill(Pid::from_raw(id.try_into()?), Signal::SIGTERM)?;
    }
    Ok(())
}
