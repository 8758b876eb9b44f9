//! `refresh = { … }`: what it asks for, whether that fits together and the endpoint, and the probes
//! that endpoints share.

use std::collections::HashMap;
use std::time::Duration;

use super::{field, statement};
use crate::config::schema::{ProbeSection, RefreshSection};
use crate::config::{At, Field, Mistake, Report};
use crate::plan::cron::CronLineError;
use crate::plan::{CronLine, Probe, ProbeId, Refresh, Statement, Timezone, WrittenProbe};

/// Ten loads a second of one answer. Whoever needs more wants another tool than polling.
const SHORTEST_EVERY: Duration = Duration::from_millis(100);
/// What Postgres keeps of a name.
const CHANNEL_BYTES_MAX: usize = 63;

/// The probes of all endpoints, each once.
#[derive(Default)]
pub(super) struct Probes {
    pub(super) probes: Vec<Probe>,
    pub(super) written: Vec<WrittenProbe>,
    known: HashMap<(String, Duration), ProbeId>,
}

impl Probes {
    fn add(&mut self, sql: &At<String>, statement: Statement, every: Duration) -> ProbeId {
        let text = statement.text().to_owned();
        // It ends with its last token, and so begins with its first here too.
        let asked = text.trim_start().to_owned();
        *self.known.entry((asked, every)).or_insert_with(|| {
            let id = ProbeId::new(self.probes.len());
            self.probes.push(Probe {
                id,
                sql: text,
                every,
            });
            self.written.push(WrittenProbe {
                sql: sql.clone(),
                statement,
            });
            id
        })
    }
}

/// What the section means, and how often its probe asks.
pub(super) fn read(
    section: &RefreshSection,
    has_parameters: bool,
    probes: &mut Probes,
    report: &mut Report,
) -> (Refresh, Option<At<Duration>>) {
    if let Some(span) = &section.span
        && !section.is_wrong
        && is_empty(section)
    {
        report.push(
            Mistake::new("`refresh` does not say when")
                .at(span, "")
                .help("for example { every = \"5s\" } or { cron = \"0 6 * * *\" }"),
        );
    }
    if has_parameters {
        check_schedule(section, report);
    } else {
        check_probe_with_every(section, report);
        check_ahead(section, report);
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

/// There is one entry for each set of arguments, and a schedule does not say which.
fn check_schedule(section: &RefreshSection, report: &mut Report) {
    let written = [section.every.given(), section.cron.given()];
    let mut labels = ["which of its answers should this load?", "and this?"].into_iter();
    let places = written.into_iter().flatten().zip(&mut labels);
    let mistake = Mistake::new("a schedule on an endpoint with parameters");
    let mistake = places.fold(mistake, |mistake, (at, label)| mistake.at(&at.span, label));
    if mistake.span().is_some() {
        report.push(mistake.help("`ahead = true` instead keeps the answers in use fresh"));
    }
}

/// A schedule loads whatever the probe says. A cron line may stand beside one: that of a nightly load
/// catches what the probe does not ask about.
fn check_probe_with_every(section: &RefreshSection, report: &mut Report) {
    let (Some(every), Some(probe)) = (section.every.given(), section.probe.given()) else {
        return;
    };
    report.push(
        Mistake::new("`refresh` has both `every` and a probe")
            .at(&probe.span, "would have no effect")
            .at(&every.span, "loads whether or not anything is new")
            .help("remove one of them; a `cron` line may stand beside a probe"),
    );
}

/// Without parameters there is one entry, which is never out of use.
fn check_ahead(section: &RefreshSection, report: &mut Report) {
    let Some(ahead) = section.ahead.given().filter(|ahead| ahead.value) else {
        return;
    };
    let is_scheduled = !section.every.is_absent() || !section.cron.is_absent();
    report.push(
        Mistake::new("`ahead` on an endpoint without parameters")
            .at(&ahead.span, "would have no effect")
            .help(if is_scheduled {
                "remove it: the schedule loads the only answer before it goes stale"
            } else {
                "add a schedule instead, as every = \"10s\": there is only one answer to load"
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
    let help = "it is asked once for all requests";
    let statement = statement::query_without_parameters("a probe", help, sql, report)?;
    let every = every?;
    Some((probes.add(sql, statement, every.value), every))
}

fn channel(field: &Field<String>, report: &mut Report) -> Option<String> {
    let channel = field.given()?;
    let reason = match channel.value.as_str() {
        "" => "empty",
        name if name.len() > CHANNEL_BYTES_MAX => "longer than 63 bytes",
        name if name.contains('\0') => "holds the character NUL",
        name => return Some(name.to_owned()),
    };
    report.push(
        Mistake::new("this can not be the name of a channel")
            .at(&channel.span, reason)
            .help("the name that NOTIFY or pg_notify() is given, as \"sales\""),
    );
    None
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
