//! `larder serve`.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Failure, STOP, cancelled_by, load, misfits};
use crate::app::{App, RunError};
use crate::log;
use crate::plan::Plan;

pub(super) async fn serve(config: &Path) -> Result<(), Failure> {
    let plan = load(config)?;
    let shutdown = cancelled_by(&STOP)?;
    let listen = plan.server().listen;
    let listener = bind(listen, "`listen` under [server]").await?;
    run(plan, listener, shutdown).await
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
pub(super) async fn run(
    plan: Arc<Plan>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let app = App::build(Arc::clone(&plan), Vec::new()).map_err(anyhow::Error::from)?;
    log::listening(listener.local_addr().map_err(anyhow::Error::from)?, &plan);
    match app.run(listener, shutdown).await {
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
