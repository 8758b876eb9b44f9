//! The server's process, ended with its handle.

use std::process::{Child, Command};

use nix::sys::signal::Signal;

use super::ThrowawayError;
use super::folder::Folder;
use super::process;

/// How a server is stopped; see "Shutting Down the Server" in Postgres's documentation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shutdown {
    /// Sessions are ended, and data is written to disk.
    Fast,
    /// Everything stops at once, as in a crash.
    Immediate,
}

/// A running server, ended when dropped.
#[derive(Debug)]
pub(super) struct Server {
    process: Child,
}

impl Server {
    /// Starts the process, which does not answer yet. Its output goes to the folder's log, whose lock it
    /// holds.
    pub(super) fn spawn(mut command: Command, folder: &Folder) -> Result<Self, ThrowawayError> {
        let run = |command: &Command, source| ThrowawayError::Run {
            program: command.get_program().into(),
            source,
        };
        let log = folder.open_log()?;
        let also = log.try_clone().map_err(|source| run(&command, source))?;
        command.stdout(log).stderr(also);
        let process = command.spawn().map_err(|source| run(&command, source))?;
        let server = Self { process };
        folder.write_server(server.process.id())?;
        Ok(server)
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Stops the server and waits until it has ended.
    pub(super) fn stop(mut self, shutdown: Shutdown) {
        self.end(shutdown);
    }

    fn end(&mut self, shutdown: Shutdown) {
        if !self.is_running() {
            return;
        }
        let signal = match shutdown {
            Shutdown::Fast => Signal::SIGINT,
            Shutdown::Immediate => Signal::SIGQUIT,
        };
        // It has not been waited for, so no other process has its id.
        if process::send(self.process.id(), signal).is_ok() {
            drop(self.process.wait());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Shutdown::Immediate);
    }
}
