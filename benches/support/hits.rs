//! Requests that the cache answers, one for each kind that differs in cost.

use std::convert::Infallible;

use anyhow::{Context, ensure};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ETAG, HOST, IF_NONE_MATCH, REFERER, USER_AGENT,
};
use hyper::service::Service;
use hyper::{Request, Response};

/// A request without a body, which can be cloned.
pub(crate) type Asked = Request<String>;

/// The headers of a browser whose page polls.
const BROWSER: [(hyper::header::HeaderName, &str); 5] = [
    (
        USER_AGENT,
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    ),
    (ACCEPT, "application/json"),
    (ACCEPT_LANGUAGE, "en-GB,en;q=0.7,de;q=0.3"),
    (ACCEPT_ENCODING, "gzip, deflate, br, zstd"),
    (REFERER, "https://dashboard.example/sales"),
];

/// A kind of hit, with its name in reports.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) name: &'static str,
    pub(crate) request: Asked,
}

/// Every kind. When this returns, their answers are loaded.
pub(crate) async fn hits<S, B>(service: &S) -> anyhow::Result<Vec<Hit>>
where
    S: Service<Asked, Response = Response<B>, Error = Infallible>,
{
    let plain = |target: &str| Request::get(target).header(HOST, "127.0.0.1:8080");
    let browser = |target: &str| {
        BROWSER
            .into_iter()
            .fold(plain(target), |request, (name, value)| {
                request.header(name, value)
            })
    };
    let arguments = "/sales/Japan?year=2004&limit=20";
    let tag = ask(service, browser(arguments).body(String::new())?, 200).await?;
    let tag = tag.headers().get(ETAG).context("an answer has an ETag")?;
    let kinds = [
        ("resident", plain("/count"), 200),
        ("keyed", plain("/sales/Japan"), 200),
        ("arguments", plain(arguments), 200),
        ("browser", browser(arguments), 200),
        (
            "unchanged",
            browser(arguments).header(IF_NONE_MATCH, tag),
            304,
        ),
    ];
    let mut hits = Vec::new();
    for (name, request, status) in kinds {
        let request = request.body(String::new())?;
        ask(service, request.clone(), status).await?;
        let again = ask(service, request.clone(), status).await?;
        let found = again
            .headers()
            .get("cache-status")
            .context("an answer has Cache-Status")?;
        ensure!(
            found.as_bytes().starts_with(b"larder; hit; ttl="),
            "{name} is not a hit: {found:?}"
        );
        hits.push(Hit { name, request });
    }
    Ok(hits)
}

async fn ask<S, B>(service: &S, request: Asked, status: u16) -> anyhow::Result<Response<B>>
where
    S: Service<Asked, Response = Response<B>, Error = Infallible>,
{
    let target = request.uri().clone();
    let Ok(response) = service.call(request).await;
    ensure!(
        response.status() == status,
        "{target} returned {}, not {status}",
        response.status()
    );
    Ok(response)
}
