//! The header fields of an endpoint's response: what it is, how old it is, how long it may be stored, and how
//! it was found.

use std::time::{Duration, SystemTime};

use warp::http::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, LAST_MODIFIED, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{HeaderMap, HeaderValue, StatusCode};

use super::header_cache::{self, Fields, Kind, Wanted};
use super::header_writer::HeaderWriter;
use super::{NOSNIFF, cache_control, conditional};
use crate::encode::Document;
use crate::observe::CacheStatus;
use crate::plan::{Access, Endpoint};
use crate::read_through::Served;

/// RFC 9213.
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What every response of an endpoint depends on.
const NEGOTIATED: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding");
const NEGOTIATED_WITH_CREDENTIAL: HeaderValue =
    HeaderValue::from_static("Accept, Accept-Encoding, Authorization, X-API-Key");

/// The usual number of fields, and the bytes of those that are made for one response.
const CAPACITY: (usize, usize) = (12, 320);

/// The fields of a whole document, or of a 304 for it, to a caller whose credential is valid for this long.
pub(in crate::http) fn of_document(
    document: &Document,
    endpoint: &Endpoint,
    served: &Served,
    kind: Kind,
    valid_for: Duration,
) -> HeaderMap {
    let wanted = Wanted {
        entry: &served.entry,
        kind,
        age: served.age,
        now: SystemTime::now(),
    };
    let make = || made(document, endpoint, served, &wanted, valid_for);
    match served.status {
        // The credential, and not the entry, limits these.
        _ if valid_for <= served.entry.lifetime().limit() => make().headers,
        CacheStatus::Hit | CacheStatus::Stale => header_cache::fields(&wanted, make),
        CacheStatus::Miss | CacheStatus::Coalesced | CacheStatus::None => make().headers,
    }
}

fn made(
    document: &Document,
    endpoint: &Endpoint,
    served: &Served,
    wanted: &Wanted<'_>,
    valid_for: Duration,
) -> Fields {
    let Kind {
        variant,
        is_not_modified,
        ..
    } = wanted.kind;
    let mut headers = HeaderMap::with_capacity(CAPACITY.0);
    if !is_not_modified {
        let content_type = variant.format.content_type();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(name) = variant.coding.name() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
    }
    let mut writer = HeaderWriter::with_capacity(CAPACITY.1);
    let etag = document.etag(variant);
    headers.insert(ETAG, writer.text(etag.as_str()).end());
    let (last_modified, stays_for) =
        conditional::last_modified(served.entry.last_modified(), wanted.now);
    headers.insert(LAST_MODIFIED, writer.date(last_modified).end());
    let status = if is_not_modified {
        StatusCode::NOT_MODIFIED
    } else {
        StatusCode::OK
    };
    add_freshness(
        &mut headers,
        &mut writer,
        endpoint,
        served,
        status,
        valid_for,
    );
    let until = cache_control::unchanged_until(served.age, served.entry.lifetime());
    let until = until.min(served.age.saturating_add(stays_for));
    Fields {
        headers,
        ages: served.age..until,
        made: wanted.now,
    }
}

/// Adds to the fields of a problem: that there is no row is an answer like any other.
pub(in crate::http) fn add_to_no_row(
    headers: &mut HeaderMap,
    endpoint: &Endpoint,
    served: &Served,
    valid_for: Duration,
) {
    let mut writer = HeaderWriter::with_capacity(CAPACITY.1);
    add_freshness(
        headers,
        &mut writer,
        endpoint,
        served,
        StatusCode::NOT_FOUND,
        valid_for,
    );
}

/// Adds to the fields of a problem that has nothing to do with an entry.
pub(in crate::http) fn add_to_refusal(headers: &mut HeaderMap, endpoint: &Endpoint) {
    headers.insert(VARY, vary(endpoint));
}

/// Adds to the fields of a page that shows each caller what it may use: no shared cache may store it.
pub(in crate::http) fn add_to_callers_own(headers: &mut HeaderMap) {
    let vary = HeaderValue::from_static("Authorization, X-API-Key");
    headers.insert(VARY, vary);
    let private = HeaderValue::from_static("private, no-cache");
    headers.insert(CACHE_CONTROL, private);
}

fn vary(endpoint: &Endpoint) -> HeaderValue {
    match endpoint.access {
        Access::Public => NEGOTIATED,
        Access::Credential(_) => NEGOTIATED_WITH_CREDENTIAL,
    }
}

/// Adds how old the response is, how long it may be stored, and how it was found.
fn add_freshness(
    headers: &mut HeaderMap,
    writer: &mut HeaderWriter,
    endpoint: &Endpoint,
    served: &Served,
    status: StatusCode,
    valid_for: Duration,
) {
    let (entry, age) = (&served.entry, served.age);
    headers.insert(VARY, vary(endpoint));
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(AGE, writer.number(age.as_secs()).end());
    let mut cache_control = |directive| {
        cache_control::cache_control(writer, directive, age, entry.lifetime(), status, valid_for);
        writer.end()
    };
    headers.insert(CACHE_CONTROL, cache_control(endpoint.cache_control));
    if let Some(directive) = endpoint.cdn_cache_control {
        headers.insert(CDN_CACHE_CONTROL, cache_control(directive));
    }
    cache_control::cache_status(writer, served.status, age, entry.lifetime());
    headers.insert(CACHE_STATUS, writer.end());
    if matches!(served.status, CacheStatus::Miss | CacheStatus::Coalesced) {
        let milliseconds = entry.query_time().as_secs_f64() * 1_000.0;
        let timing = format!("query;dur={milliseconds:.1}");
        headers.insert(SERVER_TIMING, writer.text(&timing).end());
    }
}
