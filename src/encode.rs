//! Rows as a finished body: bytes and ETag. Each value is written exactly as Postgres 15's `to_json` writes
//! it under the session settings of the repository's connections: UTC, ISO dates, postgres intervals,
//! hexadecimal bytea.

mod body; // finished bytes with their ETag
mod coding; // gzip, brotli and zstd
mod csv_ndjson;
mod document; // an answer in all its representations
pub mod pending; // bytes that are in memory only because of readers // rows as CSV and NDJSON

mod array; // arrays of any type
mod datetime; // dates, times, timestamps and intervals
mod float; // the shortest digits that parse as the same float
mod numeric; // decimal numbers of any size
mod output; // what writers of values share: errors, the limit, whole numbers
mod text; // JSON strings
mod value; // one value, by its type; uuid and bytea

use std::sync::Arc;

pub use body::{Body, ETag};
pub use coding::Coding;
pub use document::{Document, RepresentationError, Variant};

use crate::plan::Shape;
use crate::repository::Column;
use output::ValueError;

/// Why rows did not become a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The body would pass the endpoint's `max_bytes`.
    #[error("the answer is larger than {max_bytes} bytes")]
    TooLarge {
        /// The limit it passed, in bytes.
        max_bytes: u64,
    },
    /// The shape holds one row, and the statement returned more.
    #[error("the statement returned more than one row")]
    MoreThanOneRow,
    /// The bytes of a value are not valid for its type.
    #[error("a value of column `{column}` cannot be read: {reason}")]
    Malformed {
        /// The column's name.
        column: String,
        /// What is wrong with the bytes.
        reason: &'static str,
    },
}

/// Writes rows into one JSON document.
///
/// After an error, the encoder must be dropped: it may hold part of a row.
#[derive(Debug)]
pub struct Encoder {
    shape: Shape,
    columns: Arc<[Column]>,
    max_bytes: u64,
    rows: u64,
    document: Unfinished,
}

/// The document so far.
#[derive(Debug)]
enum Unfinished {
    /// One row after another.
    ByRow { bytes: Vec<u8>, frame: Frame },
    /// One unfinished array per column, after its key.
    ByColumn { arrays: Vec<Vec<u8>>, size: usize },
}

/// What surrounds the values of one row.
#[derive(Debug)]
struct Frame {
    open: &'static [u8],
    /// What comes before each value: a comma after the first, and the key if rows have keys.
    before: Box<[Box<[u8]>]>,
    close: &'static [u8],
}

impl Encoder {
    /// An encoder of rows with these columns. The finished body has at most `max_bytes` bytes,
    /// unless the shape's empty document is longer. [`Shape::Value`] takes the first column.
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
    /// [`EncodeError::TooLarge`] as soon as the body would exceed `max_bytes`, and
    /// [`EncodeError::Malformed`] if the bytes of a value are not valid for its type.
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
        .map_err(|(column, error)| self.error(column, error))
    }

    /// Bytes written so far.
    pub fn size(&self) -> usize {
        match &self.document {
            Unfinished::ByRow { bytes, .. } => bytes.len(),
            Unfinished::ByColumn { size, .. } => *size,
        }
    }

    /// The finished document; `None` if the shape holds one row and there was none.
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

    fn error(&self, column: usize, error: ValueError) -> EncodeError {
        match error {
            ValueError::TooLarge => EncodeError::TooLarge {
                max_bytes: self.max_bytes,
            },
            ValueError::Malformed(reason) => EncodeError::Malformed {
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
        // Counts the closing bracket of each array and of the object.
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

/// Each column's key with its colon, after a comma except for the first.
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
) -> Result<(), (usize, ValueError)> {
    if !first {
        bytes.push(b',');
    }
    bytes.extend_from_slice(frame.open);
    let limit = limit.saturating_sub(frame.close.len());
    for (i, (column, before)) in columns.iter().zip(&frame.before).enumerate() {
        bytes.extend_from_slice(before);
        write_next(bytes, limit, column, &mut values).map_err(|error| (i, error))?;
    }
    // Without columns, only this finds that the frame exceeds the limit.
    output::check(bytes, limit).map_err(|error| (0, error))?;
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
) -> Result<(), (usize, ValueError)> {
    for (i, (column, array)) in columns.iter().zip(arrays).enumerate() {
        let before = array.len();
        let limit = before + limit.saturating_sub(*size);
        if !first {
            array.push(b',');
        }
        write_next(array, limit, column, &mut values).map_err(|error| (i, error))?;
        *size += array.len() - before;
    }
    Ok(())
}

fn write_next<'v>(
    out: &mut Vec<u8>,
    limit: usize,
    column: &Column,
    values: &mut impl Iterator<Item = Option<&'v [u8]>>,
) -> Result<(), ValueError> {
    match values.next() {
        Some(Some(raw)) => value::write(out, limit, &column.value_type, raw),
        Some(None) => {
            out.extend_from_slice(b"null");
            output::check(out, limit)
        }
        None => Err(ValueError::Malformed("the row ends before this column")),
    }
}

/// Closes the arrays and joins them into one object.
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
