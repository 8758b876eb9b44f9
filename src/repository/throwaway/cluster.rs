//! Runs the programs that make a database cluster.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::account::Account;
use super::binaries::Binaries;
use super::folder::{Folder, remove_file};
use super::{NAME, ThrowawayError};

/// Makes a cluster. Its encoding and collation are the same on every machine.
pub(super) async fn initdb(
    binaries: &Binaries,
    account: Option<&Account>,
    folder: &Folder,
    password: &str,
) -> Result<(), ThrowawayError> {
    let password_file = folder.write_for(account, "password", password)?;
    let mut pwfile = OsString::from("--pwfile=");
    pwfile.push(&password_file);
    let mut command = program(&binaries.initdb, account, folder);
    command
        .arg("-D")
        .arg(folder.data())
        .arg(format!("--username={NAME}"))
        .arg(pwfile)
        // The default of 16 MB per segment would be written in vain.
        .args([
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--wal-segsize=1",
        ])
        .args(["--no-sync", "--no-instructions"]);
    make_cluster(command, folder).await?;
    remove_file(&password_file)
}

/// Runs a program that makes a cluster.
pub(super) async fn make_cluster(
    mut command: Command,
    folder: &Folder,
) -> Result<(), ThrowawayError> {
    let program = PathBuf::from(command.get_program());
    // If it is killed, its child processes live on for a moment. They hold the log, whose lock the folder
    // waits for before it is removed.
    command.stdout(Stdio::piped()).stderr(folder.open_log()?);
    let output = match run_to_end(command).await {
        Ok(output) => output,
        Err(source) => return Err(ThrowawayError::Run { program, source }),
    };
    if output.status.success() {
        return Ok(());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&folder.log_tail());
    let output = text.trim().to_owned();
    Err(ThrowawayError::Cluster { program, output })
}

/// Runs a command and captures its stdout. Dropping the future kills it.
async fn run_to_end(command: Command) -> std::io::Result<Output> {
    let mut command = tokio::process::Command::from(command);
    let running = command.kill_on_drop(true).spawn()?;
    running.wait_with_output().await
}

/// A command that runs one of Postgres's programs as the account, in a folder that the account can enter. It
/// does not get the terminal's Ctrl-C: its owner ends it.
pub(super) fn program(path: &Path, account: Option<&Account>, folder: &Folder) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(path);
    command
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .process_group(0);
    // The log is searched, so it must be in English; and the caller's libpq settings are not meant for it.
    command
        .env("LC_ALL", "C")
        .env_remove("PGDATA")
        .env_remove("PGPORT")
        .env_remove("PGOPTIONS");
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}
