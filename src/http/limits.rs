//! Every number that a client can meet, in the order in which a request meets them.

use std::time::Duration;

/// Clients beyond `max_connections` that get a 503 at the same time. Connections beyond these are closed
/// without one.
pub(super) const REFUSALS_MAX: usize = 64;

/// How long, and with how many bytes, a client that gets such a 503 may go on sending.
pub(super) const REFUSAL_LINGER: (Duration, u64) = (Duration::from_secs(1), 1024 * 1024);

/// How long a client may take to agree on TLS, or to show which protocol it speaks. nginx allows 60 s; ten
/// are plenty for three messages.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may be idle before its next request. nginx allows 75 s too: neither clients that
/// poll once a minute nor load balancers with their usual 60 s find a connection just closed.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long the head of a request may take, from its first byte to its last. Heads are a packet or two;
/// Apache allows 20 s at first.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The size of a request's head in bytes. Apache and nginx allow 8 KiB per line; this leaves room for long
/// arguments and cookies.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Bytes of an incomplete head that a connection may always keep: what nginx and Apache allow a line, times
/// the connections that there may be, is a few MiB.
pub(super) const PARTIAL_HEAD_SPARED: u64 = 8 * 1024;

/// The number of a request's header fields: hyper's default, and Apache's. Problem LRD-115 quotes it.
pub(super) const HEAD_FIELDS_MAX: usize = 100;

/// The size of a request's target in bytes, as nginx and Apache limit its line. Problem LRD-112 quotes it.
pub(super) const TARGET_BYTES_MAX: usize = 8 * 1024;

/// How long an empty body may take to end. Its end is sent with the head.
pub(super) const EMPTY_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests that run at once on an HTTP/2 connection: RFC 9113, 6.5.2, recommends no fewer.
pub(super) const H2_STREAMS_MAX: u32 = 100;

/// Bytes of a response that are buffered on each HTTP/2 stream.
pub(super) const H2_SEND_BUFFER: usize = 64 * 1024;

/// What a client may send on each HTTP/2 stream before it is read: the least that RFC 9113, 6.9.2, allows
/// to begin with, because nothing reads it.
pub(super) const H2_RECEIVE_WINDOW: u32 = 65_535;

/// HTTP/2 streams that a client may reset before they are looked at (CVE-2023-44487), and those that may be
/// reset for its errors (CVE-2025-8671), before the connection is closed. hyper's and h2's defaults, which
/// neither of them promises.
pub(super) const H2_RESETS_MAX: (usize, usize) = (20, 1024);

/// How often a silent HTTP/2 client gets a PING, and how long it may take to acknowledge it.
pub(super) const H2_PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// How long running responses may take on an HTTP/2 connection that was idle for too long otherwise.
pub(super) const H2_LAST_RESPONSES_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// How long an HTTP/2 client that has all its responses may take to close when the server shuts down: its
/// last requests may still be on their way. A quarter of a second is a round trip around the world.
pub(super) const H2_GOODBYE: Duration = Duration::from_millis(250);

/// The most fields that a CORS preflight may ask for, and the bytes of their names: many times what any
/// library sets.
pub(super) const CORS_FIELDS_MAX: (usize, usize) = (64, 2 * 1024);

/// How long a client may take nothing of its response. nginx allows the same.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes per second that a client has to take of a large response, averaged over [`SEND_TIMEOUT`]: what GPRS
/// has. Kestrel and IIS want 240.
pub(super) const SEND_RATE_MIN: u64 = 4 * 1024;

/// An HTTP/2 connection is closed when a frame has not left it within one to two of these.
pub(super) const H2_FRAME_EPOCH: Duration = Duration::from_secs(30);

/// Bytes of responses that the kernel buffers for a connection beyond those on their way to the client.
/// Without a bound it buffers megabytes, by `net.ipv4.tcp_wmem`, for each client that asks for much and
/// reads little, until all connections of the machine run short (`net.ipv4.tcp_mem`).
#[cfg(target_os = "linux")]
pub(super) const KERNEL_UNSENT_MAX: u32 = 128 * 1024;

/// How long responses that are still corked may take once hyper has ended the connection.
pub(super) const LAST_FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long, and with how many bytes, a client may go on sending after its last response.
pub(super) const CLOSE_LINGER: (Duration, usize) = (Duration::from_secs(2), 16 * 1024 * 1024);

/// `Retry-After` where nothing says when a retry could succeed.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);
