//! Whether a request is for this server, by the host that it names.
//!
//! A web page can have its own name resolve to 127.0.0.1 (DNS rebinding). The browser then lets it read
//! what a server on that machine answers, but the host that the request names is still the page's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use warp::http::header::HOST;
use warp::http::{HeaderMap, Uri};

use crate::plan::{HostName, Listen, Page, ServerSettings};

/// Whether a path is asked for by health checks, which use the server's address as its name.
fn is_health_check(path: &str) -> bool {
    path == Page::Healthz.path() || path == Page::Readyz.path()
}

/// Whether `hosts` names the host of a request, if it names any.
pub(super) fn is_served(settings: &ServerSettings, uri: &Uri, headers: &HeaderMap) -> bool {
    let Some(hosts) = &settings.hosts else {
        return true;
    };
    is_health_check(uri.path())
        || named(uri, headers).is_some_and(|mut names| names.all(|name| has(hosts, &name)))
}

/// Whether only programs on this machine can connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// The server listens on a loopback address.
    Loopback,
    /// Other machines may reach it.
    Network,
}

/// Whether a client may see one of Larder's own pages. On a loopback address, and without `hosts`, the host
/// that the request names must be a loopback name too.
pub(in crate::http) fn may_see_own_pages(
    settings: &ServerSettings,
    exposure: Exposure,
    uri: &Uri,
    headers: &HeaderMap,
) -> bool {
    if settings.hosts.is_some() || exposure == Exposure::Network || is_health_check(uri.path()) {
        return true;
    }
    let is_local = |host: &str| match &settings.listen {
        Listen::Name(name, _) if name.eq_ignore_ascii_case(host) => true,
        Listen::Address(_) | Listen::Everywhere(_) | Listen::Name(..) => is_loopback(host),
    };
    // A request without a host does not come from a browser.
    named(uri, headers).is_none_or(|mut names| names.all(|name| is_local(&name.host)))
}

/// The hosts that a request names, in its target and in its fields; `None` if it names none. A name that
/// cannot be read matches nothing.
fn named<'r>(
    uri: &'r Uri,
    headers: &'r HeaderMap,
) -> Option<impl Iterator<Item = HostName> + use<'r>> {
    let target = uri.authority().map(|authority| authority.as_str());
    let fields = headers.get_all(HOST).iter();
    let fields = fields.map(|host| host.to_str().unwrap_or("?"));
    let mut texts = target
        .into_iter()
        .chain(fields)
        .filter(|text| !text.is_empty())
        .peekable();
    texts.peek()?;
    Some(texts.map(|text| {
        HostName::read(text).unwrap_or(HostName {
            host: String::new(),
            port: None,
        })
    }))
}

fn has(hosts: &[HostName], asked: &HostName) -> bool {
    hosts
        .iter()
        .any(|name| name.host == asked.host && (name.port.is_none() || name.port == asked.port))
}

/// RFC 6761, 6.3, and the addresses that never leave the machine.
fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let address = match address {
        Some(address) => address.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    };
    match address {
        Some(address) => address.to_canonical().is_loopback(),
        None => host == "localhost" || host.ends_with(".localhost"),
    }
}
