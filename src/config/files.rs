//! Reads the files an operator names, never more of them than a configuration can need.

use std::fs;
use std::io::Read as _;
use std::path::Path;

/// 10,000 endpoints of 1.6 KiB each. Beyond it the path is probably wrong, a dump or a device.
pub(super) const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// A statement that is longer than this was not written by a person.
pub(super) const SQL_BYTES_MAX: u64 = 1 << 20;

/// Why there is no text.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// In a few words.
    pub(super) reason: String,
    /// What to do; `None` where the name may be wrong.
    pub(super) help: Option<&'static str>,
}

impl Unreadable {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            help: None,
        }
    }
}

/// The text of the regular file at `path`. A pipe that nobody writes to would never end, and a device
/// might not either.
pub(super) fn read_regular(path: &Path, bytes_max: u64) -> Result<String, Unreadable> {
    let metadata = fs::metadata(path).map_err(|error| Unreadable::new(error.to_string()))?;
    if metadata.is_dir() {
        return Err(Unreadable::new("a folder, not a file"));
    }
    if !metadata.is_file() {
        return Err(Unreadable::new("a pipe, a socket or a device, not a file"));
    }
    read(path, bytes_max)
}

/// The text of what is at `path`, which may be a pipe: a shell's `<(…)` is one.
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<String, Unreadable> {
    let file = fs::File::open(path).map_err(|error| Unreadable::new(error.to_string()))?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits.
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Unreadable::new(error.to_string()))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Unreadable::new(format!(
            "larger than {} MiB",
            bytes_max >> 20
        )));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        Unreadable {
            reason: format!("not UTF-8 text from line {line} on"),
            help: Some("save it as UTF-8"),
        }
    })?;
    Ok(plain(text))
}

/// Text without the mark that some editors begin a file with, and with line ends of one character,
/// so that neither is seen in what is quoted.
pub(super) fn plain(text: String) -> String {
    match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.replace("\r\n", "\n"),
        None if text.contains("\r\n") => text.replace("\r\n", "\n"),
        None => text,
    }
}
