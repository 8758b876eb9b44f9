//! The forms in which an answer can be had.

/// A form of an answer. All forms say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// One document in the endpoint's shape.
    Json,
    /// A JSON value a line: the objects of `rows` and `columns`, else the whole document.
    Ndjson,
    /// RFC 4180, with a line of column names.
    Csv,
}

impl Format {
    /// Every format; where a client does not mind, the first is taken.
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
            // RFC 8259, 11: JSON is UTF-8, and knows no `charset`.
            Self::Json | Self::Ndjson => self.media_type(),
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// The end of a path that asks for it; JSON is what the bare path answers.
    pub fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Json => None,
            Self::Ndjson => Some(".ndjson"),
            Self::Csv => Some(".csv"),
        }
    }
}
