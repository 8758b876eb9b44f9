//! Larder turns SQL you declare into REST endpoints over Postgres whose answers come from memory and
//! are kept fresh in the background, so that any number of clients polling cost the database
//! nothing more than the schedule.
//!
//! # The map
//!
//! Each stage is a value, in a file named after what it makes. A module imports only the modules
//! named in its row, and a vendor crate stays in the modules that name it; a test holds the code
//! to this table.
//!
//! | module         | owns                                                      | may import                                                                  | vendor |
//! |----------------|-----------------------------------------------------------|-----------------------------------------------------------------------------|--------|
//! | `config`       | the text of config.toml: spans kept, nothing interpreted  |                                                                             | toml, annotate_snippets |
//! | `plan`         | what the operator meant; every mistake reported; no I/O   | config                                                                      | matchit, croner, chrono, chrono_tz, regex |
//! | `observe`      | what can happen: one past-tense event enum, its observers | plan                                                                        |        |
//! | `supervise`    | tasks as long as the server: started again when they end  | observe                                                                     |        |
//! | `metrics`      | events as Prometheus sees them                            | plan, observe                                                               | prometheus |
//! | `log`          | events as lines                                           | plan, observe                                                               | tracing, tracing_subscriber |
//! | `pem`          | certificates and keys in files, and what is wrong there   |                                                                             | rustls, memchr |
//! | `repository`   | the only SQL traffic: describe, rows, probes, LISTEN      | plan, observe, pem                                                          | tokio_postgres, deadpool, deadpool_postgres, tokio_postgres_rustls, rustls, rustls_native_certs, webpki, x509_cert, percent_encoding, fastrand, nix |
//! | `encode`       | rows as a finished body: bytes and ETag                   | plan, repository                                                            | xxhash_rust, itoa, zmij, flate2, brotli, zstd, serde |
//! | `cache`        | keys, entries, freshness, memory                          | plan, observe, encode                                                       | moka |
//! | `read_through` | get and refresh: the one room where the story is told     | plan, observe, repository, encode, cache                                    | arc_swap, fastrand |
//! | `refresh`      | when to look again                                        | plan, observe, supervise, repository, cache, read_through                              | tokio_cron_scheduler, xxhash_rust, fastrand, nix |
//! | `status`       | what is so right now, and was in the last minutes         | plan, observe, metrics, cache, read_through                                 | serde  |
//! | `openapi`      | endpoints as an OpenAPI document                          | plan, repository                                                            |        |
//! | `http`         | the wire: routes, conditional requests, problems          | plan, observe, supervise, metrics, pem, repository, encode, cache, read_through, status, openapi | warp, hyper, hyper_util, tower_service, http_body_util, rustls, tokio_rustls, arc_swap, httpdate, itoa, memchr, percent_encoding, socket2 |
//! | `app`          | the composition root: build, run, drain                   | plan, observe, supervise, metrics, log, repository, encode, cache, read_through, refresh, status, openapi, http |        |
//! | `cli`          | serve, check, demo, openapi                               | config, plan, log, repository, app                                          | clap, anyhow, nix |

pub mod app;
pub mod cache;
pub mod cli;
pub mod config;
pub mod encode;
pub mod http;
pub mod log;
pub mod metrics;
pub mod observe;
pub mod openapi;
mod pem;
pub mod plan;
pub mod read_through;
pub mod refresh;
pub mod repository;
pub mod status;
pub mod supervise;
