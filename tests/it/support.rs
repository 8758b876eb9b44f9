//! What the tests stand on. It knows Postgres and HTTP, and nothing of how Larder is built.

pub(crate) mod http; // requests over real sockets, byte by byte where need be
pub(crate) mod postgres; // a schema, or a whole server, of each test's own
