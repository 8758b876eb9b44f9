//! The key of a request: what it depends on, and what it does not.

use std::net::Ipv4Addr;
use std::path::Path;

use futures_util::FutureExt;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use warp::http::Request;

use super::*;
use crate::access::{Identities, key};
use crate::config::Config;
use crate::http::request::{AfterResponse, Peer};
use crate::plan::{EndpointId, ParameterType, Route};

/// The names of the claims differ from those of the parameters that they fill.
const ENDPOINTS: &str = r#"
    [[endpoint]]
    path = "/strict/{n}"
    sql = "SELECT :n::int, :q, :tenant, :since::int"
    params.q = { optional = true }
    params.tenant = { claim = "org" }
    params.since = { claim = "year" }

    [[endpoint]]
    path = "/lax/{n}"
    sql = "SELECT :n::int, :q, :tenant, :since::int"
    unknown_params = "ignore"
    params.q = { optional = true }
    params.tenant = { claim = "org" }
    params.since = { claim = "year" }
"#;

const PATHS: [&str; 2] = ["strict", "lax"];
const LAX: usize = 1;

/// What the credentials say. Two of them say the same in other words, and one says too little.
const CLAIMS: [(&str, Option<&str>); 6] = [
    ("acme", Some("2024")),
    ("acme", Some("02024")),
    ("acme", Some("2025")),
    ("acme", None),
    ("umbrella", Some("2024")),
    ("2024", Some("2024")),
];

/// A key for each of [`CLAIMS`], whose text is its number.
fn config() -> String {
    let mut text =
        "repository.url = 'x'\n[access]\ndefault = 'deny'\ntrusted_proxies = ['127.0.0.1']\n"
            .to_owned();
    for (number, (org, year)) in CLAIMS.iter().enumerate() {
        let digest = key::hexadecimal(&key::digest(&number.to_string()));
        let year = year.map_or(String::new(), |year| format!(", year = '{year}'"));
        text.push_str(&format!(
            "[[access.key]]\nname = 'k{number}'\nsha256 = ['{digest}']\nclaims = {{ org = '{org}'{year} }}\n"
        ));
    }
    text + ENDPOINTS
}

struct Server {
    plan: Plan,
    authorizer: Authorizer,
    signatures: Vec<Signature>,
}

impl Server {
    fn new() -> Self {
        let config = Config::parse("config.toml", config(), Path::new(""), &|_| None);
        let plan = Plan::compile(config.unwrap()).unwrap_or_else(|report| panic!("{report}"));
        let signature = |endpoint: &Endpoint| {
            let of = |parameter: &Parameter| match &*parameter.name {
                "n" | "since" => ParameterType::Int4,
                _ => ParameterType::Text,
            };
            let types = endpoint.parameters.iter().map(of).collect();
            Signature::new(endpoint, types).unwrap()
        };
        let identities = Identities::new(plan.access().unwrap()).unwrap();
        let signatures = plan.endpoints().iter().map(signature).collect();
        Self {
            authorizer: Authorizer::new(&plan, Some(Arc::new(identities))),
            signatures,
            plan,
        }
    }

    fn key(&self, asked: &Asked) -> Result<Key, Problem> {
        let (parts, ()) = asked.request().into_parts();
        let peer = Peer::new(Ipv4Addr::LOCALHOST.into());
        let request = RequestHead::new(parts, peer, AfterResponse::KeepAlive);
        let path = request.path(1_000).unwrap();
        let Some(Route::Endpoint(routed)) = self.plan.route(&path) else {
            panic!("{path} is an endpoint");
        };
        let endpoint = self.plan.endpoint(routed.endpoint);
        let admitted = self.authorizer.admit(&request, &endpoint.access);
        let caller = admitted.now_or_never().expect("keys are judged at once")?;
        let signature = &self.signatures[routed.endpoint.number()];
        let arguments = arguments(endpoint, signature, &request, &routed, &caller)?;
        Ok(Key::new(routed.endpoint, arguments))
    }
}

#[derive(Debug, Clone)]
struct Asked {
    endpoint: usize,
    n: &'static str,
    q: Option<&'static str>,
    credential: usize,
    is_bearer: bool,
    /// An attempt to set a claim from the query string.
    smuggled: Option<(&'static str, &'static str)>,
    fields: Vec<(&'static str, &'static str)>,
}

/// Names by which a client may hope to set a claim.
const NAMES: [&str; 6] = ["tenant", "org", "since", "year", "claims.org", "ten%61nt"];
const VALUES: [&str; 3] = ["umbrella", "2025", ""];

fn asked() -> impl Strategy<Value = Asked> {
    let fields = [
        "tenant",
        "org",
        "x-tenant",
        "x-claim-org",
        "cookie",
        "x-forwarded-for",
    ];
    (
        0..PATHS.len(),
        select(vec!["7", "07", "+7", "8", "2024"]),
        option::of(select(vec!["", "acme", "umbrella", "2024"])),
        0..CLAIMS.len(),
        any::<bool>(),
        option::weighted(0.3, (select(NAMES.to_vec()), select(VALUES.to_vec()))),
        proptest::collection::vec((select(fields.to_vec()), select(VALUES.to_vec())), 0..3),
    )
        .prop_map(
            |(endpoint, n, q, credential, is_bearer, smuggled, fields)| Asked {
                endpoint,
                n,
                q,
                credential,
                is_bearer,
                smuggled,
                fields,
            },
        )
}

impl Asked {
    fn request(&self) -> Request<()> {
        let mut pairs: Vec<String> = Vec::new();
        pairs.extend(self.q.map(|q| format!("q={q}")));
        pairs.extend(self.smuggled.map(|(name, value)| format!("{name}={value}")));
        let path = PATHS[self.endpoint];
        let mut request = Request::get(format!("/{path}/{}?{}", self.n, pairs.join("&")));
        for (name, value) in &self.fields {
            request = request.header(*name, *value);
        }
        request = if self.is_bearer {
            request.header("authorization", format!("Bearer {}", self.credential))
        } else {
            request.header("x-api-key", self.credential)
        };
        request.body(()).unwrap()
    }

    /// What the key is to stand for.
    fn meaning(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let number = |text: &str| text.parse::<i32>().unwrap();
        let (org, year) = CLAIMS[self.credential];
        (self.endpoint, number(self.n), self.q, org, year.map(number))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn keys_are_equal_if_endpoint_arguments_and_claims_are(one in asked(), other in asked()) {
        thread_local! {
            static SERVER: Server = Server::new();
        }
        SERVER.with(|server| {
            let keys = [&one, &other].map(|asked| {
                let key = server.key(asked);
                let is_unknown = asked.smuggled.is_some() && asked.endpoint != LAX;
                let is_as_expected = match (&key, CLAIMS[asked.credential]) {
                    (Err(Problem::UnknownParameter(_)), _) => is_unknown,
                    (Err(Problem::UnusableClaim(claim)), (_, None)) => claim == "year" && !is_unknown,
                    (Ok(_), (_, Some(_))) => !is_unknown,
                    _ => false,
                };
                assert!(is_as_expected, "{asked:?}: {key:?}");
                key
            });
            if let [Ok(a), Ok(b)] = &keys {
                assert_eq!(a == b, one.meaning() == other.meaning(), "{one:?} {other:?}");
            }
            // Whatever else is sent: the claims are those of the credential.
            if let [Ok(key), _] = &keys {
                let (org, year) = CLAIMS[one.credential];
                let endpoint = server.plan.endpoint(EndpointId::new(one.endpoint));
                let bound = |name: &str| {
                    let at = endpoint.parameters.iter().position(|p| p.name == name);
                    key.arguments().iter().nth(at.unwrap()).unwrap()
                };
                assert_eq!(bound("tenant"), Some(org));
                assert_eq!(bound("since"), year.map(|year| year.trim_start_matches('0')));
            }
        });
    }
}
