//! What an answer may depend on of a request. Taken once, before the filters: they share it instead
//! of cloning headers one by one.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use tokio::time::Instant;
use warp::http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCESS_CONTROL_REQUEST_HEADERS, HeaderName, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, ORIGIN,
};
use warp::http::request::Parts;
use warp::http::{HeaderMap, HeaderValue, Method, Uri};

use super::decode;

/// A field that an answer may depend on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
    Accept,
    AcceptEncoding,
    IfModifiedSince,
    IfNoneMatch,
    Origin,
}

const FIELDS: usize = 5;

/// In the order of the fields.
static NAMES: [HeaderName; FIELDS] = [
    ACCEPT,
    ACCEPT_ENCODING,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    ORIGIN,
];

/// A request without its body, which nothing here reads.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// The path without needless escapes, where it has any and is asked for.
    plain: OnceLock<Option<Box<str>>>,
    pub(super) headers: HeaderMap,
    /// Which fields there are. Most requests have few of them, and to look for one takes longer than
    /// to look at all names once.
    has: [bool; FIELDS],
    pub(super) received: Instant,
}

tokio::task_local! {
    /// Of the request that is being answered. The filters find it here: a request's extensions would take
    /// three allocations for it.
    pub(super) static HEAD: Arc<Head>;
}

impl Head {
    /// Of a request that has just come in.
    pub(super) fn of(parts: Parts) -> Arc<Self> {
        let mut has = [false; FIELDS];
        for name in parts.headers.keys() {
            if let Some(field) = NAMES.iter().position(|field| field == name) {
                has[field] = true;
            }
        }
        Arc::new(Self {
            method: parts.method,
            uri: parts.uri,
            plain: OnceLock::new(),
            headers: parts.headers,
            has,
            received: Instant::now(),
        })
    }

    pub(super) fn has(&self, field: Field) -> bool {
        self.has[field as usize]
    }

    /// Every line of a field that is a list.
    pub(super) fn lines(&self, field: Field) -> impl Iterator<Item = &HeaderValue> {
        let name = &NAMES[field as usize];
        let lines = self.has(field).then(|| self.headers.get_all(name));
        lines.into_iter().flatten()
    }

    /// A field that is one value.
    pub(super) fn field(&self, field: Field) -> Option<&HeaderValue> {
        let name = &NAMES[field as usize];
        self.has(field).then(|| self.headers.get(name)).flatten()
    }

    /// Which fields a page wants to set. Only those who ask for options say so: the field is not among those
    /// that every request is looked through for.
    pub(super) fn requested_fields(&self) -> impl Iterator<Item = &HeaderValue> {
        self.headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter()
    }

    /// The path without needless escapes, unless it has more bytes than `longest` with them: then it is
    /// not looked at.
    pub(super) fn path(&self, longest: usize) -> Option<&str> {
        let path = self.uri.path();
        if path.len() > longest {
            return None;
        }
        // As most are: nothing has to be kept for it.
        if !path.contains('%') {
            return Some(path);
        }
        let plain = self.plain.get_or_init(|| match decode::plain(path) {
            Cow::Borrowed(_) => None,
            Cow::Owned(plain) => Some(plain.into()),
        });
        Some(plain.as_deref().unwrap_or(path))
    }

    /// Whether the method asks for a representation.
    pub(super) fn is_read(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }
}

#[cfg(test)]
mod tests {
    use warp::http::Request;

    use super::*;
    use crate::http::decode::tests::copied_by;
    use crate::plan::path::RESERVED_PATHS;

    fn head(path: &str) -> Arc<Head> {
        let (parts, ()) = Request::get(path).body(()).unwrap().into_parts();
        Head::of(parts)
    }

    /// As the routes do: an endpoint first, then each of Larder's own pages.
    fn is_asked_for_everything(head: &Head, longest: usize) {
        let _ = head.path(longest);
        for page in RESERVED_PATHS {
            let _ = head.path(page.len() * decode::ESCAPE_BYTES);
        }
    }

    #[test]
    fn a_path_is_decoded_once_and_not_at_all_where_it_is_too_long() {
        let path = format!("/{}", "%41".repeat(2_600));
        let copied = |path: &str, longest| {
            let head = head(path);
            copied_by(|| is_asked_for_everything(&head, longest))
        };
        assert_eq!(copied(&path, path.len()), path.len());
        assert_eq!(copied(&path, path.len() - 1), 0);
        assert_eq!(copied("/%63ount", 100), 8);
        assert_eq!(copied("/count", 100), 0, "there is nothing to decode");
        assert_eq!(head("/%63ount").path(8), Some("/count"));
        assert_eq!(head("/%63ount").path(7), None);
        assert_eq!(head("/%zz").path(8), Some("/%zz"));
    }
}
