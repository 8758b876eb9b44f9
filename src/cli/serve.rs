//! `larder serve`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Failure, load, misfits, shutdown_signal};
use crate::app::{App, RunError};
use crate::log;
use crate::plan::Plan;

pub(super) async fn serve(config: &Path) -> Result<(), Failure> {
    let plan = load(config)?;
    let shutdown = shutdown_signal()?;
    let listen = plan.server().listen;
    let listener = bind(listen).await?;
    run(plan, listener, shutdown).await
}

/// Listens.
pub(super) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("can not listen on {address}; choose another `listen` under [server], or stop what listens there")
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
