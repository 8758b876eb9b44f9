//! What can go wrong with a temporary Postgres.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a temporary Postgres could not be started or used.
#[derive(Debug, thiserror::Error)]
pub enum ThrowawayError {
    /// `initdb` and `postgres` were not found.
    #[error(
        "no PostgreSQL server was found on this machine; install it with `{install}`, or put the \
         folder that holds `initdb` and `postgres` on PATH"
    )]
    NotInstalled {
        /// The command that installs them here.
        install: &'static str,
    },
    /// This process runs as root, which Postgres refuses, and there is no other user to run it as.
    #[error(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as"
    )]
    NoAccount,
    /// The user that the server runs as cannot enter any temporary folder.
    #[error("user `{user}` cannot enter {}; set TMPDIR to a folder that everyone can enter", folder.display())]
    NoFolder {
        /// The user that the server would run as.
        user: String,
        /// The temporary folder of this process.
        folder: PathBuf,
    },
    /// A file or folder could not be made, read or removed.
    #[error("cannot {action} {}", path.display())]
    Folder {
        /// What failed, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A program exists but does not run.
    #[error("cannot run {}", program.display())]
    Run {
        /// Which one.
        program: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The program that makes the cluster failed.
    #[error("{} failed:\n{output}", program.display())]
    Cluster {
        /// Which one.
        program: PathBuf,
        /// Its output.
        output: String,
    },
    /// The server ended during its start.
    #[error("Postgres ended during its start; the end of its log:\n{log}")]
    Ended {
        /// The last lines of its log.
        log: String,
    },
    /// The server runs but does not answer.
    #[error("Postgres did not answer within {limit:?}; the end of its log:\n{log}")]
    Silent {
        /// How long it was given.
        limit: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// The server refused a statement, or is not running.
    #[error("the temporary Postgres refused a statement")]
    Postgres {
        /// Its error, or that of the connection.
        #[from]
        source: tokio_postgres::Error,
    },
    /// The runtime shut down before the work was done.
    #[error("the program is shutting down")]
    Interrupted,
}
