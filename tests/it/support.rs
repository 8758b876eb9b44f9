//! What the tests stand on.

pub(crate) mod app; // Larder itself, running
pub(crate) mod front; // nginx and Varnish in front of it
pub(crate) mod gate; // queries that wait for the test
pub(crate) mod http; // requests over real sockets, byte by byte where need be
pub(crate) mod issuer; // keys that sign tokens, and a server that publishes them
pub(crate) mod pgbouncer; // a pooler in front of a Postgres
pub(crate) mod postgres; // a schema, or a whole server, of each test's own
pub(crate) mod program; // the program itself, in a process of its own
pub(crate) mod prometheus; // Prometheus, which scrapes it
pub(crate) mod proxy; // the way to a Postgres, and what can go wrong on it
pub(crate) mod wiretap; // a way to a Postgres that understands messages
