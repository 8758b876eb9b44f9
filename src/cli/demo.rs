//! `larder demo`: everything on one machine, gone at its end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Failure, sample, say, serve, stop};
use crate::config::Config;
use crate::plan::{Listen, Plan};
use crate::repository::throwaway::Throwaway;

/// The shipped configuration, as it was when this program was built.
const SHIPPED: &str = include_str!("../../config.toml");

/// Stands for the Postgres that is not there yet.
const NOT_YET: &str = "postgresql://localhost/larder";

/// A sale is added this often, so that the numbers move.
const SALE_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn demo(config: Option<&Path>, listen: Option<Listen>) -> Result<(), Failure> {
    // A script's background job inherits that SIGQUIT is ignored, and so would a young Postgres that is
    // told to end by it, were it not caught here.
    let stop = stop()?;
    // What is wrong with the configuration or the address is said before a Postgres is made for it.
    let configured = plan(config, NOT_YET)?;
    let listen = listen.as_ref().unwrap_or(&configured.server().listen);
    let listener = serve::bind(listen, "--listen").await?;
    // The Postgres ends with its handle, also when that is still being made.
    let Some(postgres) = stop.gently.run_until_cancelled(postgres()).await else {
        return Ok(());
    };
    let postgres = Arc::new(postgres?);
    let plan = Arc::new(plan(config, postgres.url())?);

    say(&welcome(
        &plan,
        listener.local_addr().map_err(anyhow::Error::from)?,
    ))?;
    let seller = tokio::spawn(sell(Arc::clone(&postgres)));
    let served = serve::run(plan, listener, stop).await;
    seller.abort();
    served
}

async fn postgres() -> anyhow::Result<Throwaway> {
    say("Starting a Postgres of its own ...\n")?;
    let postgres = Throwaway::start().await?;
    say("Making up sales ...\n")?;
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
    let mut text = "\nA sale is added every second. Ctrl-C ends it all. Try:\n\n".to_owned();
    for endpoint in plan.endpoints() {
        // An example that is in the data, whatever the parameter is called.
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

/// Adds sales until it is aborted, or Postgres has gone, of which the server itself will speak.
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
