//! One `[[endpoint]]`: its path, its SQL, its schedule, and how they fit.

use std::time::Duration;

use super::field;
use super::parameters;
use super::policy::{self, Limits, Policy, Settled};
use crate::config::schema::{EndpointSection, RefreshSection};
use crate::config::{At, Field, Mistake, Report};
use crate::plan::schedule::CronLineError;
use crate::plan::{
    CronLine, Endpoint, EndpointId, Parameter, PathPattern, Refresh, Statement, Timezone,
};

/// Ten loads a second of one answer. Whoever needs more wants another tool than polling.
const SHORTEST_EVERY: Duration = Duration::from_millis(100);

/// What holds for all endpoints.
pub(super) struct Context<'c> {
    pub(super) defaults: &'c Policy,
    pub(super) limits: &'c Limits,
}

/// What could be read of an endpoint.
pub(super) struct Parts {
    id: EndpointId,
    pub(super) path: Option<At<PathPattern>>,
    summary: Option<String>,
    sql: Option<At<String>>,
    statement: Option<Statement>,
    parameters: Option<Vec<Parameter>>,
    refresh: Refresh,
    policy: Settled,
}

impl Parts {
    pub(super) fn read(
        section: &EndpointSection,
        id: EndpointId,
        context: &Context<'_>,
        report: &mut Report,
    ) -> Self {
        let path = path(section, report);
        let sql = sql(section, report);
        let statement = sql.as_ref().and_then(|sql| statement(sql, report));
        let parameters = parameters::read(
            section,
            path.as_ref(),
            sql.as_ref().zip(statement.as_ref()),
            report,
        );
        let refresh = refresh(&section.refresh, report);
        let has_parameters = !section.params.is_empty()
            || section.wrong_params.is_some()
            || path
                .as_ref()
                .is_some_and(|path| path.value.parameters().next().is_some());
        if let (true, Some(span)) = (
            has_parameters && refresh.is_scheduled(),
            &section.refresh.span,
        ) {
            // One entry for each set of arguments: a schedule does not say which.
            report.push(
                Mistake::new("a schedule on an endpoint with parameters")
                    .at(span, "which of its answers should this load?")
                    .help("remove it; `max_age` and `stale_while_revalidate` keep the answers in use fresh"),
            );
        }
        let policy = Policy::read(&section.policy, report).settle(
            context.defaults,
            context.limits,
            &policy::Surroundings {
                refresh: &refresh,
                has_schedule: section.refresh.span.is_some() || section.refresh.is_wrong,
                has_parameters,
                endpoint: &section.span,
            },
            report,
        );
        let summary = section.summary.given().map(|summary| summary.value.clone());
        Self {
            id,
            path,
            summary,
            sql,
            statement,
            parameters,
            refresh,
            policy,
        }
    }

    /// The endpoint and its SQL as written, if no part of it is missing.
    pub(super) fn assemble(self) -> Option<(Endpoint, At<String>)> {
        let policy = self.policy;
        let endpoint = Endpoint {
            id: self.id,
            path: self.path?.value,
            summary: self.summary,
            statement: self.statement?,
            parameters: self.parameters?,
            shape: policy.shape,
            freshness: policy.freshness,
            refresh: self.refresh,
            on_miss: policy.on_miss,
            timeout: policy.timeout,
            max_rows: policy.max_rows,
            max_bytes: policy.max_bytes,
            unknown_parameters: policy.unknown_parameters,
        };
        Some((endpoint, self.sql?))
    }
}

fn path(section: &EndpointSection, report: &mut Report) -> Option<At<PathPattern>> {
    if section.path.is_absent() {
        report.push(
            Mistake::new("this endpoint has no `path`")
                .at(&section.span, "`path` is missing")
                .help("for example path = \"/sales/{country}\""),
        );
    }
    let written = section.path.given()?;
    match PathPattern::parse(&written.value) {
        Ok(pattern) => Some(At {
            value: pattern,
            span: written.span.clone(),
        }),
        Err(error) => {
            let span = error
                .at()
                .map_or_else(|| written.span.clone(), |at| written.span.within(at));
            report.push(
                Mistake::new(error.to_string())
                    .at(&span, "")
                    .help(error.help()),
            );
            None
        }
    }
}

/// The SQL, from the one place it may be written.
fn sql(section: &EndpointSection, report: &mut Report) -> Option<At<String>> {
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

fn statement(sql: &At<String>, report: &mut Report) -> Option<Statement> {
    match Statement::parse(&sql.value) {
        Ok(statement) => Some(statement),
        Err(error) => {
            let span = error
                .at()
                .map_or_else(|| sql.span.clone(), |at| sql.span.within(at));
            report.push(
                Mistake::new(error.to_string())
                    .at(&span, "")
                    .help(error.help()),
            );
            None
        }
    }
}

fn refresh(section: &RefreshSection, report: &mut Report) -> Refresh {
    if let Some(span) = &section.span
        && !section.is_wrong
        && section.every.is_absent()
        && section.cron.is_absent()
        && section.timezone.is_absent()
    {
        report.push(
            Mistake::new("`refresh` does not say when")
                .at(span, "")
                .help("for example { every = \"5s\" } or { cron = \"0 6 * * *\" }"),
        );
    }
    let every = field::duration("every", &section.every, SHORTEST_EVERY, report);
    Refresh {
        every: every.map(|every| every.value),
        cron: cron(section, report),
    }
}

fn cron(section: &RefreshSection, report: &mut Report) -> Option<CronLine> {
    if let (Some(timezone), true) = (section.timezone.given(), section.cron.is_absent()) {
        report.push(
            Mistake::new("`timezone` without `cron`")
                .at(&timezone.span, "would have no effect")
                .help("`every` needs no time zone; remove it, or add a `cron` line"),
        );
    }
    let line = section.cron.given();
    let Some(written) = section.timezone.given() else {
        let cron = check_line(line?, Timezone::UTC, report);
        return cron.filter(|_| section.timezone.is_absent());
    };
    if let Some(timezone) = Timezone::parse(&written.value) {
        return check_line(line?, timezone, report);
    }
    let help = match Timezone::nearest(&written.value) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "names are those of the IANA database, as \"Europe/Berlin\" or \"UTC\"".to_owned(),
    };
    report.push(
        Mistake::new("there is no time zone of this name")
            .at(&written.span, "unknown")
            .help(help),
    );
    // To find what else is wrong any zone will do.
    check_line(line?, Timezone::UTC, report);
    None
}

fn check_line(line: &At<String>, timezone: Timezone, report: &mut Report) -> Option<CronLine> {
    let mistake = match CronLine::parse(&line.value, timezone) {
        Ok(cron) => return Some(cron),
        Err(CronLineError::Line { reason }) => {
            let help = if line.value.trim_start().starts_with("@every") {
                "write `every = \"5s\"` instead of a cron line"
            } else {
                "minute hour day month weekday, with the second before them if there are six"
            };
            Mistake::new("this is no cron line")
                .at(&line.span, reason)
                .help(help)
        }
        Err(error @ CronLineError::Never) => {
            Mistake::new(error.to_string()).at(&line.span, "no day has this date")
        }
    };
    report.push(mistake);
    None
}
