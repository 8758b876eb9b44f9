//! Which host a request is for, and whether Larder answers to that name.
//!
//! A web page can have its own name resolve to 127.0.0.1 (DNS rebinding): the browser then lets it read
//! what a server on that machine answers. The name in the request is the page's, though.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use warp::http::header::HOST;
use warp::http::{HeaderMap, Uri};

use super::Site;
use crate::plan::{HostName, Listen, ServerSettings};

/// Health checks ask by address.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];

/// Whether a request, of any kind, is for this server: `hosts` names it, if it names any.
pub(super) fn is_ours(settings: &ServerSettings, uri: &Uri, headers: &HeaderMap) -> bool {
    let Some(hosts) = &settings.hosts else {
        return true;
    };
    HEALTH.contains(&uri.path())
        || names(uri, headers).is_some_and(|mut asked| asked.all(|name| has(hosts, &name)))
}

/// Whether one of the server's own pages may be shown. While it listens on a loopback address and
/// nothing else is said, that is where the client must believe to be.
pub(super) fn may_see_own(site: &Site, uri: &Uri, headers: &HeaderMap) -> bool {
    let settings = site.plan.server();
    if settings.hosts.is_some() || !site.is_on_loopback || HEALTH.contains(&uri.path()) {
        return true;
    }
    let is_local = |host: &str| match &settings.listen {
        Listen::Name(name, _) if name.eq_ignore_ascii_case(host) => true,
        Listen::Address(_) | Listen::Everywhere(_) | Listen::Name(..) => is_loopback(host),
    };
    // No browser leaves out the name.
    names(uri, headers).is_none_or(|mut asked| asked.all(|name| is_local(&name.host)))
}

/// The names that a request has, in its target and in its fields; none if it has none at all. One that
/// cannot be read is nobody's.
fn names<'r>(
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
