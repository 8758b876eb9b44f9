//! Sends the query of a load: its transaction, the identity it runs with and the statement, without waiting in
//! between.

use tokio::time::Instant;
use tokio_postgres::RowStream;

use super::disclosure::Disclosure;
use super::lease::Lease;
use super::run_as::{self, Identity};
use super::{Description, RepositoryError, bind};
use crate::plan::Arguments;

/// What a load sends.
pub(super) struct Load<'a> {
    pub(super) description: &'a Description,
    pub(super) arguments: &'a Arguments,
    /// With whose rights it runs, unless with the session's.
    pub(super) identity: Option<Identity<'a>>,
    pub(super) disclosure: Disclosure,
}

impl<'a> Load<'a> {
    fn role(&self) -> Option<&'a str> {
        self.identity.as_ref().map(Identity::role)
    }
}

/// Sends the query. The session's prepared statement may be older than a change of the tables, so it is
/// prepared again once before the description counts as outdated.
pub(super) async fn start(lease: &Lease, load: &Load<'_>) -> Result<RowStream, RepositoryError> {
    let (began, mut was_renewed) = (Instant::now(), false);
    loop {
        let beginning = run_as::begin(lease, load.identity.as_ref(), load.disclosure);
        let (begun, sent) = tokio::join!(biased; beginning, send(lease, load));
        begun?;
        let sent = sent.map_err(|error| error.while_running(began.elapsed()));
        let noticed = match sent? {
            Sent::Query(stream) => return Ok(stream),
            Sent::Outdated(noticed) => noticed,
        };
        lease.end();
        load.description.forget_on(lease, load.role());
        if was_renewed {
            // It was just prepared, so the error is not due to its age.
            return Err(noticed.unwrap_or(RepositoryError::Outdated { refusal: None }));
        }
        was_renewed = true;
    }
}

enum Sent {
    Query(RowStream),
    /// The statement is no longer what was prepared; with Postgres's error, if Postgres noticed.
    Outdated(Option<RepositoryError>),
}

async fn send(lease: &Lease, load: &Load<'_>) -> Result<Sent, RepositoryError> {
    let description = load.description;
    let statement = description.prepare_on(lease, load.role()).await?;
    if !description.still_holds(&statement) {
        return Ok(Sent::Outdated(None));
    }
    let arguments = bind::parameters(load.arguments, description.types().len());
    let ending = async {
        if load.identity.is_some() {
            lease.end();
        }
    };
    let stream = lease.query_raw(&statement, arguments);
    let (stream, ()) = tokio::join!(biased; stream, ending);
    stream.map_or_else(
        |error| {
            let error = bind::refusal(&error, description, load.disclosure);
            if error.is_outdated() {
                Ok(Sent::Outdated(Some(error)))
            } else {
                Err(error)
            }
        },
        |stream| Ok(Sent::Query(stream)),
    )
}
