//! `larder demo`: a temporary Postgres, and a server on it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Failure, print, sample, serve, stop_on_hangup, stop_on_signals};
use crate::config::Config;
use crate::plan::{Listen, Plan};
use crate::repository::throwaway::Throwaway;

/// The shipped configuration, as it was when this program was built.
const SHIPPED: &str = include_str!("../../config.toml");

/// A placeholder URL, until Postgres has been started.
const NOT_YET: &str = "postgresql://localhost/larder";

/// A sale is added this often, so that the numbers move.
const SALE_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn demo(config: Option<&Path>, listen: Option<Listen>) -> Result<(), Failure> {
    // A script's background job ignores SIGQUIT, and Postgres would inherit that and could not be ended by
    // it. Catching the signal here prevents that.
    let stop = stop_on_signals()?;
    stop_on_hangup(&stop)?;
    // Mistakes in the configuration or the address are reported before a Postgres is started.
    let configured = plan(config, NOT_YET)?;
    let listen = listen.as_ref().unwrap_or(&configured.server().listen);
    let listener = serve::bind(listen, "--listen").await?;
    // Dropping the handle stops Postgres, even while it is starting.
    let Some(postgres) = stop.graceful.run_until_cancelled(postgres()).await else {
        return Ok(());
    };
    let postgres = Arc::new(postgres?);
    let plan = Arc::new(plan(config, postgres.url())?);

    print(&welcome(
        &plan,
        listener.local_addr().map_err(anyhow::Error::from)?,
    ))?;
    let seller = tokio::spawn(sell(Arc::clone(&postgres)));
    let served = serve::run(serve::build(&plan)?, plan, listener, stop).await;
    seller.abort();
    served
}

async fn postgres() -> anyhow::Result<Throwaway> {
    print("Starting a temporary Postgres ...\n")?;
    let postgres = Throwaway::start().await?;
    print("Making up sales ...\n")?;
    sample::load(&postgres).await?;
    Ok(postgres)
}

/// The plan on the demo's own Postgres.
fn plan(config: Option<&Path>, url: &str) -> Result<Plan, Failure> {
    let environment = |name: &str| match name {
        "DATABASE_URL" => Some(url.to_owned()),
        name => std::env::var(name).ok(),
    };
    let config = match config {
        Some(path) => Config::load(path, &environment)?,
        None => Config::parse(
            "config.toml",
            SHIPPED.to_owned(),
            Path::new("."),
            &environment,
        )?,
    };
    Ok(Plan::compile(config)?)
}

fn welcome(plan: &Plan, address: SocketAddr) -> String {
    let mut text = "\nA sale is added every second. Press Ctrl-C to stop. Try:\n\n".to_owned();
    for endpoint in plan.endpoints() {
        // A country that the sample data contains.
        let path = endpoint.path.as_str().replace("{country}", "Japan");
        if !path.contains('{') {
            text.push_str(&format!("  curl -i http://{address}{path}\n"));
        }
    }
    for page in ["/metrics", "/readyz"] {
        text.push_str(&format!("  curl -i http://{address}{page}\n"));
    }
    text.push_str("\nIn a browser:\n\n");
    for page in ["/status", "/docs"] {
        text.push_str(&format!("  http://{address}{page}\n"));
    }
    text.push('\n');
    text
}

/// Adds sales until it is aborted, or until Postgres ends, which the server itself reports.
async fn sell(postgres: Arc<Throwaway>) {
    let mut ticks = tokio::time::interval(SALE_EVERY);
    for n in 0.. {
        ticks.tick().await;
        let sale = format!("{}; NOTIFY sales", sample::another(n));
        if postgres.execute(&sale).await.is_err() {
            return;
        }
    }
}
