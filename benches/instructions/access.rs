//! What it costs to judge a credential: the same request to an endpoint that requires one, and to one that does not.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Request;
use hyper::header::{AUTHORIZATION, HOST};
use larder::access::key;
use ring::hmac;

use crate::cost::Cost;
use crate::hits::{Asked, Hit};

/// 32 characters, as `larder key new` makes them.
const KEY: &str = "larder_0123456789abcdefghijklmno";
const SECRET: &str = "an issuer's secret, long enough for SHA-256";

/// How many times the instructions of a public hit each kind may take.
const RATIOS_MAX: [(&str, f64); 2] = [("key", 1.03), ("token", 1.10)];

/// `/count` twice: for everybody, and for clients with a credential.
pub(crate) fn config() -> String {
    let digest = key::hexadecimal(&key::digest(KEY));
    format!(
        r#"
[repository]
url = "${{DATABASE_URL}}"

[defaults]
max_age = "1d"

[access]
default = "deny"

[[access.key]]
name = "grafana"
sha256 = ["{digest}"]
scopes = ["sales"]

[[access.jwt]]
issuer = "https://idp.example/"
audience = ["larder"]
algorithms = ["HS256"]
keys = {{ secret = "{SECRET}" }}
scopes = "scope"

[[endpoint]]
path = "/count"
sql = 'SELECT count(*) FROM "tk-bitio/Sales"."sales_data_sample"'
shape = "tuple"
access = "public"

[[endpoint]]
path = "/inner"
sql = 'SELECT count(*) FROM "tk-bitio/Sales"."sales_data_sample"'
shape = "tuple"
access = {{ scopes = ["sales"] }}
"#
    )
}

/// Each kind of credential, at both endpoints.
pub(crate) fn requests() -> anyhow::Result<Vec<Hit>> {
    let with = |target: &str, credential: &str| {
        let request = Request::get(target).header(HOST, "127.0.0.1:8080");
        let request = request.header(AUTHORIZATION, format!("Bearer {credential}"));
        request.body(String::new())
    };
    let token = token();
    let mut requests = Vec::new();
    for (name, target, credential) in [
        ("public, key", "/count", KEY),
        ("key", "/inner", KEY),
        ("public, token", "/count", &token),
        ("token", "/inner", &token),
    ] {
        let request: Asked = with(target, credential)?;
        requests.push(Hit { name, request });
    }
    Ok(requests)
}

/// As long as one with the signature of RS256 and a few claims: some 800 bytes. It never expires.
fn token() -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = format!(
        r#"{{"iss":"https://idp.example/","aud":"larder","exp":99999999999,"scope":"sales","sub":"{}"}}"#,
        "x".repeat(400)
    );
    let header = r#"{"alg":"HS256","typ":"JWT"}"#;
    let signed = format!("{}.{}", encode(header), encode(&claims));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = hmac::sign(&secret, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// How many times the instructions of a public hit each kind takes. As for metrics, the difference is counted
/// without the wire, whose allocations vary with the lengths of requests, and is set against the whole path.
pub(crate) fn ratios(costs: &[(String, Cost)]) -> Vec<(&'static str, f64, f64)> {
    let of = |name: &str| {
        let found = costs.iter().find(|(it, _)| it == name);
        found.map(|(_, cost)| cost.instructions)
    };
    let ratio = |(name, most)| {
        let public = format!("public, {name}");
        let added = of(name)? - of(&public)?;
        let whole = of(&format!("wire {public}"))?;
        Some((name, 1.0 + added / whole, most))
    };
    RATIOS_MAX.into_iter().filter_map(ratio).collect()
}
