//! The header fields of an endpoint's answer: what it is, how old it is, how long it may be kept, and
//! how it was found.

use std::time::SystemTime;

use warp::http::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, LAST_MODIFIED, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{HeaderMap, HeaderValue};

use super::kept::{self, Asked, Fields, Kind};
use super::lines::Lines;
use super::{NOSNIFF, conditional, freshness};
use crate::encode::Document;
use crate::observe::CacheStatus;
use crate::plan::Endpoint;
use crate::read_through::Served;

/// RFC 9213.
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What every answer of an endpoint depends on.
const NEGOTIATED: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding");

/// Fields of an answer; the bytes of those that are made for it.
const ROOM: (usize, usize) = (12, 320);

/// Fields of a whole document, or of the news that it is still the same.
pub(super) fn of_document(
    document: &Document,
    endpoint: &Endpoint,
    served: &Served,
    kind: Kind,
) -> HeaderMap {
    let asked = Asked {
        entry: &served.entry,
        kind,
        age: served.age,
        now: SystemTime::now(),
    };
    let make = || made(document, endpoint, served, &asked);
    match served.status {
        CacheStatus::Hit | CacheStatus::Stale => kept::fields(&asked, make),
        CacheStatus::Miss | CacheStatus::Coalesced | CacheStatus::None => make().headers,
    }
}

fn made(document: &Document, endpoint: &Endpoint, served: &Served, asked: &Asked<'_>) -> Fields {
    let Kind {
        variant,
        is_not_modified,
        ..
    } = asked.kind;
    let mut headers = HeaderMap::with_capacity(ROOM.0);
    if !is_not_modified {
        let content_type = variant.format.content_type();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(name) = variant.coding.name() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
    }
    let mut lines = Lines::with_room(ROOM.1);
    let etag = document.etag(variant);
    headers.insert(ETAG, lines.text(etag.as_str()).end());
    let (last_modified, stays_for) =
        conditional::last_modified(served.entry.last_modified(), asked.now);
    headers.insert(LAST_MODIFIED, lines.date(last_modified).end());
    tell(&mut headers, &mut lines, endpoint, served, is_not_modified);
    let until = freshness::same_until(served.age, served.entry.lifetime());
    let until = until.min(served.age.saturating_add(stays_for));
    Fields {
        headers,
        ages: served.age..until,
        made: asked.now,
    }
}

/// Beside those of a problem: that there is no row is an answer like any other.
pub(super) fn of_no_row(headers: &mut HeaderMap, endpoint: &Endpoint, served: &Served) {
    tell(
        headers,
        &mut Lines::with_room(ROOM.1),
        endpoint,
        served,
        false,
    );
}

/// Beside those of a problem that has nothing to do with an entry.
pub(super) fn of_refusal(headers: &mut HeaderMap) {
    headers.insert(VARY, NEGOTIATED);
}

/// How old the answer is, how long it may be kept, and how it was found.
fn tell(
    headers: &mut HeaderMap,
    lines: &mut Lines,
    endpoint: &Endpoint,
    served: &Served,
    renews: bool,
) {
    let (entry, age) = (&served.entry, served.age);
    headers.insert(VARY, NEGOTIATED);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(AGE, lines.number(age.as_secs()).end());
    let mut cache_control = |stored| {
        freshness::cache_control(lines, stored, age, entry.lifetime(), renews);
        lines.end()
    };
    headers.insert(CACHE_CONTROL, cache_control(endpoint.cache_control));
    if let Some(stored) = endpoint.cdn_cache_control {
        headers.insert(CDN_CACHE_CONTROL, cache_control(stored));
    }
    freshness::cache_status(lines, served.status, age, entry.lifetime());
    headers.insert(CACHE_STATUS, lines.end());
    if matches!(served.status, CacheStatus::Miss | CacheStatus::Coalesced) {
        let milliseconds = entry.query_time().as_secs_f64() * 1_000.0;
        let timing = format!("query;dur={milliseconds:.1}");
        headers.insert(SERVER_TIMING, lines.text(&timing).end());
    }
}
