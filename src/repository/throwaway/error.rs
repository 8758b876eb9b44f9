//! What can go wrong with a throwaway Postgres, in words for the user.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a throwaway Postgres does not start, or does not execute a statement.
#[derive(Debug, thiserror::Error)]
pub enum ThrowawayError {
    /// `initdb` and `postgres` are nowhere to be found.
    #[error(
        "no PostgreSQL server was found on this machine; install it with `{install}`, or put the \
         folder that holds `initdb` and `postgres` on PATH"
    )]
    NotInstalled {
        /// The line that installs it here.
        install: &'static str,
    },
    /// This process is root's, which Postgres refuses, and there is nobody else to be.
    #[error(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as"
    )]
    NoAccount,
    /// The user that the server runs as cannot enter any temporary folder.
    #[error("user `{user}` cannot enter {}; set TMPDIR to a folder that everyone can enter", folder.display())]
    NoFolder {
        /// Whom the server would run as.
        user: String,
        /// The temporary folder of this process.
        folder: PathBuf,
    },
    /// A file or folder could not be made, read or removed.
    #[error("cannot {action} {}", path.display())]
    Folder {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A program is there but does not run.
    #[error("cannot run {}", program.display())]
    Run {
        /// Which one.
        program: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The program that was to make the cluster ran and failed.
    #[error("{} failed:\n{output}", program.display())]
    Cluster {
        /// Which one.
        program: PathBuf,
        /// Its own words.
        output: String,
    },
    /// The server ended while it was starting.
    #[error("postgres ended while it was starting; the end of its log:\n{log}")]
    Ended {
        /// The last lines of its log.
        log: String,
    },
    /// The server runs but does not answer.
    #[error("postgres did not answer within {limit:?}; the end of its log:\n{log}")]
    Silent {
        /// How long it was given.
        limit: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// The server refused a statement, or is stopped.
    #[error("the throwaway postgres failed")]
    Postgres {
        /// Its words, or the connection's.
        #[from]
        source: tokio_postgres::Error,
    },
    /// The runtime shut down before the work was done.
    #[error("the program is shutting down")]
    Interrupted,
}
