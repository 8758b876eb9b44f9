//! Signals to a server's process.

use std::io;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Sends a signal to one process.
pub(super) fn send(process: u32, signal: Signal) -> io::Result<()> {
    let process = i32::try_from(process).map_err(io::Error::other)?;
    // 0 and negative numbers would name process groups.
    if process <= 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(kill(Pid::from_raw(process), signal)?)
}
