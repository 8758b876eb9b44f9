//! What can load an endpoint, and whether that is enough for `on_miss = "refuse"`.

use std::time::Duration;

use crate::config::schema::EndpointSection;
use crate::config::{At, Field, Mistake, Report, Span};
use crate::plan::{CronLine, FreshnessPolicy, Refresh};

/// What can load an endpoint.
pub(super) struct Triggers<'s> {
    pub(super) section: &'s EndpointSection,
    pub(super) refresh: &'s Refresh,
    /// The interval of its probe.
    pub(super) probe_every: Option<&'s At<Duration>>,
    /// Whether it has more than one answer.
    pub(super) has_keys: bool,
}

impl Triggers<'_> {
    /// Whether `refresh` is wrong or has no trigger. That has been reported, and what was meant is unknown.
    fn is_unclear(&self) -> bool {
        let refresh = &self.section.refresh;
        let has_no_trigger = refresh.every.is_absent()
            && refresh.cron.is_absent()
            && refresh.probe.is_absent()
            && refresh.notify.is_absent()
            && refresh.ahead.is_absent();
        refresh.is_wrong || (refresh.span.is_some() && has_no_trigger)
    }

    /// Whether only a schedule refreshes answers: a probe or a notification may do so earlier, and a probe
    /// that finds no change keeps them fresh.
    pub(super) fn only_schedule_loads(&self) -> bool {
        let refresh = &self.section.refresh;
        let follows_changes = !refresh.probe.is_absent() || !refresh.notify.is_absent();
        !self.has_keys && !follows_changes && !refresh.is_wrong
    }

    /// With `on_miss = "refuse"`, something other than a request must load an answer, first and again.
    ///
    /// Without parameters, the first load is at startup, and a schedule, a probe or a notification causes
    /// the next. With parameters, only the keys that are listed can be loaded, and only `ahead`, a probe or
    /// a notification can load them again. A probe or a notification waits for a change. Until it comes, an
    /// answer may expire and requests get a 503, which is what `refuse` asks for.
    pub(super) fn check_refuse(&self, refuse: &Span, report: &mut Report) {
        let section = self.section;
        let refresh = &section.refresh;
        // A key with a wrong value counts as present.
        let follows_changes =
            self.is_unclear() || !refresh.probe.is_absent() || !refresh.notify.is_absent();
        let is_scheduled = !refresh.every.is_absent() || !refresh.cron.is_absent();
        let is_warm = !section.warm.is_absent() || !section.warm_sql.is_absent();
        let is_ahead = match &refresh.ahead {
            Field::Absent => false,
            Field::Wrong => true,
            Field::Given(ahead) => ahead.value,
        };
        let is_repeated = is_ahead || follows_changes;
        let (message, help) = if self.has_keys && !is_warm {
            let help = if is_repeated {
                "list its keys with `warm` or `warm_sql`, or let requests load them: on_miss = \"load\""
            } else {
                "list its keys with `warm` or `warm_sql` and add refresh = { ahead = true }, or let \
             requests load them: on_miss = \"load\""
            };
            ("nothing would ever load this endpoint", help)
        } else if self.has_keys && !is_repeated {
            (
                "nothing would load this endpoint's keys again once they have expired",
                "add refresh = { ahead = true }, or on_miss = \"load\"",
            )
        } else if !self.has_keys && !is_scheduled && !follows_changes {
            (
                "nothing would load this endpoint again once it has expired",
                "add a schedule such as refresh = { every = \"10s\" }, or on_miss = \"load\"",
            )
        } else {
            return;
        };
        report.push(
            Mistake::new(message)
                .at(&section.span, "this endpoint")
                .at(refuse, "requests must not load it")
                .help(help),
        );
    }

    /// With `on_miss = "refuse"`, an answer must last until the schedule loads the next one.
    pub(super) fn check_gap(
        &self,
        max_age: &At<Duration>,
        refuse: &Span,
        freshness: &FreshnessPolicy,
        report: &mut Report,
    ) {
        let refresh = self.refresh;
        let cron = refresh.cron.as_ref().and_then(CronLine::longest_gap);
        let Some(gap) = refresh.every.into_iter().chain(cron).min() else {
            return;
        };
        let servable = max_age
            .value
            .saturating_add(freshness.stale_while_revalidate);
        if servable >= gap {
            return;
        }
        report.push(
            Mistake::new("answers of this endpoint expire before its schedule loads new ones")
                .at(
                    &max_age.span,
                    format!("with `stale_while_revalidate`, an answer is served for {servable:?}"),
                )
                .at(refuse, "requests must not load it")
                .note(format!("up to {gap:?} pass between two runs"))
                .help("remove `max_age`: then an answer is fresh until the next run has ended"),
        );
    }
}
