//! `refresh = { … }`: whether its triggers fit together and fit the endpoint, and the probes that endpoints
//! share.

use std::collections::HashMap;
use std::time::Duration;

use super::{field, statement};
use crate::config::schema::{ProbeSection, RefreshSection};
use crate::config::{At, Field, Mistake, Report};
use crate::plan::cron::CronLineError;
use crate::plan::declaration::ProbeDeclaration;
use crate::plan::{CronLine, Probe, ProbeId, Refresh, Statement, Timezone};

/// Ten loads per second of one answer. More often, polling is the wrong tool.
const SHORTEST_EVERY: Duration = Duration::from_millis(100);
/// The longest name that Postgres keeps.
const CHANNEL_BYTES_MAX: usize = 63;

/// The probes of all endpoints, each once.
#[derive(Default)]
pub(super) struct Probes {
    pub(super) probes: Vec<Probe>,
    pub(super) declarations: Vec<ProbeDeclaration>,
    known: HashMap<(String, Duration), ProbeId>,
}

impl Probes {
    fn add(&mut self, sql: &At<String>, statement: Statement, every: Duration) -> ProbeId {
        let text = statement.text().to_owned();
        // The text already ends with its last token; without leading space, equal probes have equal texts.
        let asked = text.trim_start().to_owned();
        *self.known.entry((asked, every)).or_insert_with(|| {
            let id = ProbeId::new(self.probes.len());
            self.probes.push(Probe {
                id,
                sql: text,
                every,
            });
            self.declarations.push(ProbeDeclaration {
                sql: sql.clone(),
                statement,
            });
            id
        })
    }
}

/// How many answers an endpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    One,
    /// One for each set of arguments.
    ByArguments,
    /// One for each caller, or what `run_as` takes of it, and set of arguments.
    ByCaller,
}

/// What the section means, and the interval of its probe.
pub(super) fn read(
    section: &RefreshSection,
    answers: Answers,
    probes: &mut Probes,
    report: &mut Report,
) -> (Refresh, Option<At<Duration>>) {
    if let Some(span) = &section.span
        && !section.is_wrong
        && is_empty(section)
    {
        report.push(Mistake::new("`refresh` has no trigger").at(span, "").help(
            "add `every`, `cron`, `probe`, `notify` or `ahead`, for example { every = \"5s\" }",
        ));
    }
    match answers {
        Answers::One => {
            check_probe_with_every(section, report);
            check_ahead(section, report);
        }
        Answers::ByArguments => {
            check_schedule("a schedule on an endpoint with parameters", section, report);
        }
        Answers::ByCaller => {
            let message = "a schedule on an endpoint whose answers depend on the caller";
            check_schedule(message, section, report);
        }
    }
    let every = field::duration("every", &section.every, SHORTEST_EVERY, report);
    let probe = section
        .probe
        .given()
        .and_then(|section| probe(section, probes, report));
    let (probe, probe_every) = probe.unzip();
    let refresh = Refresh {
        every: every.map(|every| every.value),
        cron: cron(section, report),
        probe,
        notify: channel(&section.notify, report),
        ahead: section.ahead.given().is_some_and(|ahead| ahead.value),
    };
    (refresh, probe_every)
}

fn is_empty(section: &RefreshSection) -> bool {
    section.every.is_absent()
        && section.cron.is_absent()
        && section.timezone.is_absent()
        && section.probe.is_absent()
        && section.notify.is_absent()
        && section.ahead.is_absent()
}

/// There is one entry for each set of arguments, and a schedule does not say which one to load.
fn check_schedule(message: &str, section: &RefreshSection, report: &mut Report) {
    let written = [section.every.given(), section.cron.given()];
    let mut labels = ["which answer should this load?", "and this?"].into_iter();
    let places = written.into_iter().flatten().zip(&mut labels);
    let mistake = Mistake::new(message);
    let mistake = places.fold(mistake, |mistake, (at, label)| mistake.at(&at.span, label));
    if mistake.span().is_some() {
        report.push(mistake.help("use `ahead = true` instead: it keeps the answers in use fresh"));
    }
}

/// `every` loads whatever the probe finds. A cron expression can be combined with a probe: a nightly load
/// catches what the probe does not cover.
fn check_probe_with_every(section: &RefreshSection, report: &mut Report) {
    let (Some(every), Some(probe)) = (section.every.given(), section.probe.given()) else {
        return;
    };
    report.push(
        Mistake::new("`refresh` has both `every` and a probe")
            .at(&probe.span, "has no effect")
            .at(&every.span, "loads whether or not anything changed")
            .help("remove one of them; a probe can be combined with `cron`"),
    );
}

/// Without parameters there is one entry, which is always in use.
fn check_ahead(section: &RefreshSection, report: &mut Report) {
    let Some(ahead) = section.ahead.given().filter(|ahead| ahead.value) else {
        return;
    };
    let is_scheduled = !section.every.is_absent() || !section.cron.is_absent();
    report.push(
        Mistake::new("`ahead` on an endpoint without parameters")
            .at(&ahead.span, "has no effect")
            .help(if is_scheduled {
                "remove it: the schedule loads the only answer before it goes stale"
            } else {
                "add a schedule such as every = \"10s\" instead: there is only one answer to load"
            }),
    );
}

fn probe(
    section: &At<ProbeSection>,
    probes: &mut Probes,
    report: &mut Report,
) -> Option<(ProbeId, At<Duration>)> {
    let absent = [
        ("sql", section.value.sql.is_absent()),
        ("every", section.value.every.is_absent()),
    ];
    for (key, _) in absent.into_iter().filter(|(_, is_absent)| *is_absent) {
        report.push(
            Mistake::new(format!("this probe has no `{key}`"))
                .at(&section.span, format!("`{key}` is missing"))
                .help("for example { sql = \"SELECT max(id) FROM sales\", every = \"2s\" }"),
        );
    }
    let every = field::duration("every", &section.value.every, SHORTEST_EVERY, report);
    let sql = section.value.sql.given()?;
    let help = "a probe runs once for all requests";
    let statement = statement::query_without_parameters("a probe", help, sql, report)?;
    let every = every?;
    Some((probes.add(sql, statement, every.value), every))
}

fn channel(field: &Field<String>, report: &mut Report) -> Option<String> {
    let channel = field.given()?;
    let reason = match channel.value.as_str() {
        "" => "empty",
        name if name.len() > CHANNEL_BYTES_MAX => "longer than 63 bytes",
        name if name.contains('\0') => "contains the NUL character",
        name => return Some(name.to_owned()),
    };
    report.push(
        Mistake::new("this is not a valid channel name")
            .at(&channel.span, reason)
            .help("use the name that is given to NOTIFY or pg_notify(), such as \"sales\""),
    );
    None
}

fn cron(section: &RefreshSection, report: &mut Report) -> Option<CronLine> {
    if let (Some(timezone), true) = (section.timezone.given(), section.cron.is_absent()) {
        report.push(
            Mistake::new("`timezone` without `cron`")
                .at(&timezone.span, "has no effect")
                .help("remove it, or add `cron`; `every` needs no time zone"),
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
        None => "use a name of the IANA database, such as \"Europe/Berlin\" or \"UTC\"".to_owned(),
    };
    report.push(
        Mistake::new("there is no time zone with this name")
            .at(&written.span, "not in the IANA database")
            .help(help),
    );
    // Any zone will do for finding mistakes in the line.
    check_line(line?, Timezone::UTC, report);
    None
}

fn check_line(line: &At<String>, timezone: Timezone, report: &mut Report) -> Option<CronLine> {
    let mistake = match CronLine::parse(&line.value, timezone) {
        Ok(cron) => return Some(cron),
        Err(CronLineError::Line { reason }) => {
            let help = if line.value.trim_start().starts_with("@every") {
                "write `every = \"5s\"` instead of `cron`"
            } else {
                "the fields are minute, hour, day, month and weekday, with the second first if there are six"
            };
            Mistake::new("this is not a valid cron expression")
                .at(&line.span, reason)
                .help(help)
        }
        Err(error @ CronLineError::Never) => {
            Mistake::new(error.to_string()).at(&line.span, "no such date exists")
        }
    };
    report.push(mistake);
    None
}
