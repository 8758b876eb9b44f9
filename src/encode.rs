//! Rows as a finished body: bytes and ETag. Each value is written as Postgres 15's own `to_json`
//! writes it, to the last digit, under the session settings the repository gives every connection
//! (UTC, ISO dates, postgres intervals, hexadecimal bytea).
//!
//! It knows nothing of where rows come from, who asked for them, or how bytes travel.
//!
//! | part       | writes                                                         |
//! |------------|----------------------------------------------------------------|
//! | `value`    | one value, by its type; whole numbers, uuid, bytea             |
//! | `text`     | JSON strings                                                   |
//! | `float`    | the shortest digits that read back as the same float           |
//! | `numeric`  | decimal numbers of any size                                    |
//! | `datetime` | dates, times, timestamps, intervals                            |
//! | `array`    | arrays of any of these                                         |
//! | `body`     | the finished bytes with their ETag                             |
//! | `held`     | which bytes are in memory only for readers                     |
//! | `document` | an answer in all its representations                           |
//! | `table`    | its rows as CSV and NDJSON                                     |
//! | `coding`   | bytes made smaller: gzip, brotli, zstd                         |

mod array;
mod body;
mod coding;
mod datetime;
mod document;
mod float;
pub mod held;
mod numeric;
mod table;
mod text;
mod value;

use std::sync::Arc;

pub use body::{Body, ETag};
pub use coding::Coding;
pub use document::{Document, RepresentationError, Variant};

use crate::plan::Shape;
use crate::repository::Column;
use value::Refusal;

/// Why rows did not become a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The body would pass the endpoint's `max_bytes`.
    #[error("the answer is larger than {max_bytes} bytes")]
    TooLarge {
        /// The limit it passed, in bytes.
        max_bytes: u64,
    },
    /// The shape holds one row and the statement returned more.
    #[error("the statement returned more than one row")]
    MoreThanOneRow,
    /// The bytes of a value are not what its type says.
    #[error("a value of column `{column}` can not be read: {reason}")]
    Malformed {
        /// The column's name.
        column: String,
        /// What is wrong with the bytes.
        reason: &'static str,
    },
}

/// Writes rows into one JSON document.
///
/// An encoder that refused a row is spent: what it holds of that row can not be taken back.
#[derive(Debug)]
pub struct Encoder {
    shape: Shape,
    columns: Arc<[Column]>,
    max_bytes: u64,
    rows: u64,
    document: Unfinished,
}

/// What is written so far.
#[derive(Debug)]
enum Unfinished {
    /// Row after row.
    ByRow { bytes: Vec<u8>, frame: Frame },
    /// One unfinished array per column, each begun with its key.
    ByColumn { arrays: Vec<Vec<u8>>, size: usize },
}

/// What stands around the values of one row.
#[derive(Debug)]
struct Frame {
    open: &'static [u8],
    /// What stands before each value: a comma where one is due, and its key where rows have keys.
    before: Box<[Box<[u8]>]>,
    close: &'static [u8],
}

impl Encoder {
    /// An encoder of rows with these columns. The finished body has at most `max_bytes` bytes,
    /// unless the shape's empty document is longer than that.
    ///
    /// [`Shape::Value`] takes the first column.
    pub fn new(shape: Shape, columns: Arc<[Column]>, max_bytes: u64) -> Self {
        let document = match shape {
            Shape::Rows => Unfinished::rows(b"[", Frame::object(&columns)),
            Shape::Row => Unfinished::rows(b"", Frame::object(&columns)),
            Shape::Tuple => Unfinished::rows(b"", Frame::tuple(columns.len())),
            Shape::Value => Unfinished::rows(b"", Frame::bare()),
            Shape::Columns => Unfinished::columns(&columns),
        };
        Self {
            shape,
            columns,
            max_bytes,
            rows: 0,
            document,
        }
    }

    /// Adds one row: the raw binary value of each column in column order, `None` for NULL.
    ///
    /// # Errors
    /// [`EncodeError::MoreThanOneRow`] for the second row of a single-row shape,
    /// [`EncodeError::TooLarge`] as soon as the body must pass `max_bytes`, and
    /// [`EncodeError::Malformed`] when a value's bytes are not what its type says.
    pub fn push<'v>(
        &mut self,
        values: impl Iterator<Item = Option<&'v [u8]>>,
    ) -> Result<(), EncodeError> {
        if self.shape.is_single_row() && self.rows > 0 {
            return Err(EncodeError::MoreThanOneRow);
        }
        let limit = usize::try_from(self.max_bytes).unwrap_or(usize::MAX);
        let first = self.rows == 0;
        self.rows += 1;
        match &mut self.document {
            Unfinished::ByRow { bytes, frame } => {
                let closing = usize::from(self.shape == Shape::Rows);
                push_row(
                    bytes,
                    frame,
                    first,
                    limit.saturating_sub(closing),
                    &self.columns,
                    values,
                )
            }
            Unfinished::ByColumn { arrays, size } => {
                push_columns(arrays, size, first, limit, &self.columns, values)
            }
        }
        .map_err(|(column, refusal)| self.error(column, refusal))
    }

    /// The finished document; `None` when the shape holds one row and there was none.
    pub fn finish(self) -> Option<Document> {
        if self.shape.is_single_row() && self.rows == 0 {
            return None;
        }
        let bytes = match self.document {
            Unfinished::ByRow { mut bytes, .. } => {
                if self.shape == Shape::Rows {
                    bytes.push(b']');
                }
                bytes
            }
            Unfinished::ByColumn { arrays, .. } => join(arrays),
        };
        Some(Document::new(self.shape, self.columns, Body::new(bytes)))
    }

    fn error(&self, column: usize, refusal: Refusal) -> EncodeError {
        match refusal {
            Refusal::TooLarge => EncodeError::TooLarge {
                max_bytes: self.max_bytes,
            },
            Refusal::Malformed(reason) => EncodeError::Malformed {
                column: self
                    .columns
                    .get(column)
                    .map(|c| c.name.clone())
                    .unwrap_or_default(),
                reason,
            },
        }
    }
}

impl Unfinished {
    fn rows(begin: &[u8], frame: Frame) -> Self {
        Self::ByRow {
            bytes: begin.to_vec(),
            frame,
        }
    }

    fn columns(columns: &[Column]) -> Self {
        let arrays: Vec<Vec<u8>> = keys(columns)
            .enumerate()
            .map(|(i, mut key)| {
                if i == 0 {
                    key.insert(0, b'{');
                }
                key.push(b'[');
                key
            })
            .collect();
        // Each array and the object around them are yet to be closed.
        let size = arrays.iter().map(|a| a.len() + 1).sum::<usize>() + 1;
        Self::ByColumn { arrays, size }
    }
}

impl Frame {
    fn object(columns: &[Column]) -> Self {
        Self {
            open: b"{",
            before: keys(columns).map(Vec::into_boxed_slice).collect(),
            close: b"}",
        }
    }

    fn tuple(width: usize) -> Self {
        let comma = |i| {
            if i == 0 {
                Box::default()
            } else {
                Box::from(*b",")
            }
        };
        Self {
            open: b"[",
            before: (0..width).map(comma).collect(),
            close: b"]",
        }
    }

    fn bare() -> Self {
        Self {
            open: b"",
            before: Box::new([Box::default()]),
            close: b"",
        }
    }
}

/// Each column's key with its colon, after a comma where one is due.
fn keys(columns: &[Column]) -> impl Iterator<Item = Vec<u8>> {
    columns.iter().enumerate().map(|(i, column)| {
        let mut key = if i == 0 { Vec::new() } else { vec![b','] };
        text::write_unlimited(&mut key, &column.name);
        key.push(b':');
        key
    })
}

fn push_row<'v>(
    bytes: &mut Vec<u8>,
    frame: &Frame,
    first: bool,
    limit: usize,
    columns: &[Column],
    mut values: impl Iterator<Item = Option<&'v [u8]>>,
) -> Result<(), (usize, Refusal)> {
    if !first {
        bytes.push(b',');
    }
    bytes.extend_from_slice(frame.open);
    let limit = limit.saturating_sub(frame.close.len());
    for (i, (column, before)) in columns.iter().zip(&frame.before).enumerate() {
        bytes.extend_from_slice(before);
        write_next(bytes, limit, column, &mut values).map_err(|refusal| (i, refusal))?;
    }
    // The frame alone may pass the limit where there is no column.
    value::check(bytes, limit).map_err(|refusal| (0, refusal))?;
    bytes.extend_from_slice(frame.close);
    Ok(())
}

fn push_columns<'v>(
    arrays: &mut [Vec<u8>],
    size: &mut usize,
    first: bool,
    limit: usize,
    columns: &[Column],
    mut values: impl Iterator<Item = Option<&'v [u8]>>,
) -> Result<(), (usize, Refusal)> {
    for (i, (column, array)) in columns.iter().zip(arrays).enumerate() {
        let before = array.len();
        let limit = before + limit.saturating_sub(*size);
        if !first {
            array.push(b',');
        }
        write_next(array, limit, column, &mut values).map_err(|refusal| (i, refusal))?;
        *size += array.len() - before;
    }
    Ok(())
}

fn write_next<'v>(
    out: &mut Vec<u8>,
    limit: usize,
    column: &Column,
    values: &mut impl Iterator<Item = Option<&'v [u8]>>,
) -> Result<(), Refusal> {
    match values.next() {
        Some(Some(raw)) => value::write(out, limit, &column.value_type, raw),
        Some(None) => {
            out.extend_from_slice(b"null");
            value::check(out, limit)
        }
        None => Err(Refusal::Malformed("the row ends before it")),
    }
}

/// Closes the arrays and puts them into one object.
fn join(arrays: Vec<Vec<u8>>) -> Vec<u8> {
    let rest: usize = arrays.iter().skip(1).map(|a| a.len() + 1).sum();
    let mut arrays = arrays.into_iter();
    let Some(mut object) = arrays.next() else {
        return b"{}".to_vec();
    };
    object.reserve_exact(rest + 2);
    object.push(b']');
    for array in arrays {
        object.extend_from_slice(&array);
        object.push(b']');
    }
    object.push(b'}');
    object
}

#[cfg(test)]
mod tests;
