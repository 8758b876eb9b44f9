//! The keys that `[defaults]` and `[[endpoint]]` share, and whether they are consistent.
//!
//! An endpoint's own value takes precedence over that of `[defaults]`, and that over `[repository]` for the
//! two limits that it may set. Only values from the file can contradict each other: a built-in default adapts.

use std::time::Duration;

use super::field;
use crate::config::schema::{EndpointSection, PolicySection, RepositorySection};
use crate::config::{At, Field, Mistake, Report, Span};
use crate::plan::{
    CacheControl, CronLine, FreshnessPolicy, OnMiss, Refresh, Shape, UnknownParameters,
};

/// A dashboard that polls every few seconds shows nothing noticeably older than without a cache.
const MAX_AGE: Duration = Duration::from_secs(10);
/// Long enough for a slow refresh, and short enough that nobody notices.
const STALE_WHILE_REVALIDATE: Duration = Duration::from_secs(60);
/// Covers a failover or a short maintenance.
const STALE_IF_ERROR: Duration = Duration::from_secs(3_600);
/// Shorter than the timeouts of most proxies.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// What a browser can still display.
const MAX_ROWS: u64 = 100_000;
const MAX_BYTES: u64 = 16 << 20;
/// More than anyone lists by hand, and few enough that a client cannot do harm with made-up keys.
const MAX_KEYS: u64 = 10_000;
/// Zero would make every answer stale at once.
const SHORTEST: Duration = Duration::from_millis(1);

/// The limits in `[repository]`, which hold for every endpoint.
pub(super) struct Limits {
    statement_timeout: Option<At<Duration>>,
    max_rows: Option<At<u64>>,
    max_bytes: Option<At<u64>>,
}

impl Limits {
    pub(super) fn read(section: &RepositorySection, report: &mut Report) -> Self {
        let timeout = &section.statement_timeout;
        Self {
            statement_timeout: field::duration("statement_timeout", timeout, SHORTEST, report),
            max_rows: field::count("max_rows", &section.max_rows, ROWS_ALLOWED, report),
            max_bytes: field::size("max_bytes", &section.max_bytes, report),
        }
    }

    pub(super) fn statement_timeout(&self) -> Duration {
        self.statement_timeout
            .as_ref()
            .map_or(STATEMENT_TIMEOUT, |at| at.value)
    }
}

const ROWS_ALLOWED: std::ops::RangeInclusive<u64> = 1..=1_000_000_000;
const KEYS_ALLOWED: std::ops::RangeInclusive<u64> = 1..=1_000_000_000;

/// The shared keys as one section sets them.
pub(super) struct Policy {
    shape: Option<At<Shape>>,
    max_age: Option<At<Duration>>,
    stale_while_revalidate: Option<At<Duration>>,
    stale_if_error: Option<At<Duration>>,
    timeout: Option<At<Duration>>,
    max_rows: Option<At<u64>>,
    max_bytes: Option<At<u64>>,
    max_keys: Option<At<u64>>,
    on_miss: Option<At<OnMiss>>,
    unknown_params: Option<At<UnknownParameters>>,
    cache_control: Option<At<CacheControl>>,
    cdn_cache_control: Option<At<CacheControl>>,
}

/// The policy of one endpoint, all defaults applied.
pub(super) struct Settled {
    pub(super) shape: Shape,
    pub(super) freshness: FreshnessPolicy,
    pub(super) on_miss: OnMiss,
    pub(super) timeout: Duration,
    pub(super) max_rows: u64,
    pub(super) max_bytes: u64,
    pub(super) max_keys: u64,
    /// Where `max_keys` is written, if anywhere.
    pub(super) max_keys_written: Option<Span>,
    pub(super) unknown_parameters: UnknownParameters,
    pub(super) cache_control: CacheControl,
    pub(super) cdn_cache_control: Option<CacheControl>,
}

/// The other parts of an endpoint that its policy depends on.
pub(super) struct Surroundings<'s> {
    pub(super) section: &'s EndpointSection,
    pub(super) refresh: &'s Refresh,
    /// The interval of its probe.
    pub(super) probe_every: Option<&'s At<Duration>>,
    pub(super) has_parameters: bool,
}

impl Surroundings<'_> {
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

    /// Whether only a schedule refreshes answers: a probe or a notification may do so earlier, and a probe that
    /// finds no change keeps them fresh.
    fn only_schedule_loads(&self) -> bool {
        let refresh = &self.section.refresh;
        let follows_changes = !refresh.probe.is_absent() || !refresh.notify.is_absent();
        !self.has_parameters && !follows_changes && !refresh.is_wrong
    }
}

impl Policy {
    pub(super) fn read(section: &PolicySection, report: &mut Report) -> Self {
        let shapes = Shape::ALL.map(|shape| (shape.as_str(), shape));
        let on_miss = [("load", OnMiss::Load), ("refuse", OnMiss::Refuse)];
        let unknown = [
            ("reject", UnknownParameters::Reject),
            ("ignore", UnknownParameters::Ignore),
        ];
        let stored = CacheControl::ALL.map(|stored| (stored.as_str(), stored));
        let revalidate = &section.stale_while_revalidate;
        Self {
            shape: field::word("shape", &section.shape, &shapes, report),
            max_age: field::duration("max_age", &section.max_age, SHORTEST, report),
            stale_while_revalidate: field::duration(
                "stale_while_revalidate",
                revalidate,
                Duration::ZERO,
                report,
            ),
            stale_if_error: field::duration(
                "stale_if_error",
                &section.stale_if_error,
                Duration::ZERO,
                report,
            ),
            timeout: field::duration("timeout", &section.timeout, SHORTEST, report),
            max_rows: field::count("max_rows", &section.max_rows, ROWS_ALLOWED, report),
            max_bytes: field::size("max_bytes", &section.max_bytes, report),
            max_keys: field::count("max_keys", &section.max_keys, KEYS_ALLOWED, report),
            on_miss: field::word("on_miss", &section.on_miss, &on_miss, report),
            unknown_params: field::word(
                "unknown_params",
                &section.unknown_params,
                &unknown,
                report,
            ),
            cache_control: field::word("cache_control", &section.cache_control, &stored, report),
            cdn_cache_control: field::word(
                "cdn_cache_control",
                &section.cdn_cache_control,
                &stored,
                report,
            ),
        }
    }

    /// Reports contradictions among these values and `defaults`. At least one side must be set here, so that a
    /// contradiction within `[defaults]` is reported once and not for every endpoint.
    pub(super) fn check(&self, defaults: &Self, limits: &Limits, report: &mut Report) {
        let statement_timeout = limits.statement_timeout();
        if let Some(timeout) = self
            .timeout
            .as_ref()
            .filter(|at| at.value > statement_timeout)
        {
            let mistake = Mistake::new("`timeout` is longer than `statement_timeout`")
                .at(&timeout.span, "no query may run this long")
                .help("lower it, or raise `statement_timeout` of [repository]");
            report.push(match &limits.statement_timeout {
                Some(limit) => {
                    mistake.at(&limit.span, "Postgres cancels every statement after this")
                }
                None => mistake.note("`statement_timeout` is 30s by default"),
            });
        }
        if self.stale_while_revalidate.is_none() && self.stale_if_error.is_none() {
            return;
        }
        let revalidate = self
            .stale_while_revalidate
            .as_ref()
            .or(defaults.stale_while_revalidate.as_ref());
        let error = self
            .stale_if_error
            .as_ref()
            .or(defaults.stale_if_error.as_ref());
        if let (Some(revalidate), Some(error)) = (revalidate, error)
            && error.value < revalidate.value
        {
            // Within stale_while_revalidate, a stale answer is served whether or not its refresh succeeds.
            report.push(
                Mistake::new("`stale_if_error` is shorter than `stale_while_revalidate`")
                    .at(&error.span, "would have no effect")
                    .at(
                        &revalidate.span,
                        "a stale answer is served this long in any case",
                    )
                    .help("raise `stale_if_error` or lower `stale_while_revalidate`"),
            );
        }
    }

    /// The policy of an endpoint with these values.
    pub(super) fn settle(
        &self,
        defaults: &Self,
        limits: &Limits,
        around: &Surroundings<'_>,
        report: &mut Report,
    ) -> Settled {
        self.check(defaults, limits, report);
        let timeout = self.timeout.as_ref().or(defaults.timeout.as_ref());
        let timeout = timeout.map_or(limits.statement_timeout(), |at| at.value);
        let freshness = self.freshness(defaults, around, timeout, report);
        let value = |own: &Option<At<u64>>, default: &Option<At<u64>>, limit: &Option<At<u64>>| {
            [own, default, limit]
                .into_iter()
                .flatten()
                .next()
                .map(|at| at.value)
        };
        let on_miss = self.on_miss.as_ref().or(defaults.on_miss.as_ref());
        if let Some(refuse) = on_miss.filter(|at| at.value == OnMiss::Refuse) {
            check_refuse(&refuse.span, around, report);
            if let Some(max_age) = self
                .max_age
                .as_ref()
                .filter(|_| around.only_schedule_loads())
            {
                check_gap(max_age, &refuse.span, &freshness, around.refresh, report);
            }
        }
        if let (Some(max_keys), false) = (&self.max_keys, around.has_parameters) {
            report.push(
                Mistake::new("`max_keys` on an endpoint without parameters")
                    .at(&max_keys.span, "would have no effect")
                    .help("remove it: one entry answers every request"),
            );
        }
        let max_keys = self.max_keys.as_ref().or(defaults.max_keys.as_ref());
        let unknown = self
            .unknown_params
            .as_ref()
            .or(defaults.unknown_params.as_ref());
        let shape = self.shape.as_ref().or(defaults.shape.as_ref());
        let stored = |own: &Option<At<CacheControl>>, default: &Option<At<CacheControl>>| {
            own.as_ref().or(default.as_ref()).map(|at| at.value)
        };
        let cdn_cache_control = stored(&self.cdn_cache_control, &defaults.cdn_cache_control);
        Settled {
            shape: shape.map_or(Shape::Rows, |at| at.value),
            freshness,
            on_miss: on_miss.map_or(OnMiss::Load, |at| at.value),
            timeout,
            max_rows: value(&self.max_rows, &defaults.max_rows, &limits.max_rows)
                .unwrap_or(MAX_ROWS),
            max_bytes: value(&self.max_bytes, &defaults.max_bytes, &limits.max_bytes)
                .unwrap_or(MAX_BYTES),
            max_keys: max_keys.map_or(MAX_KEYS, |at| at.value),
            max_keys_written: max_keys.map(|at| at.span.clone()),
            unknown_parameters: unknown.map_or(UnknownParameters::Reject, |at| at.value),
            cache_control: stored(&self.cache_control, &defaults.cache_control)
                .unwrap_or(CacheControl::Public),
            cdn_cache_control,
        }
    }

    fn freshness(
        &self,
        defaults: &Self,
        around: &Surroundings<'_>,
        timeout: Duration,
        report: &mut Report,
    ) -> FreshnessPolicy {
        let own = |at: &Option<At<Duration>>, default: &Option<At<Duration>>| {
            at.as_ref().or(default.as_ref()).map(|at| at.value)
        };
        let refresh = around.refresh;
        // A schedule is a better measure of freshness than a default, unless a probe or a notification shows
        // that data changes between its runs.
        let max_age = if refresh.is_scheduled() && !refresh.follows_changes() {
            self.max_age.as_ref().map(|at| at.value)
        } else {
            Some(self.unscheduled_max_age(defaults, around.probe_every, timeout, report))
        };
        let revalidate = own(
            &self.stale_while_revalidate,
            &defaults.stale_while_revalidate,
        );
        let error = own(&self.stale_if_error, &defaults.stale_if_error);
        // A limit that is not set adapts to the one that is.
        let stale_while_revalidate = revalidate
            .unwrap_or_else(|| STALE_WHILE_REVALIDATE.min(error.unwrap_or(Duration::MAX)));
        let stale_if_error = error.unwrap_or_else(|| STALE_IF_ERROR.max(stale_while_revalidate));
        FreshnessPolicy {
            max_age,
            stale_while_revalidate,
            stale_if_error,
        }
    }

    /// How long an answer is fresh if no schedule decides. A probe that finds no change keeps an entry fresh
    /// until `max_age` after the probe began, so it must run more often than that.
    fn unscheduled_max_age(
        &self,
        defaults: &Self,
        probe_every: Option<&At<Duration>>,
        timeout: Duration,
        report: &mut Report,
    ) -> Duration {
        let written = self.max_age.as_ref().or(defaults.max_age.as_ref());
        match (written, probe_every) {
            (Some(max_age), Some(every)) if every.value >= max_age.value => {
                let help = if self.max_age.is_some() {
                    "raise `max_age` to at least twice this, or let the probe run more often"
                } else {
                    "give the endpoint a `max_age` of at least twice this, or let the probe run more often"
                };
                report.push(
                    Mistake::new("the probe runs too rarely for this `max_age`")
                        .at(&every.span, "not shorter than `max_age`")
                        .at(&max_age.span, "an answer would go stale between two probes")
                        .help(help),
                );
                max_age.value
            }
            (Some(max_age), _) => max_age.value,
            // Leaves room for one missed and one slow probe.
            (None, Some(every)) if every.value >= MAX_AGE => {
                every.value.saturating_mul(2).saturating_add(timeout)
            }
            (None, _) => MAX_AGE,
        }
    }
}

/// With `on_miss = "refuse"`, something other than a request must load an answer, first and again.
///
/// Without parameters, the first load is at startup, and a schedule, a probe or a notification causes the next.
/// With parameters, only the keys that are listed can be loaded, and only `ahead`, a probe or a notification
/// can load them again. A probe or a notification waits for a change. Until it comes, an answer may expire and
/// requests get a 503, which is what `refuse` asks for.
fn check_refuse(refuse: &Span, around: &Surroundings<'_>, report: &mut Report) {
    let section = around.section;
    let refresh = &section.refresh;
    // A key with a wrong value counts as present.
    let follows_changes =
        around.is_unclear() || !refresh.probe.is_absent() || !refresh.notify.is_absent();
    let is_scheduled = !refresh.every.is_absent() || !refresh.cron.is_absent();
    let is_warm = !section.warm.is_absent() || !section.warm_sql.is_absent();
    let is_ahead = match &refresh.ahead {
        Field::Absent => false,
        Field::Wrong => true,
        Field::Given(ahead) => ahead.value,
    };
    let is_repeated = is_ahead || follows_changes;
    let (message, help) = if around.has_parameters && !is_warm {
        let help = if is_repeated {
            "list its keys with `warm` or `warm_sql`, or let requests load them: on_miss = \"load\""
        } else {
            "list its keys with `warm` or `warm_sql` and add refresh = { ahead = true }, or let \
             requests load them: on_miss = \"load\""
        };
        ("nothing would ever load this endpoint", help)
    } else if around.has_parameters && !is_repeated {
        (
            "nothing would load this endpoint's keys again once they have expired",
            "add refresh = { ahead = true }, or on_miss = \"load\"",
        )
    } else if !around.has_parameters && !is_scheduled && !follows_changes {
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
fn check_gap(
    max_age: &At<Duration>,
    refuse: &Span,
    freshness: &FreshnessPolicy,
    refresh: &Refresh,
    report: &mut Report,
) {
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
