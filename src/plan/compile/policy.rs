//! The keys that `[defaults]` and `[[endpoint]]` share, and whether they agree with one another.
//!
//! An endpoint's own value counts before that of `[defaults]`, and that before `[repository]` for the
//! two limits it may set. Only what was written can contradict: a value nobody wrote gives way.

use std::time::Duration;

use super::field;
use crate::config::schema::{EndpointSection, PolicySection, RepositorySection};
use crate::config::{At, Field, Mistake, Report, Span};
use crate::plan::{
    CacheControl, CronLine, FreshnessPolicy, OnMiss, Refresh, Shape, UnknownParameters,
};

/// A dashboard that polls every few seconds shows nothing older than it would without a cache.
const MAX_AGE: Duration = Duration::from_secs(10);
/// Long enough for a slow refresh, short enough that nobody wonders.
const STALE_WHILE_REVALIDATE: Duration = Duration::from_secs(60);
/// A failover or a short maintenance goes by unnoticed.
const STALE_IF_ERROR: Duration = Duration::from_secs(3_600);
/// Shorter than most proxies' patience.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// What a browser can still show.
const MAX_ROWS: u64 = 100_000;
const MAX_BYTES: u64 = 16 << 20;
/// More than anyone names by hand, and few enough that a client that makes keys up stays cheap.
const MAX_KEYS: u64 = 10_000;
/// One millisecond is as good as none, and none would make every answer stale.
const SHORTEST: Duration = Duration::from_millis(1);

/// What `[repository]` holds every endpoint to.
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

/// One section's part of the shared keys.
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

/// What holds for one endpoint.
pub(super) struct Settled {
    pub(super) shape: Shape,
    pub(super) freshness: FreshnessPolicy,
    pub(super) on_miss: OnMiss,
    pub(super) timeout: Duration,
    pub(super) max_rows: u64,
    pub(super) max_bytes: u64,
    pub(super) max_keys: u64,
    /// Where `max_keys` is written, if it is.
    pub(super) max_keys_written: Option<Span>,
    pub(super) unknown_parameters: UnknownParameters,
    pub(super) cache_control: CacheControl,
    pub(super) cdn_cache_control: Option<CacheControl>,
}

/// What else is said of an endpoint, as far as its policy depends on it.
pub(super) struct Surroundings<'s> {
    pub(super) section: &'s EndpointSection,
    pub(super) refresh: &'s Refresh,
    /// The time between two askings of its probe.
    pub(super) probe_every: Option<&'s At<Duration>>,
    pub(super) has_parameters: bool,
}

impl Surroundings<'_> {
    /// Whether `refresh` is there and does not say when, which has been reported: what it was meant to
    /// say is not known.
    fn is_unclear(&self) -> bool {
        let refresh = &self.section.refresh;
        let is_silent = refresh.every.is_absent()
            && refresh.cron.is_absent()
            && refresh.probe.is_absent()
            && refresh.notify.is_absent()
            && refresh.ahead.is_absent();
        refresh.is_wrong || (refresh.span.is_some() && is_silent)
    }

    /// Whether answers come from a schedule alone. Whatever tells of news may bring them sooner, and a
    /// probe that finds none keeps them fresh.
    fn only_schedule_loads(&self) -> bool {
        let refresh = &self.section.refresh;
        let is_told = !refresh.probe.is_absent() || !refresh.notify.is_absent();
        !self.has_parameters && !is_told && !refresh.is_wrong
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

    /// Reports what contradicts between these values and `defaults`, where at least one side is
    /// written here: what `[defaults]` says of itself is reported once, not for every endpoint.
    pub(super) fn check(&self, defaults: &Self, limits: &Limits, report: &mut Report) {
        let statement_timeout = limits.statement_timeout();
        if let Some(timeout) = self
            .timeout
            .as_ref()
            .filter(|at| at.value > statement_timeout)
        {
            // Postgres would end the query before anyone has waited that long.
            let mistake = Mistake::new("`timeout` is longer than `statement_timeout`")
                .at(&timeout.span, "no query may run this long")
                .help("lower it, or raise `statement_timeout` of [repository]");
            report.push(match &limits.statement_timeout {
                Some(limit) => mistake.at(&limit.span, "Postgres ends every statement here"),
                None => mistake.note("`statement_timeout` is 30s where nothing else is written"),
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
            // Within stale_while_revalidate an old answer is served whether or not its refresh
            // succeeds, so the shorter limit would limit nothing.
            report.push(
                Mistake::new("`stale_if_error` is shorter than `stale_while_revalidate`")
                    .at(&error.span, "would have no effect")
                    .at(
                        &revalidate.span,
                        "an old answer is served this long in any case",
                    )
                    .help("raise `stale_if_error` or lower `stale_while_revalidate`"),
            );
        }
    }

    /// What holds for an endpoint that writes these values.
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
        // A schedule says better than a default how long an answer is good: unless something else
        // tells when there is something new, and so that data change between the schedule's runs.
        let max_age = if refresh.is_scheduled() && !refresh.is_told() {
            self.max_age.as_ref().map(|at| at.value)
        } else {
            Some(self.max_age_told(defaults, around.probe_every, timeout, report))
        };
        let revalidate = own(
            &self.stale_while_revalidate,
            &defaults.stale_while_revalidate,
        );
        let error = own(&self.stale_if_error, &defaults.stale_if_error);
        // A limit that nobody wrote gives way to the one that was.
        let stale_while_revalidate = revalidate
            .unwrap_or_else(|| STALE_WHILE_REVALIDATE.min(error.unwrap_or(Duration::MAX)));
        let stale_if_error = error.unwrap_or_else(|| STALE_IF_ERROR.max(stale_while_revalidate));
        FreshnessPolicy {
            max_age,
            stale_while_revalidate,
            stale_if_error,
        }
    }

    /// How long an answer is fresh where no schedule decides. A probe that finds nothing new keeps an
    /// entry fresh until `max_age` after the probe began, so it must ask more often than that.
    fn max_age_told(
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
                    "raise `max_age` to twice this or more, or let the probe ask more often"
                } else {
                    "give the endpoint a `max_age` of twice this or more, or let the probe ask more often"
                };
                report.push(
                    Mistake::new("the probe asks too seldom for this `max_age`")
                        .at(&every.span, "not shorter than `max_age`")
                        .at(
                            &max_age.span,
                            "an answer would be stale before it is asked again",
                        )
                        .help(help),
                );
                max_age.value
            }
            (Some(max_age), _) => max_age.value,
            // Nobody asked for ten seconds: one probe may be missed, and the next take its time.
            (None, Some(every)) if every.value >= MAX_AGE => {
                every.value.saturating_mul(2).saturating_add(timeout)
            }
            (None, _) => MAX_AGE,
        }
    }
}

/// With `on_miss = "refuse"` something other than a request must load what is missing, at first and
/// again.
///
/// Without parameters the first load comes at start, and a schedule, a probe or a notification brings
/// the next. With parameters only the keys that are named can be loaded at all, and what loads them
/// again is what reaches keys with arguments: `ahead`, a probe or a notification. A probe and a
/// notification wait for news: until these come an answer may expire, and is a 503 then, which is what
/// `refuse` asks for.
fn check_refuse(refuse: &Span, around: &Surroundings<'_>, report: &mut Report) {
    let section = around.section;
    let refresh = &section.refresh;
    // What is there with a mistake in it is meant to be there.
    let is_told = around.is_unclear() || !refresh.probe.is_absent() || !refresh.notify.is_absent();
    let is_scheduled = !refresh.every.is_absent() || !refresh.cron.is_absent();
    let is_warm = !section.warm.is_absent() || !section.warm_sql.is_absent();
    let is_ahead = match &refresh.ahead {
        Field::Absent => false,
        Field::Wrong => true,
        Field::Given(ahead) => ahead.value,
    };
    let is_repeated = is_ahead || is_told;
    let (message, help) = if around.has_parameters && !is_warm {
        let help = if is_repeated {
            "name its keys with `warm` or `warm_sql`, or let requests load them: on_miss = \"load\""
        } else {
            "name its keys with `warm` or `warm_sql` and add refresh = { ahead = true }, or let \
             requests load them: on_miss = \"load\""
        };
        ("nothing would ever load this endpoint", help)
    } else if around.has_parameters && !is_repeated {
        (
            "nothing would load this endpoint's keys again once they have expired",
            "add refresh = { ahead = true }, or on_miss = \"load\"",
        )
    } else if !around.has_parameters && !is_scheduled && !is_told {
        (
            "nothing would load this endpoint again once it has expired",
            "add a schedule, as refresh = { every = \"10s\" }, or on_miss = \"load\"",
        )
    } else {
        return;
    };
    report.push(
        Mistake::new(message)
            .at(&section.span, "this one")
            .at(refuse, "a request may not load it")
            .help(help),
    );
}

/// With `on_miss = "refuse"` an answer must last until the schedule brings the next one.
fn check_gap(
    max_age: &At<Duration>,
    refuse: &Span,
    freshness: &FreshnessPolicy,
    refresh: &Refresh,
    report: &mut Report,
) {
    let cron = refresh.cron.as_ref().and_then(CronLine::long_gap);
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
        Mistake::new("answers of this endpoint expire before its schedule brings new ones")
            .at(
                &max_age.span,
                format!("with `stale_while_revalidate` an answer is served for {servable:?}"),
            )
            .at(refuse, "a request may not load it")
            .note(format!("up to {gap:?} pass between two runs"))
            .help("remove `max_age`: then an answer is fresh until the next run has ended"),
    );
}
