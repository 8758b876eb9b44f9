//! Reads the files that an operator names, up to a size that no configuration needs to exceed.

use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::Read as _;
use std::path::Path;

/// 10,000 endpoints of 1.6 KiB each. A larger file is probably a wrong path: a dump or a device.
pub(super) const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// No statement that a person wrote is longer than this.
pub(super) const SQL_BYTES_MAX: u64 = 1 << 20;

/// A hash of the bytes of a regular file, to see whether it has changed; `None` if they cannot be read.
pub type FileHash = Option<u64>;

/// A hash of what is in a file now. A pipe or a device is not read.
pub fn hash_of_file(path: &Path) -> FileHash {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    hash(&fs::read(path).ok()?)
}

/// What [`hash_of_file`] returns for a file with these bytes.
pub(super) fn hash(bytes: &[u8]) -> FileHash {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    Some(hasher.finish())
}

/// Why a file could not be read.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// A few words.
    pub(super) reason: String,
    /// What to do; `None` if the name may be wrong.
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

/// The text of the regular file at `path`. A pipe without a writer would never end, and a device might not
/// either.
pub(super) fn read_regular(path: &Path, bytes_max: u64) -> Result<String, Unreadable> {
    let metadata = fs::metadata(path).map_err(|error| Unreadable::new(error.to_string()))?;
    if metadata.is_dir() {
        return Err(Unreadable::new("it is a folder"));
    }
    if !metadata.is_file() {
        return Err(Unreadable::new("it is a pipe, a socket or a device"));
    }
    read(path, bytes_max)
}

/// The text at `path`, which may be a pipe such as a shell's `<(…)`.
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<String, Unreadable> {
    let file = fs::File::open(path).map_err(|error| Unreadable::new(error.to_string()))?;
    let mut bytes = Vec::new();
    // One more byte than allowed tells a file that is too large from one that just fits.
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Unreadable::new(error.to_string()))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Unreadable::new(format!(
            "it is larger than {} MiB",
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
            reason: format!("it is not UTF-8 from line {line} on"),
            help: Some("save it as UTF-8"),
        }
    })?;
    Ok(plain(text))
}

/// Text without a byte order mark and with `\n` for `\r\n`, so that neither shows in what is quoted.
pub(super) fn plain(text: String) -> String {
    match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.replace("\r\n", "\n"),
        None if text.contains("\r\n") => text.replace("\r\n", "\n"),
        None => text,
    }
}
