//! Larder turns SQL you declare into REST endpoints over Postgres. Answers come from memory and are kept
//! fresh in the background, so any number of polling clients costs the database no more than the schedule
//! does.
//!
//! # The map
//!
//! A module imports only the modules named in its row, and a vendor crate is used only in the modules that
//! name it. A test holds the code to this table.
//!
//! | module         | owns                                                       | may import | vendor |
//! |----------------|------------------------------------------------------------|------------|--------|
//! | `mutex`        | locking a mutex that a panic may have poisoned             | | |
//! | `backoff`      | waits between attempts that fail                           | | fastrand |
//! | `config`       | the text of config.toml with places; nothing interpreted   | | toml, annotate_snippets |
//! | `plan`         | what a configuration means; every mistake found; no I/O    | config | matchit, croner, chrono, chrono_tz, regex, ipnet, hyper, xxhash_rust |
//! | `observe`      | what can happen: one past-tense event enum, its observers  | plan | |
//! | `supervise`    | tasks that run as long as the server, restarted if they end | backoff, observe | |
//! | `limiter`      | how much one caller may take in a span of time              | plan | |
//! | `metrics`      | events as Prometheus sees them                             | mutex, plan, observe | prometheus, arc_swap |
//! | `log`          | events as log lines                                        | mutex, plan, observe | tracing, tracing_subscriber |
//! | `pem`          | certificate and key files, and what is wrong with them     | | rustls, memchr |
//! | `repository`   | all SQL traffic: descriptions, rows, probes, LISTEN        | mutex, backoff, plan, observe, pem | tokio_postgres, deadpool, deadpool_postgres, tokio_postgres_rustls, rustls, ring, rustls_native_certs, webpki, x509_cert, percent_encoding, fastrand, nix |
//! | `encode`       | rows as a finished body: bytes and ETag                    | mutex, plan, repository | xxhash_rust, itoa, zmij, flate2, brotli, zstd, serde |
//! | `cache`        | keys, entries, freshness, memory                           | mutex, plan, observe, encode | moka |
//! | `read_through` | `get` and `refresh`: an answer from memory, or one load    | mutex, backoff, limiter, plan, observe, repository, encode, cache | arc_swap |
//! | `refresh`      | when to load again                                         | backoff, plan, observe, supervise, repository, cache, read_through | tokio_cron_scheduler, xxhash_rust, nix, arc_swap |
//! | `status`       | the current state, and the history of the last minutes     | mutex, plan, observe, metrics, cache, read_through | serde, arc_swap |
//! | `access`       | credentials, and the identities behind them                | backoff, limiter, plan, observe, supervise, repository | ring, ipnet, moka, arc_swap, chrono, base64, fastrand, serde, hyper, hyper_util, http_body_util, rustls, rustls_native_certs, tokio_rustls |
//! | `openapi`      | endpoints as an OpenAPI document                           | plan, repository | |
//! | `http`         | the wire: routes, conditional requests, problems           | mutex, limiter, plan, observe, supervise, metrics, pem, repository, encode, cache, read_through, status, access, openapi | warp, hyper, hyper_util, tower_service, http_body_util, rustls, ring, tokio_rustls, arc_swap, httpdate, itoa, memchr, percent_encoding, socket2, crossbeam_utils |
//! | `app`          | the composition root: build, run, drain                    | config, plan, observe, supervise, metrics, log, repository, encode, cache, read_through, refresh, status, access, openapi, http | arc_swap |
//! | `cli`          | the commands: serve, check, demo, key, openapi             | mutex, config, plan, observe, log, repository, access, app | clap, anyhow, nix |

pub mod access;
pub mod app;
mod backoff;
pub mod cache;
pub mod cli;
pub mod config;
pub mod encode;
pub mod http;
pub mod limiter;
pub mod log;
pub mod metrics;
mod mutex;
pub mod observe;
pub mod openapi;
mod pem;
pub mod plan;
pub mod read_through;
pub mod refresh;
pub mod repository;
pub mod status;
pub mod supervise;
