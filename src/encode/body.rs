//! The finished bytes of an answer with their entity tag.

use std::fmt;

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::pending::CachedBytes;

/// Finished bytes, ready to be sent any number of times.
#[derive(Debug, PartialEq, Eq)]
pub struct Body {
    kept: CachedBytes,
    /// The strong entity tag of the bytes.
    pub etag: ETag,
}

impl Body {
    /// A body of these bytes, without the spare capacity of a growing vector, since it may be cached for
    /// long.
    pub fn new(bytes: Vec<u8>) -> Self {
        let etag = ETag::of(&bytes);
        let kept = CachedBytes::new(bytes);
        Self { kept, etag }
    }

    /// A body that is compiled into the program.
    pub fn forever(bytes: &'static [u8]) -> Self {
        Self {
            etag: ETag::of(bytes),
            kept: CachedBytes::forever(bytes),
        }
    }

    /// What a client receives.
    pub fn bytes(&self) -> &Bytes {
        self.kept.bytes()
    }
}

/// A strong entity tag (RFC 9110, 8.8.3): the XXH3 128-bit hash of the JSON document in 32
/// hexadecimal digits and a suffix for the representation, stored as the quoted text of the header.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ETag {
    text: [u8; Self::LONGEST],
    length: u8,
}

impl ETag {
    const LONGEST: usize = 44;

    /// The tag of these bytes. Equal bytes have equal tags in every process on every machine.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(xxh3_128(bytes))
    }

    fn from_hash(hash: u128) -> Self {
        let mut text = [b'"'; Self::LONGEST];
        for (i, digit) in text[1..33].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(hash >> (124 - 4 * i)) as usize & 0xf];
        }
        Self { text, length: 34 }
    }

    /// The tag of a representation that also depends on these texts.
    pub(super) fn with<'t>(&self, texts: impl Iterator<Item = &'t str>) -> Self {
        let mut hasher = Xxh3::new();
        hasher.update(self.as_str().as_bytes());
        for text in texts {
            hasher.update(&text.len().to_le_bytes());
            hasher.update(text.as_bytes());
        }
        Self::from_hash(hasher.digest128())
    }

    /// The same tag with a suffix, of at most five letters.
    pub(super) fn suffixed(mut self, suffix: &'static str) -> Self {
        let end = usize::from(self.length) - 1;
        self.text[end..end + suffix.len()].copy_from_slice(suffix.as_bytes());
        self.text[end + suffix.len()] = b'"';
        self.length += u8::try_from(suffix.len()).expect("suffixes are a few letters");
        self
    }

    /// The header's value, quotes included.
    pub fn as_str(&self) -> &str {
        let text = &self.text[..usize::from(self.length)];
        std::str::from_utf8(text).expect("quotes, hexadecimal digits and suffixes are ASCII")
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_the_quoted_hash_with_its_leading_zeros() {
        // The empty input's digest in XXH3's published test vectors.
        assert_eq!(
            ETag::of(b"").as_str(),
            "\"99aa06d3014798d86001c324468d497f\""
        );
        for i in 0..1000_u32 {
            let bytes = i.to_be_bytes();
            assert_eq!(
                ETag::of(&bytes).to_string(),
                format!("\"{:032x}\"", xxh3_128(&bytes))
            );
        }
    }

    #[test]
    fn a_suffix_comes_before_the_last_quote() {
        let tag = ETag::of(b"");
        assert_eq!(tag.suffixed("").as_str(), tag.as_str());
        assert_eq!(
            tag.suffixed("-csv").suffixed("-zst").as_str(),
            "\"99aa06d3014798d86001c324468d497f-csv-zst\""
        );
        let with = |names: &[&str]| tag.with(names.iter().copied());
        assert_ne!(with(&["ab", "c"]), with(&["a", "bc"]));
    }

    #[test]
    fn a_body_has_no_spare_capacity() {
        let mut bytes = Vec::with_capacity(1 << 20);
        bytes.extend_from_slice(b"[1]");
        let body = Body::new(bytes);
        assert_eq!(body.etag, ETag::of(b"[1]"));
        let bytes = body.bytes().clone();
        drop(body);
        let bytes = bytes.try_into_mut().expect("nobody shares it");
        assert_eq!(bytes.capacity(), 3);
    }
}
