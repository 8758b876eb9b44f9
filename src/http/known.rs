//! A request whose answer is known to be as it was, as long as nothing has changed that it hangs on.

use std::sync::{Arc, Weak};
use std::time::SystemTime;

use tokio::time::Instant;

use super::exchange::Again;
use super::gather::HELD_MAX;
use super::kept::Kind;
use super::{Site, date, fields, freshness};
use crate::cache::{Answer, Key};
use crate::encode::Document;
use crate::observe::Event;
use crate::repository::Description;

/// What is answered without hyper is copied, and held back like all that is copied: no more than that.
pub(super) const CONTENT_MAX: usize = HELD_MAX;

/// `Date`, and the empty line.
const DATE_BYTES: usize = 39;

/// How a request was answered from the cache, fresh, with everything that the answer depends on beside
/// the request itself and the time.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) site: Arc<Site>,
    pub(super) key: Key,
    /// By which its arguments were read.
    pub(super) description: Arc<Description>,
    /// By which the representation was chosen, and conditions judged. Keeps no bytes of it.
    pub(super) document: Weak<Document>,
    pub(super) kind: Kind,
    /// Lines for the browser that asked.
    pub(super) cors: Vec<u8>,
}

impl Again for Known {
    fn answer(&self, received: Instant, out: &mut Vec<u8>) -> bool {
        self.answered(received, out).is_some()
    }
}

impl Known {
    /// Where its entry is fresh still, and its document the same.
    fn answered(&self, received: Instant, out: &mut Vec<u8>) -> Option<()> {
        let Site {
            plan,
            read_through,
            observer,
            ..
        } = &*self.site;
        let id = self.key.endpoint();
        if !read_through.is_described_by(id, &self.description) {
            return None;
        }
        let served = read_through.fresh(&self.key, received)?;
        let Answer::Document(document) = served.entry.answer() else {
            return None;
        };
        if !std::ptr::eq(Arc::as_ptr(document), self.document.as_ptr()) {
            return None;
        }
        let Kind {
            variant,
            is_not_modified,
            ..
        } = self.kind;
        let content: &[u8] = if is_not_modified {
            freshness::can_renew(served.age, served.entry.lifetime()).then_some(&[])?
        } else {
            document.ready(variant)?
        };
        fields::head_of_hit(
            document,
            plan.endpoint(id),
            &served,
            self.kind,
            content,
            |head| {
                out.reserve(head.len() + self.cors.len() + DATE_BYTES + content.len());
                out.extend_from_slice(head);
                out.extend_from_slice(&self.cors);
                date::write(SystemTime::now(), out);
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(content);
            },
        );
        observer.emit(&Event::RequestServed {
            endpoint: Some(id),
            cache: served.status,
            code: self.kind.status_code().as_u16(),
            elapsed: received.elapsed(),
            age: Some(served.age),
            stale_if_error: served.stale_if_error,
        });
        Some(())
    }
}
