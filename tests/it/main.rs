//! Larder seen from outside, against a real Postgres and over real sockets.
//!
//! Each test has a schema of its own on a shared server: the one that `TEST_DATABASE_URL` names, or a
//! throwaway one. `tests/run` runs everything, on a fresh machine too.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test says no, in the functions it calls as well"
)]

// The house.
mod architecture; // the code keeps to the map in src/lib.rs
mod dashboards; // what they ask for is measured, and what is measured is on them
mod documents; // the documents say what the code does
mod harness; // what the tests stand on does what it says

// Values.
mod diagnostics; // every mistake in a configuration, as it is shown
mod encode; // the encoder says what Postgres's own to_json says

// The promises.
mod arguments; // hostile and mistaken arguments are problems, and no queries
mod blame; // whose fault an error of Postgres's is
mod caches; // real HTTP caches in front of Larder
mod clients; // the programs that people ask with, and put under load with
mod cors; // pages of other origins, and what a path is
mod defects; // what goes on when a part of Larder panics
mod failover; // another Postgres takes over
mod faults; // the way to Postgres breaks in every manner there is, and what answers do meanwhile
mod holding; // clients that ask and do not take what they get
mod loading; // what reaches Postgres, and what does not
mod openapi;
mod outage; // Postgres goes away and comes back
mod pages; // Larder's own pages, and by which names they are asked for
mod polling; // the same request again and again on one connection
mod pooler; // PgBouncer between Larder and Postgres
mod renewal; // what was learned at start is learned again
mod representations; // every form an answer can be had in
mod serving; // what a client gets
mod sessions; // what a load finds in its session, and leaves in it
mod standby; // a Postgres that may not be written to
mod status; // what is said of a running Larder
mod triggers; // what makes Larder load without a schedule

// The surroundings.
mod certificates; // whose is believed, as psql believes it
mod command; // the program as an operator runs it: arguments, streams, signals, exit codes
mod prometheus; // what is exported, and what Prometheus makes of it
mod protocols; // TLS and the versions of HTTP, as clients agree on them
mod tls; // the ways to a Postgres: certificates, sockets, other spellings
mod wire; // hostile and slow clients

mod support; // what the tests stand on: a Postgres, an HTTP client
