//! The formats of an answer.

/// A format of an answer. All formats have the same content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// One document in the endpoint's shape.
    Json,
    /// One JSON value per line: the rows of `rows` and `columns` as objects, otherwise the whole document.
    Ndjson,
    /// RFC 4180, with a header line.
    Csv,
}

impl Format {
    /// Every format, in the order in which Larder prefers them if the client does not.
    pub const ALL: [Self; 3] = [Self::Json, Self::Ndjson, Self::Csv];

    /// The media type, without parameters.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
        }
    }

    /// `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            // RFC 8259, 11: JSON is UTF-8 and has no `charset`.
            Self::Json | Self::Ndjson => self.media_type(),
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// The suffix of a path that requests this format; the bare path answers with JSON.
    pub fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Json => None,
            Self::Ndjson => Some(".ndjson"),
            Self::Csv => Some(".csv"),
        }
    }
}
