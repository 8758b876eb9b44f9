//! Events as lines: one per change of state, none per request.

use std::io::IsTerminal;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;

use crate::observe::{Event, Fault};
use crate::plan::{EndpointId, Plan};

/// What is said without `RUST_LOG`. The libraries' own lines are for their developers, and
/// tokio-postgres prints bound values at `debug`.
const DEFAULT_FILTER: &str = "warn,larder=info,tokio_cron_scheduler=off";

/// Sends lines to stderr, for people; `filter` has the form of `RUST_LOG`.
pub fn init(filter: Option<&str>) {
    let filter = filter.map_or_else(|| EnvFilter::new(DEFAULT_FILTER), EnvFilter::new);
    // A second call, as from a test that runs two servers, leaves the first in place.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
}

/// Says that the server listens.
pub fn listening(address: std::net::SocketAddr, plan: &Plan) {
    let (version, endpoints) = (env!("CARGO_PKG_VERSION"), plan.endpoints().len());
    let s = if endpoints == 1 { "" } else { "s" };
    let scheme = if plan.server().tls.is_some() {
        "https"
    } else {
        "http"
    };
    tracing::info!("larder {version} serves {endpoints} endpoint{s} on {scheme}://{address}");
}

/// Says that there may be too few file descriptors.
pub fn descriptors_short(limit: u64, needed: u64) {
    tracing::warn!(
        "the system allows {limit} open files, and with max_connections it may take {needed}: raise \
         the limit (ulimit -Hn, LimitNOFILE=), or lower max_connections of [server]"
    );
}

/// Writes an event's line, if it is worth one.
pub fn record(plan: &Arc<Plan>, event: &Event) {
    let path = |id: EndpointId| plan.endpoint(id).path.as_str();
    match event {
        Event::LoadsFailing {
            endpoint,
            fault,
            cause,
        } => {
            let (path, whose) = (path(*endpoint), fault.as_str());
            match fault {
                Fault::Client => tracing::info!("loading {path} fails (fault: {whose}): {cause}"),
                Fault::Repository => {
                    tracing::warn!("loading {path} fails (fault: {whose}): {cause}");
                }
                Fault::Configuration | Fault::Ours => {
                    tracing::error!("loading {path} fails (fault: {whose}): {cause}");
                }
            }
        }
        Event::LoadsRecovered { endpoint } => {
            tracing::info!("loading {} succeeds again", path(*endpoint));
        }
        Event::ProbeFailing {
            probe,
            fault,
            cause,
        } => {
            let sql = plan.probes()[probe.index()].sql.escape_debug();
            let whose = fault.as_str();
            tracing::warn!("the probe `{sql}` fails (fault: {whose}): {cause}");
        }
        Event::ProbeRecovered { probe } => {
            let sql = plan.probes()[probe.index()].sql.escape_debug();
            tracing::info!("the probe `{sql}` succeeds again");
        }
        Event::Listening => tracing::info!("listening for notifications"),
        Event::ListeningFailed { cause } => {
            tracing::warn!("not listening for notifications: {cause}");
        }
        Event::AheadTooSlow {
            endpoint,
            query_time,
            max_age,
        } => {
            tracing::warn!(
                "{}: a query of {query_time:?} is too slow to load answers ahead that are fresh \
                 for {max_age:?}; raise max_age",
                path(*endpoint)
            );
        }
        Event::RepositoryReached => tracing::info!("the repository is reached"),
        Event::RepositoryLost { cause } => tracing::warn!("the repository is lost: {cause}"),
        Event::StatementRedescribed { endpoint } => {
            tracing::warn!(
                "the columns of {} changed; its statement was described again",
                path(*endpoint)
            );
        }
        Event::ReadinessChanged { readiness } => tracing::info!("now {}", readiness.as_str()),
        Event::RepresentationFailed { endpoint, cause } => {
            tracing::error!(
                "an answer of {} can not be had in another form: {cause}",
                path(*endpoint)
            );
        }
        Event::CertificateRenewed => tracing::info!("the certificate was renewed"),
        Event::CertificateRefused { cause } => {
            tracing::error!(
                "the certificate's new files can not be used, the old one stays: {cause}"
            );
        }
        Event::CertificateOutOfDate { cause } => {
            tracing::warn!("no client will take the certificate: {cause}");
        }
        Event::AcceptFailing { cause } => {
            tracing::error!(
                "no client can connect: {cause}; see `ulimit -n` and `max_connections`"
            );
        }
        Event::AcceptRecovered => tracing::info!("clients can connect again"),
        Event::HandlerPanicked => {
            tracing::error!("a request handler panicked; its client got a 500");
        }
        Event::ConnectionRefused => {
            tracing::debug!("a client connection was refused: too many are open");
        }
        Event::RequestServed { .. }
        | Event::QueryFinished { .. }
        | Event::RefreshFinished { .. }
        | Event::ConnectionOpened
        | Event::ConnectionClosed
        | Event::CacheMeasured { .. }
        | Event::EntryEvicted
        | Event::ConnectionsMeasured { .. } => {}
    }
}
