//! `[access]`, and `access` of an endpoint.

mod jwt; // `[[access.jwt]]`
mod stored_keys; // `[access.keys]`

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::SystemTime;

use chrono::DateTime;
use ipnet::IpNet;

use super::field;
use super::limit::limit;
use crate::config::schema::{AccessSection, EndpointAccessSection, EndpointSection, KeySection};
use crate::config::{At, Field, Mistake, Report, Span};
use crate::plan::Claim;
use crate::plan::access::{
    Access, AccessKey, AccessSettings, DefaultAccess, EMPTY_KEY, KeyDigest, Requirements,
    is_key_name, parse_digest,
};

const DIGEST_HELP: &str = "`larder key new NAME` prints a new key with its digest";
const NETWORK_HELP: &str = "for example \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.7\"";

/// The settings, and where `[access]` is written; `None` without `[access]`, when every path is public.
pub(super) fn settings(section: &AccessSection, report: &mut Report) -> Option<At<AccessSettings>> {
    let span = section.span.as_ref()?;
    let words = [
        ("deny", DefaultAccess::Deny),
        ("public", DefaultAccess::Public),
    ];
    let default = field::word("default", &section.default, &words, report);
    if section.default.is_absent() {
        report.push(
            Mistake::new("`default` of [access] is missing")
                .at(span, "are endpoints without `access` closed or open?")
                .help(
                    "default = \"deny\" needs a credential for them, default = \"public\" does not",
                ),
        );
    }
    let keys = section.keys.as_deref().unwrap_or_default();
    let issuers = section.issuers.as_deref().unwrap_or_default();
    // A value of another kind has been reported.
    let has_none = section.keys.as_ref().is_some_and(Vec::is_empty)
        && section.issuers.as_ref().is_some_and(Vec::is_empty)
        && section.stored_keys.is_absent();
    if has_none {
        report.push(
            Mistake::new("[access] declares no credential")
                .at(span, "nobody could show one")
                .help(
                    "add a key: [[access.key]] with the name and digest that `larder key new NAME` prints; or \
                     an issuer of tokens: [[access.jwt]]",
                ),
        );
    }
    let mut known = Known::default();
    let keys = keys.iter().filter_map(|key| known.key(key, report));
    let keys = keys.collect();
    let mut known_issuers = jwt::Issuers::default();
    let issuers = issuers
        .iter()
        .filter_map(|issuer| known_issuers.issuer(issuer, &mut known.names, report));
    let issuers = issuers.collect();
    let trusted_proxies = networks("trusted_proxies", &section.trusted_proxies, report);
    let settings = AccessSettings {
        // Closed while the mistake is reported.
        default: default.map_or(DefaultAccess::Deny, |at| at.value),
        keys,
        issuers,
        trusted_proxies,
        limit: limit(&section.limit, report),
        stored_keys: stored_keys::stored_keys(&section.stored_keys, report),
        numbers: Vec::new(),
    };
    Some(At {
        value: settings.numbered(),
        span: span.clone(),
    })
}

/// Names and digests so far, each of which may occur once.
#[derive(Default)]
struct Known {
    names: HashMap<String, Span>,
    digests: HashMap<KeyDigest, Span>,
}

impl Known {
    fn key(&mut self, section: &KeySection, report: &mut Report) -> Option<AccessKey> {
        let name = self.name(section, report);
        let digests = self.digests(section, report);
        let claims = section.claims.given().map_or(&[][..], |at| &at.value);
        let claims: BTreeMap<_, _> = claims
            .iter()
            .map(|(name, text)| (name.value.clone(), Claim::Text(text.value.clone())))
            .collect();
        let expires = expires(&section.expires, report);
        let scopes = scopes(&section.scopes, report);
        let limit = limit(&section.limit, report);
        Some(AccessKey {
            name: name?,
            digests,
            expires,
            scopes,
            claims,
            limit,
        })
    }

    fn name(&mut self, section: &KeySection, report: &mut Report) -> Option<String> {
        if section.name.is_absent() {
            report.push(
                Mistake::new("this key has no `name`")
                    .at(&section.span, "`name` is missing")
                    .help("for example name = \"grafana\"; metrics and logs use it"),
            );
        }
        let name = section.name.given()?;
        if !is_key_name(&name.value) {
            report.push(
                Mistake::new("this is not a valid name of a key")
                    .at(&name.span, "")
                    .help("up to 64 letters, digits, `-`, `_` and `.`"),
            );
            return None;
        }
        if let Some(first) = self.names.insert(name.value.clone(), name.span.clone()) {
            report.push(
                Mistake::new("two keys have the same name")
                    .at(&name.span, "")
                    .at(&first, "first declared here")
                    .help("list both digests in one `sha256`, or rename one key"),
            );
        }
        Some(name.value.clone())
    }

    fn digests(&mut self, section: &KeySection, report: &mut Report) -> Vec<KeyDigest> {
        if section.sha256.is_absent() {
            report.push(
                Mistake::new("this key has no `sha256`")
                    .at(&section.span, "`sha256` is missing")
                    .help(DIGEST_HELP),
            );
        }
        let Some(listed) = section.sha256.given() else {
            return Vec::new();
        };
        if listed.value.is_empty() {
            report.push(
                Mistake::new("`sha256` is empty")
                    .at(&listed.span, "no key would be valid")
                    .help(DIGEST_HELP),
            );
        }
        let digests = listed.value.iter().filter_map(|text| {
            let Some(digest) = parse_digest(&text.value) else {
                report.push(
                    Mistake::new("this is not a SHA-256 digest")
                        .at(&text.span, "expected 64 hexadecimal digits")
                        .help(DIGEST_HELP),
                );
                return None;
            };
            if digest == EMPTY_KEY {
                report.push(
                    Mistake::new("this is the digest of an empty key")
                        .at(&text.span, "anybody has it")
                        .help(DIGEST_HELP),
                );
            } else if let Some(first) = self.digests.insert(digest, text.span.clone()) {
                report.push(
                    Mistake::new("this digest is listed twice")
                        .at(&text.span, "one key cannot have two names")
                        .at(&first, "first listed here"),
                );
            }
            Some(digest)
        });
        digests.collect()
    }
}

fn expires(field: &Field<String>, report: &mut Report) -> Option<SystemTime> {
    let text = field.given()?;
    let time = DateTime::parse_from_rfc3339(&text.value);
    if time.is_err() {
        report.push(
            Mistake::new("`expires` must be a date and time with an offset")
                .at(&text.span, "not a moment")
                .help("for example expires = 2027-03-31T00:00:00Z"),
        );
    }
    time.ok().map(SystemTime::from)
}

/// RFC 6749, 3.3: printable ASCII without spaces, `"` and `\`.
fn scopes(field: &Field<Vec<At<String>>>, report: &mut Report) -> Vec<String> {
    let listed = field.given().map_or(&[][..], |at| &at.value);
    let is_of_scope = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    for scope in listed {
        if scope.value.is_empty() || !scope.value.bytes().all(is_of_scope) {
            report.push(
                Mistake::new("this is not a valid scope")
                    .at(&scope.span, "")
                    .help("a scope is a word of printable ASCII without spaces, `\"` and `\\`"),
            );
        }
    }
    listed.iter().map(|scope| scope.value.clone()).collect()
}

fn networks(key: &str, field: &Field<Vec<At<String>>>, report: &mut Report) -> Vec<IpNet> {
    let Some(listed) = field.given() else {
        return Vec::new();
    };
    if listed.value.is_empty() {
        report.push(
            Mistake::new(format!("`{key}` is empty"))
                .at(&listed.span, "lists no network")
                .help(format!("remove it, or list networks: {NETWORK_HELP}")),
        );
    }
    let networks = listed.value.iter().filter_map(|text| {
        let network = network(&text.value);
        if network.is_none() {
            report.push(
                Mistake::new("this is not a network")
                    .at(
                        &text.span,
                        "expected an IP address, with or without a prefix length",
                    )
                    .help(NETWORK_HELP),
            );
        }
        network
    });
    networks.collect()
}

/// An address stands for itself alone.
fn network(text: &str) -> Option<IpNet> {
    match text.parse::<IpAddr>() {
        Ok(address) => Some(address.into()),
        Err(_) => text.parse::<IpNet>().ok().map(|network| network.trunc()),
    }
}

/// What an endpoint requires. Without `[access]`, every endpoint is public.
pub(super) fn of_endpoint(
    field: &Field<EndpointAccessSection>,
    settings: Option<&At<AccessSettings>>,
    report: &mut Report,
) -> Access {
    let default = match settings.map(|settings| settings.value.default) {
        Some(DefaultAccess::Deny) => Access::Credential(Requirements::default()),
        Some(DefaultAccess::Public) | None => Access::Public,
    };
    let Some(access) = field.given() else {
        return default;
    };
    match &access.value {
        EndpointAccessSection::Word(word) if word == "public" => Access::Public,
        EndpointAccessSection::Word(_) => {
            report.push(
                Mistake::new("`access` must be \"public\" or a table")
                    .at(&access.span, "no such word")
                    .help("for example access = { scopes = [\"sales\"] }"),
            );
            default
        }
        EndpointAccessSection::Table {
            scopes: listed,
            allow_from,
        } => {
            if settings.is_none() {
                report.push(
                    Mistake::new("`access` without [access]")
                        .at(&access.span, "nobody could show a credential")
                        .help("declare [access] with a key first"),
                );
            }
            Access::Credential(Requirements {
                scopes: scopes(listed, report),
                allow_from: networks("allow_from", allow_from, report),
            })
        }
    }
}

/// A claim needs a credential to be in.
pub(super) fn check_claims(
    section: &EndpointSection,
    access: &Access,
    settings: Option<&At<AccessSettings>>,
    report: &mut Report,
) {
    if access.needs_credential() {
        return;
    }
    let help = match settings {
        None => "declare [access] with a key first",
        Some(_) => "set access = { scopes = [] } on this endpoint",
    };
    for claim in section
        .params
        .iter()
        .filter_map(|param| param.claim.given())
    {
        report.push(
            Mistake::new("a claim on an endpoint that anybody may ask")
                .at(&claim.span, "a request without a credential has no claims")
                .help(help),
        );
    }
}
