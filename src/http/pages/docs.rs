//! `/docs`: the endpoints, for people. The page reads `/openapi.json`.

use super::assets;
use crate::http::request::RequestHead;
use crate::http::response::Response;

const PAGE: &str = include_str!("docs/docs.html");
const STYLE: &str = include_str!("docs/docs.css");
const SCRIPT: &str = include_str!("docs/docs.js");

/// `/docs`
pub(in crate::http) fn page(request: &RequestHead) -> Response {
    assets::html(request, PAGE)
}

/// `/docs/docs.css`
pub(in crate::http) fn style(request: &RequestHead) -> Response {
    assets::style(request, STYLE)
}

/// `/docs/docs.js`
pub(in crate::http) fn script(request: &RequestHead) -> Response {
    assets::script(request, SCRIPT)
}
