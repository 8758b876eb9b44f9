//! Reads the files an operator names, never more of them than a configuration can need.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// 10,000 endpoints of 1.6 KiB each. Beyond it the path is probably wrong, a dump or a device.
pub(super) const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// A statement that is longer than this was not written by a person.
pub(super) const SQL_BYTES_MAX: u64 = 1 << 20;

/// The text of the file at `path`, or why there is none, in a few words.
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits.
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("larger than {} MiB", bytes_max >> 20));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        format!("not UTF-8 text from line {line} on")
    })
}
