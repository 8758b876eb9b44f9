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
use crate::observe::{AccessMethod, AccessOutcome, Event, Observer};
use crate::plan::{Access, DefaultAccess, Page, Plan, Requirements};

/// The scope for Larder's own measurements.
const OBSERVE: &str = "larder:observe";

/// Decides who may ask what.
#[derive(Debug)]
pub(super) struct Authorizer {
    identities: Option<Arc<Identities>>,
    observer: Observer,
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
    pub(super) fn new(
        plan: &Plan,
        identities: Option<Arc<Identities>>,
        observer: Observer,
    ) -> Self {
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
            observer,
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
        let identified = identify(identities, request).await;
        let method = match &identified {
            Ok(Some(identity)) => {
                request.record_client(identity.client);
                identity.method
            }
            Ok(None) | Err(_) => AccessMethod::None,
        };
        let admitted = admit_identified(identities, request, access, identified);
        let outcome = admitted
            .as_ref()
            .map_or_else(outcome, |_| AccessOutcome::Allowed);
        self.observer
            .emit(&Event::AccessDecided { method, outcome });
        admitted
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

/// Whether a client may use what requires this, and what it may take.
fn admit_identified(
    identities: &Identities,
    request: &RequestHead,
    access: &Access,
    identified: Result<Option<Arc<Identity>>, Problem>,
) -> Result<Caller, Problem> {
    let refusal = match identified {
        Ok(Some(identity)) => {
            check(identities, &identity, request, access)?;
            let caller = Caller::Identity(identity);
            caller.take_request(request.received)?;
            return Ok(caller);
        }
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

/// The outcome as it is counted.
fn outcome(refusal: &Problem) -> AccessOutcome {
    if let Problem::NoCredential = refusal {
        AccessOutcome::NoCredential
    } else if let Problem::InvalidCredential(_) = refusal {
        AccessOutcome::InvalidCredential
    } else if let Problem::InsufficientScope(_) = refusal {
        AccessOutcome::InsufficientScope
    } else if let Problem::AddressNotAllowed = refusal {
        AccessOutcome::AddressNotAllowed
    } else if let Problem::RequestLimit(_) = refusal {
        AccessOutcome::Limited
    } else if let Problem::NoKeys(_) = refusal {
        AccessOutcome::NoKeys
    } else {
        AccessOutcome::MalformedCredential
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

/// Whose credential the request has, if it has one.
async fn identify(
    identities: &Identities,
    request: &RequestHead,
) -> Result<Option<Arc<Identity>>, Problem> {
    if !request.has(Field::Authorization) && !request.has(Field::ApiKey) {
        return Ok(None);
    }
    let changes = identities.changes();
    if let Some(identity) = recall(request, changes) {
        identity.check_time(SystemTime::now())?;
        return Ok(Some(identity));
    }
    // Boxed, because it is rare, and a hit's future is moved about.
    Box::pin(identify_by_credential(identities, request, changes)).await
}

async fn identify_by_credential(
    identities: &Identities,
    request: &RequestHead,
    changes: u64,
) -> Result<Option<Arc<Identity>>, Problem> {
    let lines = |field| request.lines(field).map(|value| value.as_bytes());
    let credential = Credential::read(lines(Field::Authorization), lines(Field::ApiKey))?;
    let Some(credential) = credential else {
        return Ok(None);
    };
    let identity = match identities.identify(&credential, SystemTime::now()) {
        Err(Denied::UnknownIssuerKey(issuer)) => {
            identities
                .identify_with_newer_keys(&credential, issuer)
                .await
        }
        decided => decided,
    };
    let identity = identity?;
    if let Some((field, value)) = only_line(request) {
        let last = &request.peer.last_credential[field];
        last.remember(value, changes, &identity);
    }
    Ok(Some(identity))
}

/// The identity behind the connection's last credential, if the request has the same.
fn recall(request: &RequestHead, changes: u64) -> Option<Arc<Identity>> {
    let (field, value) = only_line(request)?;
    request.peer.last_credential[field].recall(value, changes)
}

/// The only line with a credential: whether it is an `X-API-Key`, and its value.
fn only_line(request: &RequestHead) -> Option<(usize, &[u8])> {
    let field = match (
        request.has(Field::Authorization),
        request.has(Field::ApiKey),
    ) {
        (true, false) => Field::Authorization,
        (false, true) => Field::ApiKey,
        (true, true) | (false, false) => return None,
    };
    let mut lines = request.lines(field);
    let (value, None) = (lines.next()?, lines.next()) else {
        return None;
    };
    Some((usize::from(request.has(Field::ApiKey)), value.as_bytes()))
}

fn client_address(identities: &Identities, request: &RequestHead) -> Option<IpAddr> {
    let lines: Vec<&str> = request
        .lines(Field::ForwardedFor)
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
