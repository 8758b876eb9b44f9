//! What all writers of values share: their errors, the limit on their output, and whole numbers.

/// Why a value was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueError {
    /// The output passed its limit.
    TooLarge,
    /// The bytes are not valid for the type.
    Malformed(&'static str),
}

/// Fails if the output is longer than `limit`.
pub(super) fn check(out: &[u8], limit: usize) -> Result<(), ValueError> {
    check_room(out, limit, 0)
}

/// Fails if the output would be longer than `limit` with `more` bytes added.
pub(super) fn check_room(out: &[u8], limit: usize, more: usize) -> Result<(), ValueError> {
    if out.len().saturating_add(more) > limit {
        Err(ValueError::TooLarge)
    } else {
        Ok(())
    }
}

/// All of `raw`, for a type of fixed length.
pub(super) fn exactly<const N: usize>(raw: &[u8]) -> Result<[u8; N], ValueError> {
    raw.try_into()
        .map_err(|_| ValueError::Malformed("a value whose length is not that of its type"))
}

pub(super) fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
