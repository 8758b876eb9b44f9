//! The site map: declared endpoints, which are data, and Larder's own pages.

use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::ArcSwap;
use warp::Filter;
use warp::http::Method;

use super::Site;
use super::authorize::Authorizer;
use super::endpoint::Endpoints;
use super::pages::metrics::Metrics;
use super::pages::openapi::OpenApi;
use super::pages::status::Status;
use super::pages::{docs, health, status};
use super::problem::Problem;
use super::request::percent::ESCAPE_BYTES;
use super::request::{REQUEST, RequestHead};
use super::response::{Reply, Response, options};
use super::validate::host::{self, Exposure};
use crate::observe::Observer;
use crate::plan::{Page, Plan, Route, ServerSettings};

/// The routes that are served. Others can take their place; requests that are running end with theirs.
#[derive(Debug, Clone)]
pub struct Serving {
    routes: Arc<ArcSwap<Routes>>,
    settings: Arc<ServerSettings>,
    observer: Observer,
}

impl Serving {
    /// Serves this site first.
    pub fn new(site: Site) -> Self {
        Self {
            settings: Arc::new(site.plan.server().clone()),
            observer: site.observer.clone(),
            routes: Arc::new(ArcSwap::from_pointee(Routes::new(site))),
        }
    }

    /// Serves another site from now on. Its plan has the same `[server]`.
    pub fn replace(&self, site: Site) {
        self.routes.store(Arc::new(Routes::new(site)));
    }

    pub(super) fn settings(&self) -> &Arc<ServerSettings> {
        &self.settings
    }

    pub(super) fn observer(&self) -> &Observer {
        &self.observer
    }

    /// As a Warp filter. It finds the request in [`REQUEST`].
    pub(super) fn filter(
        &self,
    ) -> impl Filter<Extract = (Reply,), Error = Infallible> + Clone + Send + Sync + use<> {
        let current = Arc::clone(&self.routes);
        warp::any().then(move || {
            let (routes, request) = (current.load_full(), REQUEST.with(Arc::clone));
            async move { routes.reply(&request).await }
        })
    }
}

/// Everything that can be asked for.
#[derive(Debug)]
pub(super) struct Routes {
    plan: Arc<Plan>,
    exposure: Exposure,
    /// The longest path that leads anywhere, escaped as lavishly as it can be.
    longest_path: usize,
    authorizer: Arc<Authorizer>,
    endpoints: Endpoints,
    readiness: health::Readyz,
    metrics: Metrics,
    openapi: OpenApi,
    status: Status,
}

impl Routes {
    fn new(site: Site) -> Self {
        let Site {
            plan,
            read_through,
            metrics,
            status,
            observer,
            identities,
            exposure,
            readiness,
        } = site;
        let pages = Page::ALL.iter().map(|page| page.path().len());
        let longest_page = pages.max().unwrap_or(0) * ESCAPE_BYTES;
        let authorizer = Arc::new(Authorizer::new(&plan, identities.clone()));
        Self {
            exposure,
            longest_path: plan.longest_path().max(longest_page),
            endpoints: Endpoints::new(
                Arc::clone(&plan),
                read_through.clone(),
                Arc::clone(&authorizer),
            ),
            readiness: health::Readyz::new(read_through.clone(), identities, readiness.clone()),
            metrics: Metrics::new(metrics, read_through.clone(), observer),
            openapi: OpenApi::new(Arc::clone(&plan), read_through, readiness),
            status: Status::new(status),
            authorizer,
            plan,
        }
    }

    async fn reply(&self, request: &RequestHead) -> Reply {
        let path = request.path(self.longest_path);
        match path.as_ref().and_then(|path| self.plan.route(path)) {
            Some(Route::Endpoint(routed)) => self.endpoints.reply(request, &routed).await,
            // Boxed, because a hit's future is moved about, and would have room for every page.
            Some(Route::Page(page)) => Reply::own(Box::pin(self.page(page, request)).await),
            // As where an endpoint is: `OPTIONS` would show which paths there are.
            None if request.method == Method::OPTIONS && self.authorizer.hides_paths() => {
                Reply::public(options(), None)
            }
            None => match self.authorizer.admit_to_unknown_path(request).await {
                Ok(_) => Reply::public(Problem::NotFound, None),
                Err(denied) => Reply::public(denied, None),
            },
        }
    }

    async fn page(&self, page: Page, request: &RequestHead) -> Response {
        let (settings, exposure) = (self.plan.server(), self.exposure);
        if !host::may_see_own_pages(settings, exposure, &request.uri, &request.headers) {
            return Problem::Misdirected.into();
        }
        if request.method == Method::OPTIONS {
            return options();
        }
        if !request.is_read() {
            return Problem::MethodNotAllowed.into();
        }
        if let Err(denied) = self.authorizer.admit_to_page(request, page).await {
            return denied.into();
        }
        match page {
            Page::Metrics => self.metrics.response(request).await,
            Page::Healthz => health::healthz(),
            Page::Readyz if self.authorizer.may_observe(request).await => self.readiness.response(),
            Page::Readyz => self.readiness.in_a_word(),
            Page::OpenApi => match self.authorizer.identity(request).await {
                Ok(identity) => self.openapi.response(request, identity.as_deref()).await,
                Err(wrong) => wrong.into(),
            },
            Page::Docs => docs::page(request),
            Page::DocsStyle => docs::style(request),
            Page::DocsScript => docs::script(request),
            Page::Status => status::page(request),
            Page::StatusJson => self.status.now(request).await,
            Page::StatusHistory => self.status.history(request).await,
            Page::StatusStyle => status::style(request),
            Page::StatusScript => status::script(request),
            Page::ChartStyle => status::chart_style(request),
            Page::ChartScript => status::chart_script(request),
        }
    }
}
