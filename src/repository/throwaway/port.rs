//! Finds a free port.

use super::ThrowawayError;
use super::folder::random_hex;

/// Below the range for outgoing connections (32,768 on Linux, 49,152 elsewhere), so that none of those takes
/// the port while the server is stopped.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port that nothing listens on. The search starts at a random port of the range.
pub(super) fn free_port() -> Result<u16, ThrowawayError> {
    let start = u16::from_str_radix(&random_hex()?[..4], 16).unwrap_or_default();
    let width = PORTS.end - PORTS.start;
    (0..width)
        .map(|step| PORTS.start + (start % width + step) % width)
        .find(|&port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok())
        .ok_or_else(|| ThrowawayError::Ended {
            log: "no port is free".to_owned(),
        })
}
