//! cli

pub mod sample;
