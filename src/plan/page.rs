//! Larder's own pages, each with its path. Paths are reserved by being listed here.

/// Declares the pages from one list, so that each has a path and none is missing from [`Page::ALL`].
macro_rules! pages {
    ($($page:ident = $path:literal,)*) => {
        /// One of Larder's own pages. No endpoint can be declared at the path of one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Page {
            $(#[doc = concat!("`", $path, "`")] $page,)*
        }

        impl Page {
            /// Every page.
            pub const ALL: &[Self] = &[$(Self::$page,)*];

            /// Where it is.
            pub fn path(self) -> &'static str {
                match self {
                    $(Self::$page => $path,)*
                }
            }
        }
    };
}

pages! {
    Metrics = "/metrics",
    Healthz = "/healthz",
    Readyz = "/readyz",
    OpenApi = "/openapi.json",
    Docs = "/docs",
    DocsStyle = "/docs/docs.css",
    DocsScript = "/docs/docs.js",
    Status = "/status",
    StatusJson = "/status.json",
    StatusHistory = "/status/history.json",
    StatusStyle = "/status/status.css",
    StatusScript = "/status/status.js",
    ChartStyle = "/status/uplot.css",
    ChartScript = "/status/uplot.js",
}

impl Page {
    /// Whether a path is that of a page.
    pub(super) fn is_at(path: &str) -> bool {
        Self::ALL.iter().any(|page| page.path() == path)
    }
}
