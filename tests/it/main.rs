//! Larder seen from outside, against a real Postgres and over real sockets.
//!
//! Each test has its own schema on a shared server: the one that `TEST_DATABASE_URL` names, or a throwaway one.
//! `tests/run` runs everything, also on a fresh machine.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test fails, also in its helpers"
)]

// The repository.
mod access;
mod architecture; // the code keeps to the map in src/lib.rs
mod dashboards; // dashboards and metrics fit together
mod documents; // the documents match the code and one another
mod harness; // tests of the tests' own helpers

// Values.
mod diagnostics; // every mistake in a configuration, as it is shown
mod encode; // the encoder agrees with Postgres's own to_json

// The promises.
mod arguments; // hostile and wrong arguments get problems, and cause no queries
mod blame; // whether an error of Postgres is the client's fault
mod caches; // real HTTP caches in front of Larder
mod clients; // real HTTP clients and load generators
mod cors; // pages of other origins, and exact paths
mod defects; // a part of Larder panics
mod failover; // another Postgres takes over
mod faults; // every fault between Larder and Postgres, and the answers meanwhile
mod holding; // clients that do not read their answers
mod limits; // how much one caller may take
mod loading; // what reaches Postgres, and what does not
mod openapi; // the OpenAPI document and the page that shows it
mod outage; // Postgres goes away and comes back
mod pages; // Larder's own pages, and the host names they answer to
mod polling; // the same request again and again on one connection
mod pooler; // PgBouncer between Larder and Postgres
mod recipes;
mod redescribe; // statements are described again when a table changes
mod reload; // those in docs/access.md work
mod representations; // every format and content coding of an answer
mod run_as; // row-level security: with whose rights a load runs
mod serving; // status, headers and body of an answer
mod sessions; // what a load finds in its session, and leaves in it
mod standby; // a Postgres that is read-only
mod status; // /status.json
mod stored_keys; // keys that are kept in the repository
mod tokens; // tokens of issuers, and the keys that verify them
mod triggers; // what makes Larder load without a schedule

// The surroundings.
mod certificates; // which certificates are trusted, compared with psql
mod command; // the program as an operator runs it: arguments, streams, signals, exit codes
mod prometheus; // exported metrics, and what Prometheus makes of them
mod protocols; // TLS and the versions of HTTP, as clients negotiate them
mod tls; // connections to Postgres: certificates, sockets, spellings of the URL
mod wire; // hostile and slow clients

mod support; // helpers: a Postgres, an HTTP client
