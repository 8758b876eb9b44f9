//! The head of a request: everything that a response may depend on. It is taken apart once, and Warp's
//! filters share it instead of cloning header fields one by one.

pub(super) mod percent; // percent-decoding, strictly

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use crossbeam_utils::atomic::AtomicCell;
use tokio::time::Instant;
use warp::http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCESS_CONTROL_REQUEST_HEADERS, AUTHORIZATION, HeaderName,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, ORIGIN,
};
use warp::http::request::Parts;
use warp::http::{HeaderMap, HeaderValue, Method, Uri};

use crate::access::LastCredential;
use crate::plan::ClientId;

/// A field that a response may depend on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
    Accept,
    AcceptEncoding,
    IfModifiedSince,
    IfNoneMatch,
    Origin,
}

const FIELDS: usize = 5;

/// In the order of [`Field`].
static NAMES: [HeaderName; FIELDS] = [
    ACCEPT,
    ACCEPT_ENCODING,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    ORIGIN,
];

static X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A field that may carry a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CredentialField {
    Authorization,
    ApiKey,
}

/// Whether the connection can be used again after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterResponse {
    KeepAlive,
    Close,
}

/// The other end of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    // One for each field: the same text may be valid in one of them only.
    pub(super) last_authorization: LastCredential,
    pub(super) last_api_key: LastCredential,
}

impl Peer {
    pub(super) fn new(address: IpAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            last_authorization: LastCredential::default(),
            last_api_key: LastCredential::default(),
        })
    }
}

/// A request without its body, which is never read.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    /// Which fields there are: a bit for each. Most requests have few of them, and one look at all names is faster than
    /// a lookup for each field.
    has: u8,
    pub(super) peer: Arc<Peer>,
    pub(super) received: Instant,
    pub(super) after_response: AfterResponse,
    /// Whose credential it carries, once that has been looked at.
    client: AtomicCell<Option<ClientId>>,
}

tokio::task_local! {
    /// The request that is being answered. Warp's filters find it here: a request's extensions would take
    /// three allocations for it.
    pub(super) static REQUEST: Arc<RequestHead>;
}

impl RequestHead {
    /// The head of a request that has just arrived.
    pub(super) fn new(parts: Parts, peer: Arc<Peer>, after_response: AfterResponse) -> Arc<Self> {
        let mut has = 0;
        for name in parts.headers.keys() {
            if let Some(field) = NAMES.iter().position(|field| field == name) {
                has |= 1 << field;
            }
        }
        Arc::new(Self {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            has,
            peer,
            received: Instant::now(),
            after_response,
            client: AtomicCell::new(None),
        })
    }

    /// Records whose credential the request carries.
    pub(super) fn record_client(&self, client: ClientId) {
        self.client.store(Some(client));
    }

    /// The client, if its credential was looked at and is valid.
    pub(super) fn client(&self) -> Option<ClientId> {
        self.client.load()
    }

    pub(super) fn has(&self, field: Field) -> bool {
        self.has & 1 << field as u8 != 0
    }

    /// Every line of a field whose value is a list.
    pub(super) fn lines(&self, field: Field) -> impl Iterator<Item = &HeaderValue> {
        let name = &NAMES[field as usize];
        let lines = self.has(field).then(|| self.headers.get_all(name));
        lines.into_iter().flatten()
    }

    /// Every line of a field that may carry a credential.
    pub(super) fn credentials(&self, field: CredentialField) -> impl Iterator<Item = &HeaderValue> {
        let name = match field {
            CredentialField::Authorization => &AUTHORIZATION,
            CredentialField::ApiKey => &X_API_KEY,
        };
        self.headers.get_all(name).iter()
    }

    /// The line with a credential, if there is exactly one. One pass over a few fields costs less than two
    /// look-ups.
    pub(super) fn only_credential(&self) -> Option<(CredentialField, &HeaderValue)> {
        let mut only = None;
        for (name, value) in &self.headers {
            let field = if *name == AUTHORIZATION {
                CredentialField::Authorization
            } else if *name == X_API_KEY {
                CredentialField::ApiKey
            } else {
                continue;
            };
            if only.replace((field, value)).is_some() {
                return None;
            }
        }
        only
    }

    /// Every line that proxies have added the addresses of clients to.
    pub(super) fn forwarded_for(&self) -> impl Iterator<Item = &HeaderValue> {
        self.headers.get_all(&X_FORWARDED_FOR).iter()
    }

    /// A field with a single value.
    pub(super) fn field(&self, field: Field) -> Option<&HeaderValue> {
        let name = &NAMES[field as usize];
        self.has(field).then(|| self.headers.get(name)).flatten()
    }

    /// The fields that a page wants to set. Only a preflight names them, so the field is not in [`Field`].
    pub(super) fn requested_fields(&self) -> impl Iterator<Item = &HeaderValue> {
        self.headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter()
    }

    /// The path without needless escapes. `None` if it has more than `longest` bytes with them: a longer
    /// one is not decoded.
    pub(super) fn path(&self, longest: usize) -> Option<Cow<'_, str>> {
        let path = self.uri.path();
        (path.len() <= longest).then(|| percent::unescaped_path(path))
    }

    /// Whether the method asks for a representation.
    pub(super) fn is_read(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use warp::http::Request;

    use super::*;
    use crate::http::request::percent::tests::copied_by;

    fn head(path: &str) -> Arc<RequestHead> {
        let (parts, ()) = Request::get(path).body(()).unwrap().into_parts();
        let peer = Peer::new(Ipv4Addr::LOCALHOST.into());
        RequestHead::new(parts, peer, AfterResponse::KeepAlive)
    }

    #[test]
    fn a_path_is_not_decoded_if_it_is_too_long() {
        let path = format!("/{}", "%41".repeat(2_600));
        let copied = |path: &str, longest| {
            let head = head(path);
            copied_by(|| drop(head.path(longest)))
        };
        assert_eq!(copied(&path, path.len()), path.len());
        assert_eq!(copied(&path, path.len() - 1), 0);
        assert_eq!(copied("/%63ount", 100), 8);
        assert_eq!(copied("/count", 100), 0, "there is nothing to decode");
        assert_eq!(head("/%63ount").path(8).as_deref(), Some("/count"));
        assert_eq!(head("/%63ount").path(7), None);
        assert_eq!(head("/%zz").path(8).as_deref(), Some("/%zz"));
    }
}
