//! A cache in front, and many callers in random order: nobody gets bytes that were made for somebody else.

use std::collections::HashMap;
use std::io::Read;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::declared;
use crate::support::app::App;
use crate::support::front::{Cache, Front};
use crate::support::http::{Answer, Connection};
use crate::support::postgres::Postgres;

/// Pairs of callers, 10,000 in all. Each asks for the same, one right after the other.
const PAIRS: usize = 4_000;
const PAIRS_OF_PRIVATE: usize = 2_000;

/// Clients that ask at the same time, each for paths of its own: nginx, with `proxy_cache_lock`, has all but one
/// request for a path wait, and looks twice a second whether they may go on.
const CLIENTS: usize = 8;

/// The body names whom it was made for, and is large enough to be compressed.
const ENDPOINTS: &str = r#"
    [defaults]
    max_age = "1h"
    max_keys = 10_000

    [[endpoint]]
    path = "/public"
    sql = "SELECT 'made for everybody;' AS made_for, repeat('x', 2000) AS filler, :n::int AS n"
    params.n = {}
    access = "public"

    [[endpoint]]
    path = "/closed"
    sql = "SELECT 'made for members;' AS made_for, repeat('x', 2000) AS filler, :n::int AS n"
    params.n = {}

    [[endpoint]]
    path = "/sales"
    sql = "SELECT 'made for sales;' AS made_for, repeat('x', 2000) AS filler, :n::int AS n"
    params.n = {}
    access = { scopes = ["sales"] }

    [[endpoint]]
    path = "/mine"
    sql = "SELECT 'made for ' || :tenant::text || ';' AS made_for, repeat(:tenant, 300) AS filler, :n::int AS n"
    params.n = {}
    params.tenant = { claim = "tenant" }

    [[endpoint]]
    path = "/mine/sales"
    sql = "SELECT 'made for ' || :tenant::text || ';' AS made_for, repeat(:tenant, 300) AS filler, :n::int AS n"
    params.n = {}
    params.tenant = { claim = "tenant" }
    access = { scopes = ["sales"] }
"#;

const PATHS: [&str; 5] = ["/public", "/closed", "/sales", "/mine", "/mine/sales"];

const ACCEPT: [&str; 3] = ["*/*", "application/json", "text/csv"];
const CODINGS: [&str; 3] = ["identity", "gzip", "br"];

/// A caller, by what it presents.
#[derive(Debug)]
struct Caller {
    /// The names of keys, the text of each being the name and `-key`.
    keys: &'static [&'static str],
    /// What declares the key; none is declared without it.
    settings: Option<&'static str>,
    is_valid: bool,
    has_scope: bool,
    tenant: Option<&'static str>,
}

impl Caller {
    const NOBODY: Self = Self {
        keys: &[],
        settings: None,
        is_valid: false,
        has_scope: false,
        tenant: None,
    };

    const ALL: [Self; 8] = [
        Self::NOBODY,
        Self {
            keys: &["unknown"],
            ..Self::NOBODY
        },
        Self {
            keys: &["expired"],
            settings: Some(
                "expires = 2020-01-01T00:00:00Z\nscopes = [\"sales\"]\nclaims = { tenant = \"acme\" }",
            ),
            ..Self::NOBODY
        },
        Self {
            keys: &["acme", "umbrella"],
            ..Self::NOBODY
        },
        Self {
            keys: &["acme"],
            settings: Some("scopes = [\"sales\"]\nclaims = { tenant = \"acme\" }"),
            is_valid: true,
            has_scope: true,
            tenant: Some("acme"),
        },
        Self {
            keys: &["umbrella"],
            settings: Some("scopes = [\"sales\"]\nclaims = { tenant = \"umbrella\" }"),
            is_valid: true,
            has_scope: true,
            tenant: Some("umbrella"),
        },
        // The same tenant, with another scope.
        Self {
            keys: &["acme-stock"],
            settings: Some("scopes = [\"stock\"]\nclaims = { tenant = \"acme\" }"),
            is_valid: true,
            has_scope: false,
            tenant: Some("acme"),
        },
        Self {
            keys: &["auditor"],
            settings: Some("scopes = [\"sales\", \"stock\"]"),
            is_valid: true,
            has_scope: true,
            tenant: None,
        },
    ];

    /// Whom the answer at a path is to be made for, or the status of the refusal.
    fn expected(&self, path: &str) -> Result<&'static str, u16> {
        match (path, self.keys) {
            ("/public", _) => return Ok("everybody"),
            (_, [_, _]) => return Err(400),
            _ if !self.is_valid => return Err(401),
            _ => {}
        }
        if path.ends_with("/sales") && !self.has_scope {
            return Err(403);
        }
        match path {
            "/closed" => Ok("members"),
            "/sales" => Ok("sales"),
            _ => self.tenant.ok_or(403),
        }
    }

    /// The fields with its credentials, each in either place.
    fn fields(&self, random: &mut fastrand::Rng) -> Vec<(&'static str, String)> {
        let mut in_authorization = random.bool();
        let mut fields = Vec::new();
        for key in self.keys {
            fields.push(if in_authorization {
                let scheme = random.choice(["Bearer", "bearer"]).unwrap();
                ("Authorization", format!("{scheme} {key}-key"))
            } else {
                ("X-API-Key", format!("{key}-key"))
            });
            in_authorization = !in_authorization;
        }
        fields
    }
}

/// What is in front of Larder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// A cache that many share.
    Shared(Cache),
    /// A cache that stores private answers as well, and is used by one caller after the other, as a browser is.
    Private,
}

#[derive(Debug, Default)]
struct Seen {
    pairs: AtomicUsize,
    /// Answers from the cache in front that everybody may have, and others.
    public_hits: AtomicUsize,
    private_hits: AtomicUsize,
    not_modified: AtomicUsize,
}

/// One of the clients: a connection, and what it has seen.
struct Client {
    before: Before,
    number: usize,
    connection: Connection,
    random: fastrand::Rng,
    /// Whom each answer was made for, by its tag.
    tags: HashMap<String, String>,
    seen: Arc<Seen>,
}

/// A request without its credential and its condition.
#[derive(Debug, Clone)]
struct Asked {
    path: &'static str,
    target: String,
    accept: &'static str,
    coding: &'static str,
}

impl Client {
    /// Has Larder itself answer everything that this client may ask for, for the tags.
    async fn learn(&mut self, larder: SocketAddr) {
        let mut connection = Connection::open(larder).await;
        let numbers = self.numbers();
        for (path, n) in PATHS
            .iter()
            .flat_map(|path| numbers.clone().map(move |n| (path, n)))
        {
            for (accept, coding) in ACCEPT.iter().flat_map(|a| CODINGS.map(|c| (a, c))) {
                for tenant in ["acme", "umbrella"] {
                    let fields = [
                        ("X-API-Key", &*format!("{tenant}-key")),
                        ("Accept", accept),
                        ("Accept-Encoding", coding),
                    ];
                    let target = format!("{path}?n={n}");
                    let answer = connection.request("GET", &target, &fields).await;
                    let [made_for] = &*made_for_in(&answer) else {
                        panic!("{answer:?}");
                    };
                    let tag = answer.header("etag").unwrap();
                    self.tags.insert(tag.to_owned(), made_for.clone());
                }
            }
        }
    }

    fn numbers(&self) -> Range<usize> {
        2 * self.number..2 * self.number + 2
    }

    fn choose(&mut self) -> Asked {
        let path = *self.random.choice(&PATHS).unwrap();
        let suffix = self.random.choice(["", "", ".csv"]).unwrap();
        let n = self.random.usize(self.numbers());
        Asked {
            path,
            target: format!("{path}{suffix}?n={n}"),
            accept: self.random.choice(ACCEPT).unwrap(),
            coding: self.random.choice(CODINGS).unwrap(),
        }
    }

    /// Asks as a caller, with a condition, and checks the answer. Returns its tag.
    async fn ask(
        &mut self,
        caller: &Caller,
        asked: &Asked,
        condition: Option<(&'static str, String)>,
    ) -> Option<String> {
        let method = *self.random.choice(&["GET", "GET", "HEAD"]).unwrap();
        let mut fields = caller.fields(&mut self.random);
        fields.push(("Accept", asked.accept.to_owned()));
        fields.push(("Accept-Encoding", asked.coding.to_owned()));
        fields.extend(condition.clone());
        let sent: Vec<_> = fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = self.connection.request(method, &asked.target, &sent).await;
        let expected = caller.expected(asked.path);
        let context = format!(
            "{:?}: {method} {} with {fields:?} should be {expected:?}: {} {:?}",
            self.before, asked.target, answer.status, answer.headers
        );
        let is_hit = answer.header("x-cache") == Some("HIT");
        let tag = answer.header("etag").map(str::to_owned);
        let made_for = match expected {
            Ok(made_for) => made_for,
            Err(status) => {
                assert_eq!(answer.status, status, "{context}");
                assert!(!is_hit && tag.is_none(), "{context}");
                assert!(
                    !answer.body.windows(8).any(|part| part == b"made for"),
                    "{context}"
                );
                return None;
            }
        };
        let tag = tag.unwrap_or_else(|| panic!("{context}"));
        // The tag is a digest of the bytes, so that of a HEAD and of a 304 says whose they are.
        let made = self.tags.get(&tag).map(String::as_str);
        assert_eq!(made, Some(made_for), "{context}");
        match answer.status {
            200 if method == "GET" => assert_eq!(made_for_in(&answer), [made_for], "{context}"),
            200 => {}
            304 => {
                let (name, value) = condition.unwrap_or_else(|| panic!("{context}"));
                let is_own = name == "If-Modified-Since"
                    || value == "*"
                    || self.tags.get(&value).map(String::as_str) == Some(made_for);
                assert!(is_own, "{context}");
                self.seen.not_modified.fetch_add(1, Ordering::Relaxed);
            }
            _ => panic!("{context}"),
        }
        let hits = if asked.path == "/public" {
            &self.seen.public_hits
        } else {
            let cache_control = answer.header("cache-control").unwrap();
            assert!(cache_control.starts_with("private, "), "{context}");
            assert!(!is_hit || self.before == Before::Private, "{context}");
            &self.seen.private_hits
        };
        hits.fetch_add(usize::from(is_hit), Ordering::Relaxed);
        Some(tag)
    }

    fn condition(&mut self, tag: Option<String>) -> Option<(&'static str, String)> {
        match self.random.u8(..8) {
            0..3 => tag.map(|tag| ("If-None-Match", tag)),
            3 => Some(("If-None-Match", "*".to_owned())),
            4 => Some((
                "If-Modified-Since",
                "Fri, 01 Jan 2100 00:00:00 GMT".to_owned(),
            )),
            _ => None,
        }
    }

    async fn run(mut self) {
        let pairs = match self.before {
            Before::Shared(_) => PAIRS,
            Before::Private => PAIRS_OF_PRIVATE,
        };
        while self.seen.pairs.fetch_add(1, Ordering::Relaxed) < pairs {
            let asked = self.choose();
            let [one, other] = [(); 2].map(|()| self.random.choice(&Caller::ALL).unwrap());
            let tag = self.ask(one, &asked, None).await;
            let condition = self.condition(tag);
            self.ask(other, &asked, condition).await;
        }
    }
}

/// Whom an answer says that it was made for.
fn made_for_in(answer: &Answer) -> Vec<String> {
    let mut text = Vec::new();
    match answer.header("content-encoding") {
        None => text.clone_from(&answer.body),
        Some("gzip") => {
            let mut decoder = flate2::read::GzDecoder::new(&*answer.body);
            decoder.read_to_end(&mut text).unwrap();
        }
        Some("br") => brotli::BrotliDecompress(&mut &*answer.body, &mut text).unwrap(),
        Some(other) => panic!("{other} was not requested"),
    }
    let text = String::from_utf8(text).unwrap();
    let parts = text.split("made for ").skip(1);
    parts
        .map(|part| part.split(';').next().unwrap().to_owned())
        .collect()
}

async fn nobody_gets_what_was_made_for_another(before: Before) {
    let db = Postgres::with("").await;
    let keys: String = Caller::ALL
        .iter()
        .filter_map(|caller| Some(declared(caller.keys.first()?, caller.settings?)))
        .collect();
    let endpoints = format!("[access]\ndefault = \"deny\"\n{keys}\n{ENDPOINTS}");
    // All clients begin with many loads at once.
    let app = App::launch(db.url(), "max_loads_per_second = 100_000", &endpoints).await;
    app.wait_until_ready().await;
    let front = match before {
        Before::Shared(cache) => Front::of(cache, app.address()).await,
        Before::Private => Front::private(app.address()).await,
    };
    let seen = Arc::<Seen>::default();
    let clients = (0..CLIENTS).map(|number| {
        let (larder, front, seen) = (app.address(), front.address, Arc::clone(&seen));
        tokio::spawn(async move {
            let mut client = Client {
                before,
                number,
                connection: Connection::open(front).await,
                random: fastrand::Rng::with_seed(number as u64),
                tags: HashMap::new(),
                seen,
            };
            client.learn(larder).await;
            client.run().await;
        })
    });
    for ended in join_all(clients).await {
        ended.unwrap();
    }
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    assert!(
        count(&seen.public_hits) > 0,
        "{before:?} is a cache: {seen:?}"
    );
    assert_eq!(
        count(&seen.private_hits) > 0,
        before == Before::Private,
        "{before:?}: {seen:?}"
    );
    assert!(count(&seen.not_modified) > 0, "{before:?}: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_nginx_nobody_gets_what_was_made_for_another() {
    nobody_gets_what_was_made_for_another(Before::Shared(Cache::Nginx)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_varnish_nobody_gets_what_was_made_for_another() {
    nobody_gets_what_was_made_for_another(Before::Shared(Cache::Varnish)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_private_cache_the_next_caller_does_not_get_what_was_made_for_the_last() {
    nobody_gets_what_was_made_for_another(Before::Private).await;
}
