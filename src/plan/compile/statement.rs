//! The SQL that the operator wrote: an endpoint's statement, and the statements without parameters of probes
//! and `warm_sql`.

use std::ops::Range;

use crate::config::schema::EndpointSection;
use crate::config::{At, Field, Mistake, Report, Span};
use crate::plan::Statement;
use crate::plan::sql::StatementError;

/// An endpoint's SQL, from `sql` or `sql_file`.
pub(super) fn written(section: &EndpointSection, report: &mut Report) -> Option<At<String>> {
    match (&section.sql, &section.sql_file) {
        (Field::Absent, Field::Absent) => {
            report.push(
                Mistake::new("this endpoint has no `sql`")
                    .at(&section.span, "`sql` is missing")
                    .help("write the query as `sql`, or name its file as `sql_file`"),
            );
            None
        }
        (sql, Field::Absent) => sql.given().cloned(),
        (Field::Absent, file) => file.given().cloned(),
        (sql, _) => {
            let mut mistake = Mistake::new("this endpoint has both `sql` and `sql_file`");
            if let Some(file) = &section.sql_file_span {
                mistake = mistake.at(file, "a second query");
            }
            if let Some(sql) = sql.given() {
                mistake = mistake.at(&sql.span, "");
            }
            report.push(mistake.help("remove one of them"));
            None
        }
    }
}

/// One query, which may have parameters.
pub(super) fn query(sql: &At<String>, report: &mut Report) -> Option<Statement> {
    match Statement::parse(&sql.value) {
        Ok(statement) => Some(statement),
        Err(error) => {
            report.push(mistake(sql, &error).help(error.help()));
            None
        }
    }
}

/// One query that no request causes. `name` is its name in mistakes, and `help` says what replaces
/// parameters.
pub(super) fn query_without_parameters(
    name: &str,
    help: &str,
    sql: &At<String>,
    report: &mut Report,
) -> Option<Statement> {
    let parameter = |at: Option<Range<usize>>| {
        Mistake::new(format!("{name} cannot have parameters"))
            .at(&place(sql, at), "no request could supply its value")
            .help(help)
    };
    report.push(match Statement::parse(&sql.value) {
        Ok(statement) => match statement.parameters().first() {
            None => return Some(statement),
            Some(first) => parameter(statement.first_use(first))
                .note("`:name` is a parameter; write array slices with spaces: `[a : b]`"),
        },
        Err(StatementError::Positional { at }) => parameter(Some(at)),
        Err(error @ StatementError::TwoStatements { .. }) => {
            mistake(sql, &error).help(format!("{name} must be one statement"))
        }
        Err(error) => mistake(sql, &error).help(error.help()),
    });
    None
}

fn mistake(sql: &At<String>, error: &StatementError) -> Mistake {
    Mistake::new(error.to_string()).at(&place(sql, error.at()), "")
}

fn place(sql: &At<String>, at: Option<Range<usize>>) -> Span {
    at.map_or_else(|| sql.span.clone(), |at| sql.span.within(at))
}
