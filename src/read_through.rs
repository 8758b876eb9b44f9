//! read_through
