//! The only SQL traffic.

pub mod types;
pub use types::{Column, ValueType};
