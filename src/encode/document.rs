//! One answer in all its representations: the JSON document, and the others made from it once, on first
//! request.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::pending::CachedBytes;
use super::{Body, Coding, ETag, csv_ndjson};
use crate::plan::{Format, Shape};
use crate::repository::Column;

/// A representation of a document: a format and a content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variant {
    /// The format.
    pub format: Format,
    /// The content coding.
    pub coding: Coding,
}

impl Variant {
    /// The uncompressed JSON document.
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

/// A smaller document is not compressed: with its header, it takes the same number of packets.
const SMALL: usize = 1024;

const VARIANTS: usize = Format::ALL.len() * Coding::ALL.len();

/// A requested representation is prepared for this many later documents, so that it is also ready for clients
/// that poll less often than the data changes.
const PREPARED_DOCUMENTS: u8 = 10;

/// A finished answer.
#[derive(Debug)]
pub struct Document {
    shape: Shape,
    columns: Arc<[Column]>,
    json: Body,
    /// Empty for most documents, whose clients request nothing but plain JSON.
    others: OnceLock<Box<Others>>,
}

/// The representations other than plain JSON.
#[derive(Debug, Default)]
struct Others {
    made: [OnceLock<CachedBytes>; VARIANTS],
    /// For how many more documents each is prepared.
    prepared: [AtomicU8; VARIANTS],
    making: tokio::sync::Mutex<()>,
}

/// A representation cannot be made, which is a defect of Larder.
#[derive(Debug, thiserror::Error)]
pub enum RepresentationError {
    /// The document does not parse as its shape.
    #[error("the document does not have its shape: {0}")]
    Table(#[from] serde_json::Error),
    /// An encoder failed.
    #[error("the document cannot be compressed: {0}")]
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

    /// The uncompressed JSON document.
    pub fn json(&self) -> &Body {
        &self.json
    }

    /// Whether compression is not worthwhile: see [`SMALL`].
    pub fn is_small(&self) -> bool {
        self.json.bytes().len() < SMALL
    }

    /// The strong tag of a representation, whether or not that exists yet.
    pub fn etag(&self, variant: Variant) -> ETag {
        let tag = match variant.format {
            Format::Json | Format::Ndjson => self.json.etag,
            // CSV has the column names even without rows, which JSON has not.
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
        tag.suffixed(format).suffixed(coding)
    }

    /// The bytes of a representation, if it has been made.
    pub fn ready(&self, variant: Variant) -> Option<&Bytes> {
        if variant == Variant::PLAIN {
            return Some(self.json.bytes());
        }
        let others = self.others.get()?;
        let prepared = &others.prepared[variant.index()];
        if prepared.load(Ordering::Relaxed) != PREPARED_DOCUMENTS {
            prepared.store(PREPARED_DOCUMENTS, Ordering::Relaxed);
        }
        others.made[variant.index()].get().map(CachedBytes::bytes)
    }

    /// The bytes of a representation, made if necessary. This takes time, so do not call it on a thread that
    /// answers requests. The caller holds the lock from [`Document::maker`].
    ///
    /// # Errors
    /// [`RepresentationError`], which is a defect.
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
        Ok(made.get_or_init(|| CachedBytes::new(bytes)).bytes())
    }

    /// The lock for making representations of this document: one at a time, so that none is made twice.
    pub async fn maker(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.others().making.lock().await
    }

    /// The representations to prepare before this document replaces `previous`: those requested recently.
    pub fn to_prepare(&self, previous: &Self) -> Vec<Variant> {
        let Some(before) = previous.others.get() else {
            return Vec::new();
        };
        let mut variants = Vec::new();
        for variant in Variant::all() {
            let left = before.prepared[variant.index()].load(Ordering::Relaxed);
            if left > 0 {
                self.others().prepared[variant.index()].store(left - 1, Ordering::Relaxed);
                variants.push(variant);
            }
        }
        variants
    }

    /// The bytes of all representations that exist.
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
            Format::Ndjson => csv_ndjson::ndjson(self.shape, &names, json)?,
            Format::Csv => csv_ndjson::csv(self.shape, &names, json)?,
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
    fn a_requested_representation_is_prepared_for_a_while() {
        let csv = Variant {
            format: Format::Csv,
            coding: Coding::Gzip,
        };
        let mut document = document("[]");
        document.make(csv).unwrap();
        assert!(document.ready(csv).is_some());
        for _ in 0..PREPARED_DOCUMENTS {
            let next = self::document("[]");
            assert_eq!(next.to_prepare(&document), [csv]);
            document = next;
        }
        assert!(self::document("[]").to_prepare(&document).is_empty());
    }

    #[test]
    fn the_size_includes_all_representations() {
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
