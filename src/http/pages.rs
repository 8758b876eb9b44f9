//! Larder's own pages.

pub(super) mod assets; // files that are part of the program
pub(super) mod docs; // `/docs`
pub(super) mod health; // `/healthz`, `/readyz`
mod memo; // values that are made once for all concurrent requests
pub(super) mod metrics; // `/metrics`
pub(super) mod openapi; // `/openapi.json`
mod rendered; // a page as it was made at some moment, in each coding
pub(super) mod status; // `/status`, `/status.json`, `/status/history.json`
