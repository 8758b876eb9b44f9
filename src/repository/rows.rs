//! A running query: its rows and its limits.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_postgres::RowStream;
use tokio_postgres::types::{FromSql, Type};

use super::disclosure::Disclosure;
use super::lease::Lease;
use super::{Column, Description, RepositoryError};
use crate::observe::{Event, Observer, QueryOutcome};
use crate::plan::EndpointId;

/// The limits of a query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub deadline: Instant,
    /// The time until the deadline, for the message.
    pub timeout: Duration,
    pub max_rows: u64,
}

/// Reports once how a query ended.
pub(super) struct QueryRecord {
    endpoint: EndpointId,
    observer: Observer,
    began: Instant,
    reported: bool,
}

impl QueryRecord {
    pub(super) fn new(endpoint: EndpointId, observer: Observer, began: Instant) -> Self {
        Self {
            endpoint,
            observer,
            began,
            reported: false,
        }
    }

    pub(super) fn report(&mut self, outcome: QueryOutcome) {
        if std::mem::replace(&mut self.reported, true) {
            return;
        }
        self.observer.emit(&Event::QueryFinished {
            endpoint: self.endpoint,
            outcome,
            elapsed: self.began.elapsed(),
        });
    }
}

impl Drop for QueryRecord {
    fn drop(&mut self) {
        self.report(QueryOutcome::Abandoned);
    }
}

/// The rows of a running query, in order.
pub struct Rows {
    stream: Pin<Box<RowStream>>,
    lease: Lease,
    description: Arc<Description>,
    limits: Limits,
    disclosure: Disclosure,
    record: QueryRecord,
    read: u64,
}

impl Rows {
    pub(super) fn new(
        lease: Lease,
        stream: RowStream,
        description: Arc<Description>,
        limits: Limits,
        disclosure: Disclosure,
        record: QueryRecord,
    ) -> Self {
        Self {
            stream: Box::pin(stream),
            lease,
            description,
            limits,
            disclosure,
            record,
            read: 0,
        }
    }

    /// The columns of each row.
    pub fn columns(&self) -> &Arc<[Column]> {
        &self.description.columns
    }

    /// When the query was sent.
    pub fn began(&self) -> Instant {
        self.record.began
    }

    /// The next row; `None` when there are no more.
    ///
    /// # Errors
    /// [`RepositoryError::TimedOut`] or [`RepositoryError::TooManyRows`] if a limit is exceeded, or Postgres's
    /// error.
    pub async fn next(&mut self) -> Result<Option<Row>, RepositoryError> {
        let next = match tokio::time::timeout_at(self.limits.deadline, self.stream.next()).await {
            Err(_) => Some(Err(self.timed_out())),
            Ok(Some(Err(error))) => Some(Err(self.refusal(&error))),
            Ok(Some(Ok(_))) if self.read == self.limits.max_rows => {
                Some(Err(RepositoryError::TooManyRows {
                    max_rows: self.limits.max_rows,
                }))
            }
            Ok(Some(Ok(row))) => Some(Ok(Row(row))),
            Ok(None) => None,
        };
        match next {
            Some(Ok(row)) => {
                self.read += 1;
                Ok(Some(row))
            }
            Some(Err(error)) => {
                self.record.report(error.query_outcome());
                Err(error)
            }
            None => {
                self.lease.finish();
                self.record.report(QueryOutcome::Ok);
                Ok(None)
            }
        }
    }

    fn timed_out(&self) -> RepositoryError {
        RepositoryError::TimedOut {
            after: self.limits.timeout,
        }
    }

    /// Postgres has ended the query, so the session is free again.
    fn refusal(&mut self, error: &tokio_postgres::Error) -> RepositoryError {
        self.lease.finish();
        let took = self.record.began.elapsed();
        let error = RepositoryError::of_session(error, self.disclosure).while_running(took);
        error.after(took, self.limits.timeout)
    }

    /// Stops reading, because the encoded rows exceed their limit.
    pub fn abandon_as_too_large(mut self) {
        self.record.report(QueryOutcome::TooLarge);
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows")
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

/// One row.
#[derive(Debug)]
pub struct Row(tokio_postgres::Row);

impl Row {
    /// Its values as Postgres sent them, in the order of [`Rows::columns`]; `None` is NULL.
    pub fn values(&self) -> impl ExactSizeIterator<Item = Option<&[u8]>> {
        (0..self.0.len()).map(|at| self.0.get::<_, Raw<'_>>(at).0)
    }
}

/// A value of any type, as raw bytes.
pub(super) struct Raw<'a>(pub(super) Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
