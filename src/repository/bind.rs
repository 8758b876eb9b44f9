//! Arguments as parameters of a query: bound as text with the described type, so that Postgres's own input
//! functions read them. They are never spliced into the SQL.

use bytes::BytesMut;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};

use super::disclosure::Disclosure;
use super::{Description, RepositoryError};
use crate::plan::Arguments;

/// One argument in Postgres's text format, whatever its type; `None` is NULL.
#[derive(Debug)]
pub(super) struct Text<'a>(Option<&'a str>);

impl<'a> Text<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self(Some(text))
    }
}

/// The arguments for the statement's `$1`…, of which there are this many.
pub(super) fn parameters(
    arguments: &Arguments,
    count: usize,
) -> impl ExactSizeIterator<Item = Text<'_>> {
    arguments.iter().take(count).map(Text)
}

impl ToSql for Text<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(text) = self.0 else {
            return Ok(IsNull::Yes);
        };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

/// SQLSTATEs with which an input function rejects a text: 22000 for the bounds of ranges, 22003 numeric
/// value out of range, 22007 and 22008 for dates, 2200N invalid XML, 22021 character not in repertoire,
/// 22023 invalid parameter value, 2202E for the bounds of arrays, 22P02 invalid text representation, 22P05
/// for the character NUL in `jsonb`, 23502 and 23514 for a domain's constraints, and 42601 for a `tsquery`:
/// the syntax of the statement itself was found to be right when it was prepared.
const INPUT_REFUSED: [&str; 13] = [
    "22000", "22003", "22007", "22008", "2200N", "22021", "22023", "2202E", "22P02", "22P05",
    "23502", "23514", "42601",
];

/// The error of a query that failed when its arguments were bound. An input function may have raised it, if
/// Larder has not checked the arguments itself.
pub(super) fn refusal(
    error: &tokio_postgres::Error,
    description: &Description,
    disclosure: Disclosure,
) -> RepositoryError {
    RepositoryError::of_session(error, disclosure).or_refused(|refusal| {
        let is_input = INPUT_REFUSED.contains(&refusal.code.as_str());
        if is_input && description.leaves_reading_to_postgres() {
            RepositoryError::ArgumentRefused { refusal }
        } else {
            RepositoryError::Refused { refusal }
        }
    })
}
