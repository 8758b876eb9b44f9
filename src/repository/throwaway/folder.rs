//! The temporary folder of a server, and those that killed owners left behind.
//!
//! | entry    | is                                                                            |
//! |----------|-------------------------------------------------------------------------------|
//! | `owner`  | locked by the process that made the folder, as long as that process lives     |
//! | `log`    | the output of `initdb` and the server, locked as long as any part of them lives |
//! | `server` | the server's process id                                                       |
//! | `data`   | the cluster, the only entry that belongs to the server's account              |
//!
//! The kernel releases a process's locks when it ends for whatever reason, even if another process gets its
//! id.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use super::ThrowawayError;
use super::account::Account;
use super::process;

const PREFIX: &str = "larder-postgres-";

/// How many lines of the log an error includes: the reason for a failed start is in the last few.
const TAIL_LINES: usize = 20;

/// A temporary folder, removed when dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    owner: Option<File>,
}

impl Folder {
    /// Makes a folder that the account can enter, after removing what killed owners left behind.
    pub(super) fn create(account: Option<&Account>) -> Result<Self, ThrowawayError> {
        let parent = parent(account)?;
        remove_abandoned(&parent);
        let path = parent.join(format!("{PREFIX}{}", random_hex()?));
        // If it belongs to root, the account may pass through to its data, but no one else may list it.
        let mode = if account.is_some() { 0o711 } else { 0o700 };
        DirBuilder::new()
            .mode(mode)
            .create(&path)
            .map_err(failed("make", &path))?;
        let mut folder = Self { path, owner: None };
        folder.owner = Some(folder.own()?);
        let data = folder.data();
        DirBuilder::new()
            .mode(0o700)
            .create(&data)
            .map_err(failed("make", &data))?;
        give(account, &data)?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Opens the log for writing and locks it, after waiting for a server that is about to end.
    pub(super) fn open_log(&self) -> Result<File, ThrowawayError> {
        let path = self.path.join("log");
        let mut options = OpenOptions::new();
        let log = options.append(true).create(true).mode(0o600).open(&path);
        let log = log.map_err(failed("open", &path))?;
        log.lock().map_err(failed("lock", &path))?;
        Ok(log)
    }

    /// The last lines of the log, as far as they can be read.
    pub(super) fn log_tail(&self) -> String {
        let log = fs::read(self.path.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.trim_end().lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Writes down the server's process id, for the process that may have to end it.
    pub(super) fn write_server(&self, process: u32) -> Result<(), ThrowawayError> {
        let path = self.path.join("server");
        fs::write(&path, process.to_string()).map_err(failed("write", &path))
    }

    /// Writes a file that only the account can read.
    pub(super) fn write_for(
        &self,
        account: Option<&Account>,
        name: &str,
        text: &str,
    ) -> Result<PathBuf, ThrowawayError> {
        let path = self.path.join(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(failed("write", &path))?;
        give(account, &path)?;
        Ok(path)
    }

    /// Locks `owner`. The file gets its name only after it is locked, so that no other process takes the folder
    /// for an abandoned one in between.
    fn own(&self) -> Result<File, ThrowawayError> {
        let (new, path) = (self.path.join("owner.new"), self.path.join("owner"));
        let owner = File::create_new(&new).map_err(failed("make", &new))?;
        owner.lock().map_err(failed("lock", &new))?;
        fs::rename(&new, &path).map_err(failed("make", &path))?;
        Ok(owner)
    }

    /// Leaves the folder as a killed process would.
    #[cfg(test)]
    pub(super) fn abandon(mut self) {
        self.owner = None;
        std::mem::forget(self);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Wait for processes that still write to the log; they have been signalled to end.
        if let Ok(log) = File::open(self.path.join("log")) {
            drop(log.lock());
        }
        // A failure cannot be reported; the next start removes what is left.
        drop(fs::remove_dir_all(&self.path));
    }
}

/// Ends the servers of owners that no longer live, and removes their folders.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = parent.read_dir() else {
        return;
    };
    for entry in entries.flatten() {
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
        {
            // Another process may remove it at the same time, so errors are ignored.
            drop(remove_if_abandoned(&entry.path()));
        }
    }
}

fn remove_if_abandoned(path: &Path) -> io::Result<()> {
    let metadata = path.symlink_metadata()?;
    // Anyone may write to a temporary folder: ignore what belongs to others.
    if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
        return Ok(());
    }
    let owner = File::open(path.join("owner"))?;
    if owner.try_lock().is_err() {
        return Ok(());
    }
    if let Ok(log) = File::open(path.join("log"))
        && log.try_lock().is_err()
    {
        let process = fs::read_to_string(path.join("server"))?;
        let process = process.parse().map_err(io::Error::other)?;
        process::send(process, Signal::SIGQUIT)?;
        log.lock()?;
    }
    fs::remove_dir_all(path)
}

/// The temporary folder to use.
fn parent(account: Option<&Account>) -> Result<PathBuf, ThrowawayError> {
    let folder = std::env::temp_dir();
    let Some(account) = account else {
        return Ok(folder);
    };
    // Root's own temporary folder is often closed to other users.
    let candidates = [
        folder.clone(),
        PathBuf::from("/tmp"),
        PathBuf::from("/var/tmp"),
    ];
    candidates
        .into_iter()
        .find(|candidate| account.can_enter(candidate))
        .ok_or_else(|| ThrowawayError::NoFolder {
            user: account.name.clone(),
            folder,
        })
}

fn give(account: Option<&Account>, path: &Path) -> Result<(), ThrowawayError> {
    let Some(account) = account else {
        return Ok(());
    };
    chown(path, Some(account.uid), Some(account.gid)).map_err(failed("give away", path))
}

/// Removes a file.
pub(super) fn remove_file(path: &Path) -> Result<(), ThrowawayError> {
    fs::remove_file(path).map_err(failed("remove", path))
}

/// 128 random bits from the system, as 32 hexadecimal digits.
pub(super) fn random_hex() -> Result<String, ThrowawayError> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    let read = File::open(source).and_then(|mut random| random.read_exact(&mut bytes));
    read.map_err(failed("read", source))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ThrowawayError {
    let path = path.to_owned();
    move |source| ThrowawayError::Folder {
        action,
        path,
        source,
    }
}
