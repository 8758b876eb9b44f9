//! The text of config.toml: spans kept, nothing interpreted.

pub mod secret;
pub use secret::Secret;
