//! `larder key`: makes keys, and explains what a credential may do.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, bail};

use super::{Failure, load, print};
use crate::access::{Credential, Denied, Identities, Identity, key};
use crate::log;
use crate::observe::Observer;
use crate::plan::{Access, AccessSettings, Endpoint, Plan};
use crate::repository::Repository;

/// More than any credential has: a request's head has 64 KiB.
const INPUT_BYTES_MAX: u64 = 64 * 1024;

/// Prints a new key, and what to add to the configuration.
pub(super) fn new(name: &str) -> Result<(), Failure> {
    let key = key::generate().context("the system provides no random numbers")?;
    let digest = key::hexadecimal(&key::digest(&key));
    let text = format!(
        "The key, which is shown only this once:\n\n    {key}\n\nAdd this to config.toml. The digest is no \
         secret.\n\n    [[access.key]]\n    name = \"{name}\"\n    sha256 = [\"{digest}\"]\n"
    );
    Ok(print(&text)?)
}

/// Reads a credential from stdin, and prints whose it is and which endpoints it may use.
pub(super) async fn check(config: &Path) -> Result<(), Failure> {
    let plan = load(config)?;
    let Some(access) = plan.access() else {
        return Ok(print("There is no [access]: every endpoint is public.\n")?);
    };
    let text = read_stdin()?;
    let credential = Credential::read(std::iter::empty(), std::iter::once(text.trim().as_bytes()));
    let Ok(Some(credential)) = credential else {
        return Err(anyhow::anyhow!(
            "stdin has no credential: pipe a key or a token into this command"
        )
        .into());
    };
    let identities = Identities::new(access).map_err(anyhow::Error::from)?;
    let identity = identify(&identities, &plan, access, &credential).await?;
    let lines: String = plan
        .endpoints()
        .iter()
        .map(|endpoint| {
            format!(
                "{}: {}\n",
                endpoint.path.as_str(),
                verdict(&identity, endpoint)
            )
        })
        .collect();
    Ok(print(&format!("This is `{}`.\n\n{lines}", identity.name))?)
}

async fn identify(
    identities: &Identities,
    plan: &Plan,
    access: &AccessSettings,
    credential: &Credential<'_>,
) -> anyhow::Result<Arc<Identity>> {
    let identify = || identities.identify(credential, SystemTime::now());
    let mut identified = identify();
    if let Err(Denied::NoKeys) = identified {
        for (issuer, error) in identities.load_issuer_keys().await {
            let name = &access.issuers[issuer.index()].name;
            log::warning(&format!(
                "the keys of the issuer {name} cannot be fetched: {error}"
            ));
        }
        let repository = Repository::new(plan.repository(), Observer::new(Vec::new()))?;
        if let Err(error) = identities.load_stored_keys(&repository).await {
            log::warning(&format!(
                "the keys of [access.keys] cannot be read: {error}"
            ));
        }
        identified = identify();
    }
    identified.map_err(|denied| match denied {
        Denied::NoKeys => anyhow::anyhow!("{denied}: every request with it gets a 503"),
        Denied::Unknown
        | Denied::Expired
        | Denied::NotYet
        | Denied::Token(_)
        | Denied::UnknownIssuerKey(_)
        | Denied::Scope(_)
        | Denied::Address => anyhow::anyhow!("{denied}: every request with it gets a 401"),
    })
}

fn read_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    let mut input = std::io::stdin().lock().take(INPUT_BYTES_MAX + 1);
    input
        .read_to_string(&mut text)
        .context("cannot read stdin")?;
    if text.len() as u64 > INPUT_BYTES_MAX {
        bail!("stdin has more than 64 KiB, which is no credential");
    }
    Ok(text)
}

/// What an endpoint answers to somebody, apart from the address, which is not known here.
fn verdict(identity: &Identity, endpoint: &Endpoint) -> String {
    let Access::Credential(requirements) = &endpoint.access else {
        return "yes: it is public".to_owned();
    };
    if let Err(Denied::Scope(scopes)) = identity.check_scopes(requirements) {
        return format!("no: 403, it needs the scopes {}", scopes.join(", "));
    }
    let claims = endpoint.claims();
    let missing: Vec<&str> = claims
        .filter(|claim| identity.claim(claim).is_none())
        .collect();
    if !missing.is_empty() {
        return format!("no: 403, the claims {} are missing", missing.join(", "));
    }
    if let Some(run_as) = &endpoint.run_as
        && let Err(claim) = run_as.caller_values(|claim| identity.claim(claim))
    {
        return match &run_as.role_claim {
            Some(role) if role == claim => {
                let roles = run_as.roles.join(", ");
                format!("no: 403, the claim {claim} is none of the roles {roles}")
            }
            _ => format!("no: 403, the claims of a setting are too long, among them {claim}"),
        };
    }
    if requirements.allow_from.is_empty() {
        return "yes".to_owned();
    }
    let networks = requirements.allow_from.iter().map(ToString::to_string);
    format!("yes, from {}", networks.collect::<Vec<_>>().join(", "))
}
