//! `/openapi.json`: the endpoints, for programs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::time::Instant;

use super::assets;
use super::memo::Memo;
use crate::access::Identity;
use crate::cache::Answer;
use crate::encode::Body;
use crate::http::authorize;
use crate::http::limits::RETRY_AFTER;
use crate::http::problem::Problem;
use crate::http::request::RequestHead;
use crate::http::response::{Response, headers};
use crate::mutex::lock;
use crate::observe::Readiness;
use crate::openapi::{self, Json};
use crate::plan::{CacheControl, Endpoint, PerEndpoint, Plan};
use crate::read_through::ReadThrough;
use crate::repository::Description;

/// The size in bytes up to which an answer is shown in the document as an example.
const EXAMPLE_MAX: usize = 64 * 1024;

/// `/openapi.json`
#[derive(Debug)]
pub(in crate::http) struct OpenApi {
    source: Arc<Source>,
    /// The documents by which endpoints they show, in the order of the plan.
    documents: Mutex<HashMap<Vec<bool>, Arc<Memo<Document>>>>,
}

/// The most documents kept at a time: there is one for each set of scopes, and one for callers without a
/// credential.
const DOCUMENTS_MAX: usize = 64;

/// What the document is made from.
#[derive(Debug)]
struct Source {
    plan: Arc<Plan>,
    read_through: ReadThrough,
    readiness: watch::Receiver<Readiness>,
}

/// The document as it was at a moment.
#[derive(Debug)]
struct Document {
    at: Instant,
    descriptions: PerEndpoint<Arc<Description>>,
    /// While Larder warms up, examples are still missing.
    is_complete: bool,
    body: Body,
}

impl OpenApi {
    pub(in crate::http) fn new(
        plan: Arc<Plan>,
        read_through: ReadThrough,
        readiness: watch::Receiver<Readiness>,
    ) -> Self {
        Self {
            source: Arc::new(Source {
                plan,
                read_through,
                readiness,
            }),
            documents: Mutex::default(),
        }
    }

    /// The endpoints that the caller may use.
    pub(in crate::http) async fn response(
        &self,
        request: &RequestHead,
        identity: Option<&Identity>,
    ) -> Response {
        let Some(descriptions) = self.source.descriptions() else {
            return Problem::Warming(RETRY_AFTER).into();
        };
        let is_current = |document: &Document| {
            let is_same = |(a, b): (&Arc<Description>, &Arc<Description>)| Arc::ptr_eq(a, b);
            let is_due = !document.is_complete && document.at.elapsed() >= RETRY_AFTER;
            !is_due
                && document
                    .descriptions
                    .iter()
                    .zip(descriptions.iter())
                    .all(is_same)
        };
        let endpoints = self.source.plan.endpoints().iter();
        let visible: Vec<bool> = endpoints
            .map(|endpoint| authorize::may_use(identity, &endpoint.access))
            .collect();
        let memo = self.memo(&visible);
        let source = Arc::clone(&self.source);
        match memo
            .get(is_current, move || source.document(&visible))
            .await
        {
            Some(document) => {
                let mut response = assets::revalidated(request, "application/json", &document.body);
                if self.source.plan.access().is_some() {
                    headers::add_to_callers_own(response.headers_mut());
                }
                response
            }
            None => Problem::Internal.into(),
        }
    }

    fn memo(&self, visible: &[bool]) -> Arc<Memo<Document>> {
        let mut documents = lock(&self.documents);
        if let Some(memo) = documents.get(visible) {
            return Arc::clone(memo);
        }
        if documents.len() >= DOCUMENTS_MAX {
            documents.clear();
        }
        Arc::clone(documents.entry(visible.to_vec()).or_default())
    }
}

impl Source {
    /// The description of every endpoint, once there are all.
    fn descriptions(&self) -> Option<PerEndpoint<Arc<Description>>> {
        let description =
            |endpoint: &Endpoint| self.read_through.inspect().description(endpoint.id);
        self.plan.per_endpoint(description).into_complete()
    }

    fn document(&self, visible: &[bool]) -> Option<Document> {
        let is_complete = *self.readiness.borrow() == Readiness::Ready;
        let descriptions = self.descriptions()?;
        let of = |endpoint: &Endpoint| &descriptions[endpoint.id];
        let example = |endpoint: &Endpoint| self.example(endpoint);
        let mut visible = visible.iter();
        let visible = self.plan.per_endpoint(|_| visible.next() == Some(&true));
        let is_visible = |endpoint: &Endpoint| visible[endpoint.id];
        let kinds = Problem::kinds();
        let document = openapi::document(&self.plan, is_visible, of, &kinds, example, None);
        let body = Body::new(document.as_str().into());
        Some(Document {
            at: Instant::now(),
            descriptions,
            is_complete,
            body,
        })
    }

    /// An answer that anyone may see, if there is one in the cache.
    fn example(&self, endpoint: &Endpoint) -> Option<Json> {
        if endpoint.cache_control != CacheControl::Public {
            return None;
        }
        let entry = self.read_through.inspect().example(endpoint.id)?;
        let Answer::Document(document) = entry.answer() else {
            return None;
        };
        let json = document.json().bytes();
        (json.len() <= EXAMPLE_MAX).then(|| Json::of(std::str::from_utf8(json).ok()?))?
    }
}
