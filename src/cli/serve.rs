//! `larder serve`.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;

use super::{Failure, STOP, Stop, load, misfits, stopped_by, unusable};
use crate::app::{App, BuildError, RunError};
use crate::log;
use crate::plan::Plan;

pub(super) async fn serve(config: &Path) -> Result<(), Failure> {
    let plan = load(config)?;
    let stop = stopped_by(&STOP)?;
    let listen = plan.server().listen;
    let listener = bind(listen, "`listen` under [server]").await?;
    run(plan, listener, stop).await
}

/// Listens; `instead` is how to choose another address.
pub(super) async fn bind(address: SocketAddr, instead: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        // Every other reason is of the machine's own making, and it has words for it.
        let way_out = if error.kind() == ErrorKind::AddrInUse {
            format!("; stop what listens there, or choose another address with {instead}")
        } else {
            format!("; choose another address with {instead}")
        };
        anyhow::anyhow!("can not listen on {address}: {error}{way_out}")
    })
}

/// Serves until told to stop.
pub(super) async fn run(plan: Arc<Plan>, listener: TcpListener, stop: Stop) -> Result<(), Failure> {
    let app = App::build(Arc::clone(&plan), Vec::new()).map_err(|error| match error {
        BuildError::Tls(error) => unusable(&plan, &error),
        BuildError::Repository(error) => Failure::Other(error.into()),
    })?;
    make_room(&plan);
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
        Err(RunError::Misfits(found)) => Err(misfits(&plan, found)),
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
