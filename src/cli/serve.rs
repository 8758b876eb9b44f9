//! `larder serve`.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, lookup_host};

use super::reload::Files;
use super::{Failure, Stop, reload, stop_on_signals};
use crate::app::{self, App, BuildError, RunError};
use crate::log;
use crate::plan::{Listen, Plan};

pub(super) async fn serve(config: &Path, watch: bool) -> Result<(), Failure> {
    let files = Files::new(config);
    let plan = Arc::new(files.read()?);
    let stop = stop_on_signals()?;
    let listener = bind(&plan.server().listen, "`listen` under [server]").await?;
    let mut app = build(&plan)?;
    let read = files.clone();
    let reloader = app.reloader(Arc::new(move || read.read()));
    reload::on_hangup(reloader.clone(), stop.clone())?;
    if watch {
        reload::on_change(reloader, files);
    }
    run(app, plan, listener, stop).await
}

/// Listens on the first address that this machine has; `instead` names the setting that chooses another.
pub(super) async fn bind(listen: &Listen, instead: &str) -> anyhow::Result<TcpListener> {
    let error = match addresses(listen).await {
        Ok(addresses) => match bind_first(&addresses).await {
            Ok(listener) => return Ok(listener),
            Err(error) => error,
        },
        Err(error) => error,
    };
    let advice = if error.kind() == ErrorKind::AddrInUse {
        format!("; stop the process that listens there, or choose another address with {instead}")
    } else {
        format!("; choose another address with {instead}")
    };
    Err(anyhow::anyhow!(
        "cannot listen on {listen}: {error}{advice}"
    ))
}

/// The addresses to try. IPv4 comes first if a name has both: that is what most clients mean by `localhost`.
async fn addresses(listen: &Listen) -> io::Result<Vec<SocketAddr>> {
    Ok(match listen {
        Listen::Address(address) => vec![*address],
        // The IPv6 wildcard accepts IPv4 too, but does not exist where IPv6 is disabled.
        Listen::Everywhere(port) => vec![
            (Ipv6Addr::UNSPECIFIED, *port).into(),
            (Ipv4Addr::UNSPECIFIED, *port).into(),
        ],
        Listen::Name(name, port) => {
            let found = lookup_host((name.as_str(), *port)).await?;
            let mut addresses: Vec<SocketAddr> = found.collect();
            addresses.sort_by_key(SocketAddr::is_ipv6);
            addresses
        }
    })
}

async fn bind_first(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let mut failure = io::Error::other("the name has no address");
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            // On another address, some clients would reach the other server.
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Everything that a plan needs, not running yet.
pub(super) fn build(plan: &Arc<Plan>) -> Result<App, Failure> {
    App::build(Arc::clone(plan), Vec::new()).map_err(|error| match error {
        BuildError::Tls(error) => app::unusable_file(plan, &error.into()).into(),
        BuildError::Issuer(error) => app::unusable_file(plan, &error.into()).into(),
        BuildError::Repository(error) => Failure::Other(error.into()),
    })
}

/// Serves until a signal ends it.
pub(super) async fn run(
    app: App,
    plan: Arc<Plan>,
    listener: TcpListener,
    stop: Stop,
) -> Result<(), Failure> {
    raise_file_limit(&plan);
    app.warnings()
        .iter()
        .for_each(|sentence| log::warning(sentence));
    log::listening(listener.local_addr().map_err(anyhow::Error::from)?, &plan);
    // The future holds the whole server.
    let running = Box::pin(app.run(listener, stop.graceful));
    let Some(ended) = stop.at_once.run_until_cancelled(running).await else {
        return Err(anyhow::anyhow!("stopped at once by a second signal").into());
    };
    match ended {
        Ok(true) => Ok(()),
        Ok(false) => Err(anyhow::anyhow!(
            "not every request finished within shutdown_timeout ({:?})",
            plan.server().shutdown_timeout
        )
        .into()),
        Err(RunError::Rejected(rejections)) => match app::rejected(&plan, rejections) {
            Ok(mistakes) => Err(mistakes.into()),
            Err(error) => Err(Failure::Other(error.into())),
        },
        Err(error @ RunError::Heartbeat(_)) => Err(Failure::Other(error.into())),
    }
}

/// Raises the limit on open files to what the connections need; most systems set a low one.
fn raise_file_limit(plan: &Plan) {
    /// Besides the open connections: connections that are refused, files, and what libraries open.
    const OTHERS: usize = 128;
    let needed = plan.server().max_connections + plan.repository().max_connections + OTHERS;
    let needed = u64::try_from(needed).unwrap_or(u64::MAX);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    if soft < needed && setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard).is_err() {
        return log::too_few_files(soft, needed);
    }
    if hard < needed {
        log::too_few_files(hard, needed);
    }
}
