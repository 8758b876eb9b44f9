//! Rows as a finished body: bytes and ETag.
