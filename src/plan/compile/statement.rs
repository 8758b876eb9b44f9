//! SQL as the operator wrote it, each in its place: an endpoint's own, and what stands beside it and
//! has no parameters.

use std::ops::Range;

use crate::config::schema::EndpointSection;
use crate::config::{At, Field, Mistake, Report, Span};
use crate::plan::Statement;
use crate::plan::sql::StatementError;

/// The SQL, from the one place it may be written.
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
                mistake = mistake.at(file, "one query too many");
            }
            if let Some(sql) = sql.given() {
                mistake = mistake.at(&sql.span, "");
            }
            report.push(mistake.help("remove one of them"));
            None
        }
    }
}

/// One query with parameters.
pub(super) fn query(sql: &At<String>, report: &mut Report) -> Option<Statement> {
    match Statement::parse(&sql.value) {
        Ok(statement) => Some(statement),
        Err(error) => {
            report.push(mistake(sql, &error).help(error.help()));
            None
        }
    }
}

/// One query that no request stands behind: `name` is what mistakes call it, and `help` says what it
/// has instead of parameters.
pub(super) fn query_without_parameters(
    name: &str,
    help: &str,
    sql: &At<String>,
    report: &mut Report,
) -> Option<Statement> {
    let parameter = |at: Option<Range<usize>>| {
        Mistake::new(format!("{name} has no parameters"))
            .at(&place(sql, at), "no request could say its value")
            .help(help)
    };
    report.push(match Statement::parse(&sql.value) {
        Ok(statement) => match statement.parameters().first() {
            None => return Some(statement),
            Some(first) => parameter(statement.first_use(first))
                .note("`:name` is a parameter; an array's slice needs spaces: `[a : b]`"),
        },
        Err(StatementError::Positional { at }) => parameter(Some(at)),
        Err(error @ StatementError::TwoStatements { .. }) => {
            mistake(sql, &error).help(format!("{name} is one statement"))
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
