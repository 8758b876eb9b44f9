//! Arrays as nested JSON arrays, one level per dimension. Lower bounds are dropped, as by `to_json`.

use super::output::{ValueError, check};
use super::value;
use crate::repository::ValueType;

/// The most dimensions of a Postgres array.
const MAX_DIMENSIONS: usize = 6;

/// Appends an array. Its bytes are the number of dimensions, whether there are NULLs, the element type, each
/// dimension's length and lower bound, and the elements.
pub(super) fn write(
    out: &mut Vec<u8>,
    limit: usize,
    element: &ValueType,
    raw: &[u8],
) -> Result<(), ValueError> {
    let mut reader = Reader { rest: raw };
    let dimensions = usize::try_from(reader.int()?)
        .ok()
        .filter(|&dimensions| dimensions <= MAX_DIMENSIONS)
        .ok_or(ValueError::Malformed(
            "an array with an impossible number of dimensions",
        ))?;
    let _has_nulls = reader.int()?;
    let _element_oid = reader.int()?;
    let mut lengths = [0; MAX_DIMENSIONS];
    for length in &mut lengths[..dimensions] {
        *length = usize::try_from(reader.int()?)
            .map_err(|_| ValueError::Malformed("an array with a negative length"))?;
        let _lower_bound = reader.int()?;
    }
    let lengths = &lengths[..dimensions];
    if lengths.is_empty() || lengths.contains(&0) {
        out.extend_from_slice(b"[]");
    } else {
        // An element takes at least four bytes, which bounds the output by the input.
        lengths
            .iter()
            .try_fold(1_usize, |product, &length| product.checked_mul(length))
            .filter(|&elements| elements <= reader.rest.len() / 4)
            .ok_or(ValueError::Malformed(
                "an array without all of its elements",
            ))?;
        write_level(out, limit, element, lengths, &mut reader)?;
    }
    if reader.rest.is_empty() {
        Ok(())
    } else {
        Err(ValueError::Malformed("an array with excess bytes"))
    }
}

fn write_level(
    out: &mut Vec<u8>,
    limit: usize,
    element: &ValueType,
    lengths: &[usize],
    reader: &mut Reader<'_>,
) -> Result<(), ValueError> {
    let Some((&length, inner)) = lengths.split_first() else {
        return write_element(out, limit, element, reader);
    };
    out.push(b'[');
    for i in 0..length {
        if i > 0 {
            out.push(b',');
        }
        write_level(out, limit, element, inner, reader)?;
    }
    out.push(b']');
    Ok(())
}

fn write_element(
    out: &mut Vec<u8>,
    limit: usize,
    element: &ValueType,
    reader: &mut Reader<'_>,
) -> Result<(), ValueError> {
    match reader.int()? {
        -1 => {
            out.extend_from_slice(b"null");
            check(out, limit)
        }
        length => {
            let length = usize::try_from(length)
                .map_err(|_| ValueError::Malformed("an array element with a negative length"))?;
            value::write(out, limit, element, reader.bytes(length)?)
        }
    }
}

/// The bytes left to read.
struct Reader<'r> {
    rest: &'r [u8],
}

impl<'r> Reader<'r> {
    fn bytes(&mut self, length: usize) -> Result<&'r [u8], ValueError> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(ValueError::Malformed("an incomplete array"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn int(&mut self) -> Result<i32, ValueError> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(ValueError::Malformed("an incomplete array"))?;
        self.rest = rest;
        Ok(i32::from_be_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(words: &[i32], limit: usize) -> Result<String, ValueError> {
        let raw: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        let mut out = Vec::new();
        write(&mut out, limit, &ValueType::Int4, &raw)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn dimensions_nest_and_lower_bounds_are_dropped() {
        let words = [2, 1, 23, 2, -5, 2, 7, 4, 1, 4, 2, -1, 4, 4];
        assert_eq!(written(&words, 100).unwrap(), "[[1,2],[null,4]]");
        assert_eq!(written(&[0, 0, 23], 100).unwrap(), "[]");
    }

    #[test]
    fn impossible_lengths_are_rejected_before_anything_is_written() {
        for words in [
            &[2, 0, 23, i32::MAX, 1, i32::MAX, 1][..],
            &[1, 0, 23, i32::MAX, 1],
            &[1, 0, 23, -1, 1],
            &[7, 0, 23],
            &[-1, 0, 23],
            &[0, 0, 23, 0],
            &[1, 0, 23, 1, 1, -2],
            &[1, 0, 23, 1, 1, 8, 0],
        ] {
            assert!(
                matches!(written(words, 100), Err(ValueError::Malformed(_))),
                "{words:?}"
            );
        }
        assert_eq!(written(&[2, 0, 23, i32::MAX, 1, 0, 1], 100).unwrap(), "[]");
    }

    #[test]
    fn elements_stop_at_the_limit() {
        let mut words = vec![1, 0, 23, 1000, 1];
        words.extend([4, 1_000_000].repeat(1000));
        assert_eq!(written(&words, 100), Err(ValueError::TooLarge));
    }
}
