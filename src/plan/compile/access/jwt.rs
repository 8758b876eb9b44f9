//! `[[access.jwt]]`

use std::collections::HashMap;
use std::time::Duration;

use super::super::field;
use super::super::limit::limit;
use crate::config::schema::{JwtKeysSection, JwtSection};
use crate::config::{At, Field, Mistake, Report, Secret, Span, suggest};
use crate::plan::access::{Algorithm, JwksUrl, JwtIssuer, JwtKeys, is_key_name};

/// Clocks that differ by more than this should be set.
const LEEWAY_MAX: Duration = Duration::from_mins(10);
const DEFAULT_LEEWAY: Duration = Duration::from_secs(30);
const DEFAULT_SCOPES: &str = "scope";
const KEYS_HELP: &str = "keys = { url = \"https://…\" } for a published JWK set, { file = \"jwks.json\" } for a \
                         file with one, or { secret = \"${JWT_SECRET}\" } for HS256, HS384 and HS512";
const AUDIENCE_HELP: &str =
    "for example audience = [\"larder\"]; without it, tokens for other services would be accepted";

/// Issuers so far, each of which may occur once.
#[derive(Default)]
pub(super) struct Issuers {
    texts: HashMap<String, Span>,
}

impl Issuers {
    /// `names` are those of other credentials.
    pub(super) fn issuer(
        &mut self,
        section: &JwtSection,
        names: &mut HashMap<String, Span>,
        report: &mut Report,
    ) -> Option<JwtIssuer> {
        let issuer = self.text(section, report);
        let name = name(section, issuer.as_ref(), names, report);
        let audience = audience(section, report);
        let algorithms = algorithms(section, report);
        let keys = keys(section, algorithms.as_ref(), report);
        let leeway = leeway(&section.leeway, report);
        let scopes = field_text("scopes", &section.scopes, report);
        let limit = limit(&section.limit, report);
        Some(JwtIssuer {
            name: name?,
            issuer: issuer?.value,
            audience: audience?,
            algorithms: algorithms?.value,
            keys: keys?,
            leeway: leeway?,
            scopes: scopes.map_or_else(|| DEFAULT_SCOPES.to_owned(), |at| at.value),
            limit,
        })
    }

    fn text(&mut self, section: &JwtSection, report: &mut Report) -> Option<At<String>> {
        let help = "the `iss` of its tokens, for example issuer = \"https://idp.example/\"";
        if section.issuer.is_absent() {
            report.push(missing("issuer", section, help));
        }
        let issuer = field_text("issuer", &section.issuer, report)?;
        if let Some(first) = self.texts.insert(issuer.value.clone(), issuer.span.clone()) {
            report.push(
                Mistake::new("this issuer is declared twice")
                    .at(&issuer.span, "")
                    .at(&first, "first declared here")
                    .help("list both audiences in one `audience`"),
            );
        }
        Some(issuer)
    }
}

fn missing(key: &str, section: &JwtSection, help: &str) -> Mistake {
    Mistake::new(format!("this issuer has no `{key}`"))
        .at(&section.span, format!("`{key}` is missing"))
        .help(help)
}

/// Text that is not empty.
fn field_text(key: &str, field: &Field<String>, report: &mut Report) -> Option<At<String>> {
    let text = field.given()?;
    if text.value.is_empty() {
        report.push(Mistake::new(format!("`{key}` is empty")).at(&text.span, ""));
        return None;
    }
    Some(text.clone())
}

/// The declared name, or one made of the issuer.
fn name(
    section: &JwtSection,
    issuer: Option<&At<String>>,
    names: &mut HashMap<String, Span>,
    report: &mut Report,
) -> Option<String> {
    let name = match (section.name.given(), issuer) {
        (Some(name), _) => name.clone(),
        (None, Some(issuer)) if section.name.is_absent() => {
            At::new(safe_name(&issuer.value), issuer.span.clone())
        }
        (None, _) => return None,
    };
    if !is_key_name(&name.value) {
        report.push(
            Mistake::new("this is not a valid name of an issuer")
                .at(&name.span, "")
                .help("set `name` to up to 64 letters, digits, `-`, `_` and `.`"),
        );
        return None;
    }
    if let Some(first) = names.insert(name.value.clone(), name.span.clone()) {
        report.push(
            Mistake::new(format!("two credentials have the name `{}`", name.value))
                .at(&name.span, "")
                .at(&first, "first declared here")
                .help("give this issuer another `name`; metrics and logs use it"),
        );
    }
    Some(name.value)
}

/// `idp.example-realms-a` for `https://idp.example/realms/a`.
fn safe_name(issuer: &str) -> String {
    let rest = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let safe = rest.chars().map(|c| if is_safe(c) { c } else { '-' });
    let name: String = safe.take(64).collect();
    name.trim_matches('-').to_owned()
}

fn audience(section: &JwtSection, report: &mut Report) -> Option<Vec<String>> {
    if section.audience.is_absent() {
        report.push(missing("audience", section, AUDIENCE_HELP));
    }
    let listed = section.audience.given()?;
    let empty = listed.value.iter().find(|text| text.value.is_empty());
    let empty = empty.map(|text| &text.span);
    if let Some(place) = empty.or_else(|| listed.value.is_empty().then_some(&listed.span)) {
        let mistake = Mistake::new("`audience` is empty");
        report.push(mistake.at(place, "").help(AUDIENCE_HELP));
        return None;
    }
    Some(listed.value.iter().map(|at| at.value.clone()).collect())
}

/// All with a secret, or all with a private key: with both, a token could be signed with the text of a public
/// key as its secret.
fn algorithms(section: &JwtSection, report: &mut Report) -> Option<At<Vec<Algorithm>>> {
    let help = "for example algorithms = [\"RS256\"]: what the issuer signs with, and nothing else";
    if section.algorithms.is_absent() {
        report.push(missing("algorithms", section, help));
    }
    let listed = section.algorithms.given()?;
    if listed.value.is_empty() {
        let mistake = Mistake::new("`algorithms` is empty");
        report.push(
            mistake
                .at(&listed.span, "no token would be accepted")
                .help(help),
        );
        return None;
    }
    let known = listed.value.iter().map(|name| algorithm(name, report));
    let algorithms: Vec<_> = known.collect::<Vec<_>>().into_iter().flatten().collect();
    if algorithms.len() < listed.value.len() {
        return None;
    }
    let with_secret = |algorithm: &&Algorithm| algorithm.secret_bytes_min().is_some();
    if ![0, algorithms.len()].contains(&algorithms.iter().filter(with_secret).count()) {
        report.push(
            Mistake::new("algorithms with a secret next to algorithms with a private key")
                .at(&listed.span, "a public key could be used as a secret")
                .help("list HS256, HS384 and HS512 alone, or not at all"),
        );
        return None;
    }
    Some(At::new(algorithms, listed.span.clone()))
}

fn algorithm(name: &At<String>, report: &mut Report) -> Option<Algorithm> {
    let found = Algorithm::named(&name.value);
    if found.is_some() {
        return found;
    }
    let names = || Algorithm::ALL.into_iter().map(Algorithm::as_str);
    let mistake = match name.value.as_str() {
        none if none.eq_ignore_ascii_case("none") => Mistake::new("`none` is not an algorithm")
            .at(&name.span, "anybody could make such tokens"),
        "ES512" | "ES256K" | "Ed448" => Mistake::new(format!("`{}` is not supported", name.value))
            .at(&name.span, "")
            .help(format!("supported are {}", suggest::list(names()))),
        other => {
            let mistake = Mistake::new("this algorithm is unknown").at(&name.span, "");
            mistake.help(match suggest::nearest(other, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("supported are {}", suggest::list(names())),
            })
        }
    };
    report.push(mistake);
    None
}

fn keys(
    section: &JwtSection,
    algorithms: Option<&At<Vec<Algorithm>>>,
    report: &mut Report,
) -> Option<JwtKeys> {
    if section.keys.is_absent() {
        report.push(missing("keys", section, KEYS_HELP));
    }
    let keys = section.keys.given()?;
    let JwtKeysSection {
        url,
        file,
        secret,
        is_wrong,
    } = &keys.value;
    let absent = [url.is_absent(), file.is_absent(), secret.is_absent()];
    let present = absent.into_iter().filter(|is_absent| !is_absent).count();
    if present != 1 {
        if present > 1 || !is_wrong {
            let mistake = Mistake::new("`keys` must have one of `url`, `file` and `secret`");
            report.push(mistake.at(&keys.span, "").help(KEYS_HELP));
        }
        return None;
    }
    // Each list has algorithms of one kind.
    let needed = algorithms.map(|listed| {
        let needed = listed.value.iter().map(|it| it.secret_bytes_min());
        needed.max().flatten()
    });
    let place = &keys.span;
    match (needed, secret.given()) {
        (Some(None), Some(_)) => {
            report.push(
                Mistake::new("a secret for algorithms with a private key")
                    .at(place, "`url` or `file` is needed")
                    .help(KEYS_HELP),
            );
            return None;
        }
        (Some(Some(_)), None) if secret.is_absent() => {
            report.push(
                Mistake::new("public keys for algorithms with a secret")
                    .at(place, "`secret` is needed")
                    .help(KEYS_HELP),
            );
            return None;
        }
        _ => {}
    }
    if let Some(url) = url.given() {
        return self::url(url, report).map(JwtKeys::Url);
    }
    if let Some(secret) = secret.given() {
        return self::secret(secret, needed.flatten(), report).map(JwtKeys::Secret);
    }
    file.given().map(|file| JwtKeys::File(file.clone()))
}

fn url(text: &At<String>, report: &mut Report) -> Option<JwksUrl> {
    let url = JwksUrl::parse(&text.value);
    if let Err(why) = &url {
        report.push(
            Mistake::new("the keys cannot be fetched from this `url`")
                .at(&text.span, *why)
                .help(
                    "for example \"https://idp.example/jwks.json\", or \"http://localhost:8081/jwks.json\" on \
                     this machine; an issuer names it as `jwks_uri` in /.well-known/openid-configuration",
                ),
        );
    }
    url.ok()
}

fn secret(secret: &At<Secret>, needed: Option<usize>, report: &mut Report) -> Option<Secret> {
    let length = secret.value.expose().len();
    let label = match needed {
        _ if length == 0 => "anybody knows it".to_owned(),
        Some(needed) if length < needed => {
            format!("{length} bytes; the algorithms need at least {needed}")
        }
        Some(_) | None => return Some(secret.value.clone()),
    };
    let mistake = if length == 0 {
        Mistake::new("the secret is empty")
    } else {
        Mistake::new("the secret is shorter than the hash it is used with")
    };
    report.push(
        mistake
            .at(&secret.span, label)
            .help("`openssl rand -base64 64` prints a good one"),
    );
    None
}

fn leeway(field: &Field<String>, report: &mut Report) -> Option<Duration> {
    if field.is_absent() {
        return Some(DEFAULT_LEEWAY);
    }
    let leeway = field::duration("leeway", field, Duration::ZERO, report)?;
    if leeway.value > LEEWAY_MAX {
        report.push(
            Mistake::new("`leeway` is too long")
                .at(&leeway.span, "at most 10m")
                .help("expired tokens are accepted for this long; set the clocks instead"),
        );
        return None;
    }
    Some(leeway.value)
}
