//! The keys that `[defaults]` and `[[endpoint]]` share, and whether they are consistent.
//!
//! An endpoint's own value takes precedence over that of `[defaults]`, and that over `[repository]` for the
//! two limits that it may set. Only values from the file can contradict each other: a built-in default
//! adapts.

use std::time::Duration;

use super::field;
use super::triggers::Triggers;
use crate::config::schema::{PolicySection, RepositorySection};
use crate::config::{At, Mistake, Report, Span};
use crate::plan::{CacheControl, FreshnessPolicy, OnMiss, Shape, UnknownParameters};

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
pub(super) struct ResolvedPolicy {
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

impl ResolvedPolicy {
    /// No shared cache may store an answer that needed a credential: RFC 9111, 3.5. `own` is what the endpoint
    /// itself sets; a `public` of `[defaults]` is meant for the others.
    pub(super) fn keep_private(&mut self, own: &PolicySection, report: &mut Report) {
        for (key, field) in [
            ("cache_control", &own.cache_control),
            ("cdn_cache_control", &own.cdn_cache_control),
        ] {
            let public = field
                .given()
                .filter(|at| at.value == CacheControl::Public.as_str());
            if let Some(public) = public {
                report.push(
                    Mistake::new(format!(
                        "`{key}` is public on an endpoint that needs a credential"
                    ))
                    .at(&public.span, "a shared cache would answer anybody")
                    .help("remove it, or set access = \"public\""),
                );
            }
        }
        if self.cache_control == CacheControl::Public {
            self.cache_control = CacheControl::Private;
        }
        self.cdn_cache_control = self
            .cdn_cache_control
            .filter(|directive| *directive != CacheControl::Public);
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

    /// Reports contradictions among these values and `defaults`. At least one side must be set here, so
    /// that a contradiction within `[defaults]` is reported once and not for every endpoint.
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
        let revalidate = first([
            &self.stale_while_revalidate,
            &defaults.stale_while_revalidate,
        ]);
        let error = first([&self.stale_if_error, &defaults.stale_if_error]);
        if let (Some(revalidate), Some(error)) = (revalidate, error)
            && error.value < revalidate.value
        {
            // Within stale_while_revalidate, a stale answer is served whether or not its refresh succeeds.
            report.push(
                Mistake::new("`stale_if_error` is shorter than `stale_while_revalidate`")
                    .at(&error.span, "has no effect")
                    .at(
                        &revalidate.span,
                        "a stale answer is served this long in any case",
                    )
                    .help("raise `stale_if_error` or lower `stale_while_revalidate`"),
            );
        }
    }

    /// The policy of an endpoint with these values.
    pub(super) fn resolve(
        &self,
        defaults: &Self,
        limits: &Limits,
        triggers: &Triggers<'_>,
        report: &mut Report,
    ) -> ResolvedPolicy {
        self.check(defaults, limits, report);
        let timeout = first([&self.timeout, &defaults.timeout])
            .map_or(limits.statement_timeout(), |at| at.value);
        let freshness = self.freshness(defaults, triggers, timeout, report);
        let on_miss = first([&self.on_miss, &defaults.on_miss]);
        if let Some(refuse) = on_miss.filter(|at| at.value == OnMiss::Refuse) {
            triggers.check_refuse(&refuse.span, report);
            if let Some(max_age) = self
                .max_age
                .as_ref()
                .filter(|_| triggers.only_schedule_loads())
            {
                triggers.check_gap(max_age, &refuse.span, &freshness, report);
            }
        }
        if let (Some(max_keys), false) = (&self.max_keys, triggers.has_keys) {
            report.push(
                Mistake::new("`max_keys` on an endpoint without parameters")
                    .at(&max_keys.span, "has no effect")
                    .help("remove it: one entry answers every request"),
            );
        }
        let max_keys = first([&self.max_keys, &defaults.max_keys]);
        let max_rows = first([&self.max_rows, &defaults.max_rows, &limits.max_rows]);
        let max_bytes = first([&self.max_bytes, &defaults.max_bytes, &limits.max_bytes]);
        let unknown = first([&self.unknown_params, &defaults.unknown_params]);
        let shape = first([&self.shape, &defaults.shape]);
        let cache_control = first([&self.cache_control, &defaults.cache_control]);
        let cdn = first([&self.cdn_cache_control, &defaults.cdn_cache_control]);
        ResolvedPolicy {
            shape: shape.map_or(Shape::Rows, |at| at.value),
            freshness,
            on_miss: on_miss.map_or(OnMiss::Load, |at| at.value),
            timeout,
            max_rows: max_rows.map_or(MAX_ROWS, |at| at.value),
            max_bytes: max_bytes.map_or(MAX_BYTES, |at| at.value),
            max_keys: max_keys.map_or(MAX_KEYS, |at| at.value),
            max_keys_written: max_keys.map(|at| at.span.clone()),
            unknown_parameters: unknown.map_or(UnknownParameters::Reject, |at| at.value),
            cache_control: cache_control.map_or(CacheControl::Public, |at| at.value),
            cdn_cache_control: cdn.map(|at| at.value),
        }
    }

    fn freshness(
        &self,
        defaults: &Self,
        triggers: &Triggers<'_>,
        timeout: Duration,
        report: &mut Report,
    ) -> FreshnessPolicy {
        let refresh = triggers.refresh;
        // A schedule is a better measure of freshness than a default, unless a probe or a notification shows
        // that data changes between its runs.
        let max_age = if refresh.is_scheduled() && !refresh.follows_changes() {
            self.max_age.as_ref().map(|at| at.value)
        } else {
            Some(self.unscheduled_max_age(defaults, triggers.probe_every, timeout, report))
        };
        let revalidate = first([
            &self.stale_while_revalidate,
            &defaults.stale_while_revalidate,
        ])
        .map(|at| at.value);
        let error = first([&self.stale_if_error, &defaults.stale_if_error]).map(|at| at.value);
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
        let written = first([&self.max_age, &defaults.max_age]);
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

/// The first value that is set, in order of precedence.
fn first<T, const N: usize>(values: [&Option<At<T>>; N]) -> Option<&At<T>> {
    values.into_iter().flatten().next()
}
