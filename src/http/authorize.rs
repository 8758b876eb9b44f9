//! Identifies the caller, and checks what it may do: the credential, its scopes, and the address it comes from.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::limits::RETRY_AFTER;
use super::problem::Problem;
use super::request::{Field, RequestHead};
use crate::access::{Credential, CredentialError, Denied, Identities, Identity, TokenError};
use crate::limiter::{Limiter, Limits};
use crate::plan::{Access, DefaultAccess, Page, Plan, Requirements};

/// The scope for Larder's own measurements.
const OBSERVE: &str = "larder:observe";

/// Decides who may ask what.
#[derive(Debug)]
pub(super) struct Authorizer {
    identities: Option<Arc<Identities>>,
    /// What paths that no endpoint has require.
    unknown_path: Access,
    /// What the pages with Larder's measurements require.
    measurements: Access,
}

/// The client behind a request, as far as it matters, and what it may take.
#[derive(Debug)]
pub(super) enum Caller {
    /// A client with a valid credential.
    Identity(Arc<Identity>),
    /// Any other, with what may be taken from its address.
    Address(Option<Arc<Limits>>),
}

impl Caller {
    pub(super) fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Identity(identity) => Some(identity),
            Self::Address(_) => None,
        }
    }

    /// How many loads its requests may cause.
    pub(super) fn loads(&self) -> Option<&Limiter> {
        self.limits()?.loads.as_ref()
    }

    fn limits(&self) -> Option<&Limits> {
        match self {
            Self::Identity(identity) => identity.limits.as_ref(),
            Self::Address(limits) => limits.as_deref(),
        }
    }

    fn take_request(&self, now: Instant) -> Result<(), Problem> {
        let limiter = self.limits().and_then(|limits| limits.requests.as_ref());
        let Some(limiter) = limiter else {
            return Ok(());
        };
        limiter.take(now).map_err(Problem::RequestLimit)
    }
}

impl Authorizer {
    pub(super) fn new(plan: &Plan, identities: Option<Arc<Identities>>) -> Self {
        let closed = plan
            .access()
            .is_some_and(|access| access.default == DefaultAccess::Deny);
        let if_closed = |requirements| {
            if closed {
                Access::Credential(requirements)
            } else {
                Access::Public
            }
        };
        Self {
            identities,
            unknown_path: if_closed(Requirements::default()),
            measurements: if_closed(Requirements {
                scopes: vec![OBSERVE.to_owned()],
                allow_from: Vec::new(),
            }),
        }
    }

    /// Identifies the caller of something that requires this, and counts its request. Where nothing is required
    /// and nothing is counted, credentials are not looked at.
    pub(super) async fn admit(
        &self,
        request: &RequestHead,
        access: &Access,
    ) -> Result<Caller, Problem> {
        let Some(identities) = &self.identities else {
            return Ok(Caller::Address(None));
        };
        let is_public = *access == Access::Public;
        if is_public && !identities.limits_addresses() {
            return Ok(Caller::Address(None));
        }
        let caller = match identify(identities, request).await {
            Ok(Some(identity)) => {
                check(identities, &identity, request, access)?;
                Caller::Identity(identity)
            }
            // Clients that try credentials are counted as well.
            nobody => {
                let address = client_address(identities, request).unwrap_or(request.peer);
                let limits = identities.limits_of(address);
                let caller = Caller::Address(limits);
                caller.take_request(request.received)?;
                return match (is_public, nobody) {
                    (true, _) => Ok(caller),
                    (false, Ok(_)) => Err(Problem::NoCredential),
                    (false, Err(problem)) => Err(problem),
                };
            }
        };
        caller.take_request(request.received)?;
        Ok(caller)
    }

    /// Whether callers without a credential may learn which paths there are.
    pub(super) fn hides_paths(&self) -> bool {
        self.unknown_path.needs_credential()
    }

    /// Whether a caller may learn that there is nothing at a path.
    pub(super) async fn admit_to_unknown_path(
        &self,
        request: &RequestHead,
    ) -> Result<Caller, Problem> {
        self.admit(request, &self.unknown_path).await
    }

    /// Whether a caller may see one of Larder's own pages.
    pub(super) async fn admit_to_page(
        &self,
        request: &RequestHead,
        page: Page,
    ) -> Result<Caller, Problem> {
        let access = match page {
            // Orchestrators and load balancers have no credential, and no limit.
            Page::Healthz | Page::Readyz => return Ok(Caller::Address(None)),
            // Each endpoint in it is checked for itself.
            Page::OpenApi | Page::Docs | Page::DocsStyle | Page::DocsScript => &Access::Public,
            Page::Metrics
            | Page::Status
            | Page::StatusJson
            | Page::StatusHistory
            | Page::StatusStyle
            | Page::StatusScript
            | Page::ChartStyle
            | Page::ChartScript => &self.measurements,
        };
        self.admit(request, access).await
    }

    /// Whether a caller may learn which endpoints there are and how they are. Not counted.
    pub(super) async fn may_observe(&self, request: &RequestHead) -> bool {
        let Some(identities) = &self.identities else {
            return true;
        };
        let identity = identify(identities, request).await.ok().flatten();
        let checked = identity.map(|it| check(identities, &it, request, &self.measurements));
        checked.map_or(!self.measurements.needs_credential(), |it| it.is_ok())
    }

    /// The identity for a page that shows what it may use. An invalid credential counts as none.
    pub(super) async fn identity(&self, request: &RequestHead) -> Option<Arc<Identity>> {
        let identity = identify(self.identities.as_ref()?, request).await;
        identity.ok().flatten()
    }
}

/// Whether somebody may use what requires this, from some address.
pub(super) fn may_use(identity: Option<&Identity>, access: &Access) -> bool {
    match (access, identity) {
        (Access::Public, _) => true,
        (Access::Credential(_), None) => false,
        (Access::Credential(requirements), Some(identity)) => {
            identity.check_scopes(requirements).is_ok()
        }
    }
}

/// Whether the scopes and the address are enough.
fn check(
    identities: &Identities,
    identity: &Identity,
    request: &RequestHead,
    access: &Access,
) -> Result<(), Problem> {
    let Access::Credential(requirements) = access else {
        return Ok(());
    };
    identity.check_scopes(requirements)?;
    if requirements.allow_from.is_empty() {
        return Ok(());
    }
    let address = client_address(identities, request);
    let mut allowed = requirements.allow_from.iter();
    if address.is_some_and(|address| allowed.any(|network| network.contains(&address))) {
        Ok(())
    } else {
        Err(Denied::Address.into())
    }
}

async fn identify(
    identities: &Identities,
    request: &RequestHead,
) -> Result<Option<Arc<Identity>>, Problem> {
    let lines = |field| request.lines(field).map(|value| value.as_bytes());
    let credential = Credential::read(lines(Field::Authorization), lines(Field::ApiKey))?;
    let Some(credential) = credential else {
        return Ok(None);
    };
    let identity = match identities.identify(&credential, SystemTime::now()) {
        // Boxed, because it is rare, and a hit's future is moved about.
        Err(Denied::UnknownIssuerKey(issuer)) => {
            Box::pin(identities.identify_with_newer_keys(&credential, issuer)).await
        }
        decided => decided,
    };
    Ok(Some(identity?))
}

fn client_address(identities: &Identities, request: &RequestHead) -> Option<IpAddr> {
    let lines: Vec<&str> = request
        .lines(Field::ForwardedFor)
        .map(|line| line.to_str().unwrap_or_default())
        .collect();
    let addresses = lines.iter().flat_map(|line| line.split(','));
    identities.client_address(request.peer, addresses.map(str::trim))
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unknown => Self::InvalidCredential("The key is unknown."),
            Denied::Expired => Self::InvalidCredential("The credential has expired."),
            Denied::NotYet => Self::InvalidCredential("The credential is not valid yet."),
            Denied::Token(error) => Self::InvalidCredential(error.as_str()),
            Denied::UnknownIssuerKey(_) => Self::InvalidCredential(TokenError::Key.as_str()),
            Denied::NoIssuerKeys => Self::NoIssuerKeys(RETRY_AFTER),
            Denied::Scope(scopes) => Self::InsufficientScope(scopes.join(" ")),
            Denied::Address => Self::AddressNotAllowed,
        }
    }
}

impl From<CredentialError> for Problem {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::Several => {
                Self::MalformedCredential("The request has more than one credential.")
            }
            CredentialError::Malformed => Self::MalformedCredential(
                "The credential must be `Authorization: Bearer` with a key or a token, or `X-API-Key` with one \
                 of them.",
            ),
        }
    }
}
