//! `larder serve`.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, lookup_host};

use super::{Failure, Stop, load, rejected, stop, unusable_file};
use crate::app::{App, BuildError, RunError};
use crate::log;
use crate::plan::{Listen, Plan};

pub(super) async fn serve(config: &Path) -> Result<(), Failure> {
    let plan = load(config)?;
    let stop = stop()?;
    let listener = bind(&plan.server().listen, "`listen` under [server]").await?;
    run(plan, listener, stop).await
}

/// Listens on the first of the addresses that this machine has; `instead` is how to choose another.
pub(super) async fn bind(listen: &Listen, instead: &str) -> anyhow::Result<TcpListener> {
    let error = match addresses(listen).await {
        Ok(addresses) => match bind_first(&addresses).await {
            Ok(listener) => return Ok(listener),
            Err(error) => error,
        },
        Err(error) => error,
    };
    // Every other reason is of the machine's own making, and it has words for it.
    let way_out = if error.kind() == ErrorKind::AddrInUse {
        format!("; stop what listens there, or choose another address with {instead}")
    } else {
        format!("; choose another address with {instead}")
    };
    Err(anyhow::anyhow!(
        "can not listen on {listen}: {error}{way_out}"
    ))
}

/// Those of IPv4 first, where a name has both: what `localhost` means to most clients.
async fn addresses(listen: &Listen) -> io::Result<Vec<SocketAddr>> {
    Ok(match listen {
        Listen::Address(address) => vec![*address],
        // The one takes IPv4 as well, and is not there where IPv6 is switched off.
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
            // Clients would reach the other server.
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Serves until told to stop.
pub(super) async fn run(plan: Arc<Plan>, listener: TcpListener, stop: Stop) -> Result<(), Failure> {
    let app = App::build(Arc::clone(&plan), Vec::new()).map_err(|error| match error {
        BuildError::Tls(error) => unusable_file(&plan, &error),
        BuildError::Repository(error) => Failure::Other(error.into()),
    })?;
    make_room(&plan);
    app.cautions()
        .iter()
        .for_each(|sentence| log::caution(sentence));
    log::listening(listener.local_addr().map_err(anyhow::Error::from)?, &plan);
    // All of the server is in it.
    let running = Box::pin(app.run(listener, stop.gently));
    let Some(ended) = stop.at_once.run_until_cancelled(running).await else {
        return Err(anyhow::anyhow!("told a second time to stop, and left at once").into());
    };
    match ended {
        Ok(true) => Ok(()),
        Ok(false) => Err(anyhow::anyhow!(
            "not every request could end within shutdown_timeout ({:?})",
            plan.server().shutdown_timeout
        )
        .into()),
        Err(RunError::Rejected(rejections)) => Err(rejected(&plan, rejections)),
        Err(error @ RunError::Heartbeat(_)) => Err(Failure::Other(error.into())),
    }
}

/// Each connection takes a file descriptor, and systems give few until they are asked for more.
fn make_room(plan: &Plan) {
    /// Beside clients: those that are told there are too many, files, and whatever libraries open.
    const OTHERS: usize = 128;
    let needed = plan.server().max_connections + plan.repository().max_connections + OTHERS;
    let needed = u64::try_from(needed).unwrap_or(u64::MAX);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    if soft < needed && setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard).is_err() {
        return log::descriptors_short(soft, needed);
    }
    if hard < needed {
        log::descriptors_short(hard, needed);
    }
}
