//! Larder against a real Postgres.

mod encode;
