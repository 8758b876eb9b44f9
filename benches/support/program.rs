//! The frame of a bench that is a program: when it runs, how it ends, what it reports.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// Runs a bench with its options, and prints the complaints that it returns: there should be none.
#[expect(clippy::print_stderr, reason = "complaints go to stderr")]
pub(crate) fn run<Options: Parser>(
    bench: impl FnOnce(Options) -> anyhow::Result<Vec<String>>,
) -> ExitCode {
    // A test runner that runs every target has not asked for minutes of load.
    if !std::env::args().any(|argument| ["--bench", "--help", "-h"].contains(&&*argument)) {
        return ExitCode::SUCCESS;
    }
    let complaints = bench(Options::parse()).unwrap_or_else(|error| vec![format!("{error:#}")]);
    for complaint in &complaints {
        eprintln!("error: {complaint}");
    }
    ExitCode::from(u8::from(!complaints.is_empty()))
}

/// Runs a bench to its end, or until a signal. The servers that it started end with its future.
///
/// Two threads serve thousands of clients, and leave the rest of the machine to the server.
pub(crate) fn block_on(
    bench: impl Future<Output = anyhow::Result<Vec<String>>>,
) -> anyhow::Result<Vec<String>> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.context("cannot start a runtime")?.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            done = bench => done,
            _ = interrupted.recv() => bail!("interrupted"),
            _ = terminated.recv() => bail!("terminated"),
        }
    })
}
