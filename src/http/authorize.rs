//! Identifies the caller, and checks what it may do: the credential, its scopes, and the address it comes from.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::limits::RETRY_AFTER;
use super::problem::Problem;
use super::request::{CredentialField, RequestHead};
use crate::access::{
    Credential, CredentialError, Denied, Identities, Identity, LastCredential, TokenError,
};
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
            Self::Identity(identity) => identity.limits.as_deref(),
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

    /// [`Self::admit`], if the credential need not be judged: none is needed, or it is the connection's last.
    pub(super) fn admit_at_once(
        &self,
        request: &RequestHead,
        access: &Access,
    ) -> Option<Result<Caller, Problem>> {
        let Some(identities) = &self.identities else {
            return Some(Ok(Caller::Address(None)));
        };
        if *access == Access::Public && !identities.limits_addresses() {
            return Some(Ok(Caller::Address(None)));
        }
        let identity = recall(identities, request)?;
        Some(admit_identity(identities, request, access, identity))
    }

    /// Identifies the caller of something that requires this, and counts its request. Where nothing is required
    /// and nothing is counted, credentials are not looked at.
    pub(super) async fn admit(
        &self,
        request: &RequestHead,
        access: &Access,
    ) -> Result<Caller, Problem> {
        if let Some(admitted) = self.admit_at_once(request, access) {
            return admitted;
        }
        let Some(identities) = &self.identities else {
            return Ok(Caller::Address(None));
        };
        let refusal = match identify(identities, request).await {
            Ok(Some(identity)) => return admit_identity(identities, request, access, identity),
            Ok(None) => Problem::NoCredential,
            Err(problem) => problem,
        };
        // Clients that try credentials are counted as well.
        let address = client_address(identities, request).unwrap_or(request.peer.address);
        let caller = Caller::Address(identities.limits_of(address));
        caller.take_request(request.received)?;
        if *access == Access::Public {
            Ok(caller)
        } else {
            Err(refusal)
        }
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
            // Files without data. A browser opens them without a credential, and they ask for one.
            Page::Status
            | Page::StatusStyle
            | Page::StatusScript
            | Page::ChartStyle
            | Page::ChartScript => &Access::Public,
            Page::Metrics | Page::StatusJson | Page::StatusHistory => &self.measurements,
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

    /// The identity for a page that shows what it may use.
    ///
    /// # Errors
    /// What is wrong with the credential. Without this, a client generated with an expired key would silently lack
    /// endpoints.
    pub(super) async fn identity(
        &self,
        request: &RequestHead,
    ) -> Result<Option<Arc<Identity>>, Problem> {
        match &self.identities {
            Some(identities) => identify(identities, request).await,
            None => Ok(None),
        }
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

/// Whether somebody known may use what requires this now.
fn admit_identity(
    identities: &Identities,
    request: &RequestHead,
    access: &Access,
    identity: Arc<Identity>,
) -> Result<Caller, Problem> {
    request.record_client(identity.client);
    check(identities, &identity, request, access)?;
    let caller = Caller::Identity(identity);
    caller.take_request(request.received)?;
    Ok(caller)
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

/// The identity behind the connection's last credential, if the request has the same and it is still valid.
fn recall(identities: &Identities, request: &RequestHead) -> Option<Arc<Identity>> {
    let (last, value) = only_credential(request)?;
    let identity = last.recall(value, identities.changes())?;
    // Reading the clock is a noticeable part of a hit.
    let is_valid = identity.is_valid_forever() || identity.check_time(SystemTime::now()).is_ok();
    is_valid.then_some(identity)
}

/// Whose credential the request has, if it has one.
async fn identify(
    identities: &Identities,
    request: &RequestHead,
) -> Result<Option<Arc<Identity>>, Problem> {
    // Read before the credential is judged: if keys change meanwhile, it is judged again.
    let changes = identities.changes();
    let lines = |field| request.credentials(field).map(|value| value.as_bytes());
    let credential = Credential::read(
        lines(CredentialField::Authorization),
        lines(CredentialField::ApiKey),
    )?;
    let Some(credential) = credential else {
        return Ok(None);
    };
    let identity = match identities.identify(&credential, SystemTime::now()) {
        Err(Denied::UnknownIssuerKey(issuer)) => {
            identities
                .identify_with_newer_keys(&credential, issuer, changes)
                .await
        }
        decided => decided,
    };
    let identity = identity?;
    if let Some((last, value)) = only_credential(request) {
        last.remember(value, changes, &identity);
    }
    Ok(Some(identity))
}

/// The only credential of a request, and where the connection remembers the last one in this field.
fn only_credential(request: &RequestHead) -> Option<(&LastCredential, &[u8])> {
    let (field, value) = request.only_credential()?;
    let last = match field {
        CredentialField::Authorization => &request.peer.last_authorization,
        CredentialField::ApiKey => &request.peer.last_api_key,
    };
    Some((last, value.as_bytes()))
}

fn client_address(identities: &Identities, request: &RequestHead) -> Option<IpAddr> {
    let lines: Vec<&str> = request
        .forwarded_for()
        .map(|line| line.to_str().unwrap_or_default())
        .collect();
    let addresses = lines.iter().flat_map(|line| line.split(','));
    identities.client_address(request.peer.address, addresses.map(str::trim))
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unknown => Self::InvalidCredential("The key is unknown."),
            Denied::Expired => Self::InvalidCredential("The credential has expired."),
            Denied::NotYet => Self::InvalidCredential("The credential is not valid yet."),
            Denied::Token(error) => Self::InvalidCredential(error.as_str()),
            Denied::UnknownIssuerKey(_) => Self::InvalidCredential(TokenError::Key.as_str()),
            Denied::NoKeys => Self::NoKeys(RETRY_AFTER),
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
