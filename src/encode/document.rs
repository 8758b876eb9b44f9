//! One answer in all its representations: the JSON document from the start, every other one made from
//! it once, when it is first asked for.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::held::Kept;
use super::{Body, Coding, ETag, table};
use crate::plan::{Format, Shape};
use crate::repository::Column;

/// A representation of a document: a format, and how it is coded on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Its form.
    pub format: Format,
    /// Its coding.
    pub coding: Coding,
}

impl Variant {
    /// The JSON document as it is.
    pub const PLAIN: Self = Self {
        format: Format::Json,
        coding: Coding::Identity,
    };

    fn all() -> impl Iterator<Item = Self> {
        let codings = |format| Coding::ALL.map(|coding| Self { format, coding });
        Format::ALL.into_iter().flat_map(codings)
    }

    fn index(self) -> usize {
        self.format as usize * Coding::ALL.len() + self.coding as usize
    }

    fn uncoded(self) -> Self {
        Self {
            coding: Coding::Identity,
            ..self
        }
    }
}

/// A document with fewer bytes is sent as it is: with its header it takes as many packets either way.
const SMALL: usize = 1024;

const VARIANTS: usize = Format::ALL.len() * Coding::ALL.len();

/// A representation that was asked for is made in advance for so many documents after that one: who
/// asks less often than the data change still finds it ready.
const KEPT_FOR: u8 = 10;

/// A finished answer.
#[derive(Debug)]
pub struct Document {
    shape: Shape,
    columns: Arc<[Column]>,
    json: Body,
    /// Most documents are only ever asked for as they are.
    others: OnceLock<Box<Others>>,
}

/// The other representations.
#[derive(Debug, Default)]
struct Others {
    made: [OnceLock<Kept>; VARIANTS],
    /// For how many documents more each is made in advance.
    kept: [AtomicU8; VARIANTS],
    making: tokio::sync::Mutex<()>,
}

/// A representation can not be made: a defect of Larder's.
#[derive(Debug, thiserror::Error)]
pub enum RepresentationError {
    /// The document does not read as its shape.
    #[error("the document is not what its shape says: {0}")]
    Table(#[from] serde_json::Error),
    /// An encoder failed.
    #[error("the document can not be coded: {0}")]
    Coding(#[from] std::io::Error),
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        let names = |document: &Self| {
            document
                .columns
                .iter()
                .map(|c| c.name.as_str())
                .eq(other.columns.iter().map(|c| c.name.as_str()))
        };
        self.json == other.json && self.shape == other.shape && names(self)
    }
}

impl Eq for Document {}

impl Document {
    /// The document of rows with these columns in this shape.
    pub fn new(shape: Shape, columns: Arc<[Column]>, json: Body) -> Self {
        Self {
            shape,
            columns,
            json,
            others: OnceLock::new(),
        }
    }

    /// The JSON document as it is.
    pub fn json(&self) -> &Body {
        &self.json
    }

    /// Whether coding it is not worth the while: see [`SMALL`].
    pub fn is_small(&self) -> bool {
        self.json.bytes().len() < SMALL
    }

    /// The strong tag of a representation, whether or not it has been made.
    pub fn etag(&self, variant: Variant) -> ETag {
        let tag = match variant.format {
            Format::Json | Format::Ndjson => self.json.etag,
            // The names are in a line of their own, which the JSON of no rows does not have.
            Format::Csv => self.json.etag.with(self.names()),
        };
        let format = match variant.format {
            Format::Json => "",
            Format::Ndjson => "-nd",
            Format::Csv => "-csv",
        };
        let coding = match variant.coding {
            Coding::Identity => "",
            Coding::Gzip => "-gz",
            Coding::Brotli => "-br",
            Coding::Zstd => "-zst",
        };
        tag.marked(format).marked(coding)
    }

    /// The bytes of a representation, if it has been made.
    pub fn ready(&self, variant: Variant) -> Option<&Bytes> {
        if variant == Variant::PLAIN {
            return Some(self.json.bytes());
        }
        let others = self.others.get()?;
        let kept = &others.kept[variant.index()];
        if kept.load(Ordering::Relaxed) != KEPT_FOR {
            kept.store(KEPT_FOR, Ordering::Relaxed);
        }
        others.made[variant.index()].get().map(Kept::bytes)
    }

    /// Makes a representation, unless there is one. It takes its time, and so does not belong on a
    /// thread that answers requests; whoever calls it has the [`Document::maker`].
    ///
    /// # Errors
    /// [`RepresentationError`], which no document that Larder made has.
    pub fn make(&self, variant: Variant) -> Result<&Bytes, RepresentationError> {
        if variant == Variant::PLAIN {
            return Ok(self.json.bytes());
        }
        let made = &self.others().made[variant.index()];
        if let Some(kept) = made.get() {
            return Ok(kept.bytes());
        }
        let bytes = match variant.coding {
            Coding::Identity => self.in_format(variant.format)?,
            Coding::Gzip | Coding::Brotli | Coding::Zstd => {
                variant.coding.encode(self.make(variant.uncoded())?)?
            }
        };
        Ok(made.get_or_init(|| Kept::new(bytes)).bytes())
    }

    /// Whose turn it is to make representations of this document: one at a time, so that none is
    /// made twice.
    pub async fn maker(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.others().making.lock().await
    }

    /// What is to be ready before this document takes the place of `previous`: the representations
    /// that were asked for of late.
    pub fn kept_of(&self, previous: &Self) -> Vec<Variant> {
        let Some(before) = previous.others.get() else {
            return Vec::new();
        };
        let mut kept = Vec::new();
        for variant in Variant::all() {
            let left = before.kept[variant.index()].load(Ordering::Relaxed);
            if left > 0 {
                self.others().kept[variant.index()].store(left - 1, Ordering::Relaxed);
                kept.push(variant);
            }
        }
        kept
    }

    /// The bytes of all representations there are.
    pub fn size(&self) -> usize {
        let others = self.others.get().map_or(0, |others| {
            let made = others.made.iter().filter_map(OnceLock::get);
            size_of::<Others>() + made.map(|kept| kept.bytes().len()).sum::<usize>()
        });
        self.json.bytes().len() + others
    }

    fn in_format(&self, format: Format) -> Result<Vec<u8>, RepresentationError> {
        let names: Vec<&str> = self.names().collect();
        let json = self.json.bytes();
        Ok(match format {
            Format::Json => json.to_vec(),
            Format::Ndjson => table::ndjson(self.shape, &names, json)?,
            Format::Csv => table::csv(self.shape, &names, json)?,
        })
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    fn others(&self) -> &Others {
        self.others.get_or_init(Box::default)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn document(json: &str) -> Document {
        let column = |name: &str| Column {
            name: name.to_owned(),
            type_name: "integer".to_owned(),
            value_type: crate::repository::ValueType::Int4,
        };
        let columns = Arc::new([column("a")]);
        Document::new(Shape::Rows, columns, Body::new(json.as_bytes().to_vec()))
    }

    #[test]
    fn every_representation_has_a_tag_of_its_own_before_it_is_made() {
        let (one, other) = (document("[]"), document(r#"[{"a":1}]"#));
        let mut tags = HashSet::new();
        for document in [&one, &other] {
            for variant in Variant::all() {
                assert!(tags.insert(document.etag(variant)), "{variant:?}");
                assert_eq!(document.ready(variant).is_some(), variant == Variant::PLAIN);
            }
        }
    }

    #[test]
    fn what_was_asked_for_is_made_in_advance_for_a_while() {
        let csv = Variant {
            format: Format::Csv,
            coding: Coding::Gzip,
        };
        let mut document = document("[]");
        document.make(csv).unwrap();
        assert!(document.ready(csv).is_some());
        for _ in 0..KEPT_FOR {
            let next = self::document("[]");
            assert_eq!(next.kept_of(&document), [csv]);
            document = next;
        }
        assert!(self::document("[]").kept_of(&document).is_empty());
    }

    #[test]
    fn representations_are_counted() {
        let document = document("[]");
        assert_eq!(document.size(), 2);
        let csv = Variant {
            format: Format::Csv,
            coding: Coding::Identity,
        };
        let made = document.make(csv).unwrap().len();
        assert_eq!(document.size(), 2 + size_of::<Others>() + made);
    }
}
