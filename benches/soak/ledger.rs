//! Promises, answers, and broken promises.
//!
//! No rule needs a tolerance, because each uses a moment on the safe side: an answer is decided after its request
//! and before its arrival, a query begins before the data it sees, and a version is committed before its writer
//! knows.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ::larder::plan::{Endpoint, Plan};
use tokio::time::Instant;

use crate::client::Answer;
use crate::versions::Versions;

/// Broken promises that are reported one by one.
const REPORTED_MAX: usize = 20;

/// Compares answers with promises.
pub(crate) struct Ledger {
    begun: Instant,
    promises: BTreeMap<String, Promise>,
    pub(crate) versions: Versions,
    seen: Mutex<Seen>,
}

/// What an endpoint promises.
struct Promise {
    /// No answer is older, counted from the moment its query began.
    at_most: Duration,
    /// An answer this old may still be served.
    at_least: Duration,
    is_resident: bool,
    /// Whether its age is the age of its data. A probe that finds nothing new keeps an answer fresh.
    ages: bool,
}

#[derive(Default)]
struct Seen {
    fault: &'static str,
    /// Answers by endpoint, status, and cache status or problem code.
    answers: BTreeMap<(String, u16, String), u64>,
    targets: BTreeMap<String, Target>,
    /// The greatest age, and the longest time behind the data, by endpoint.
    oldest: BTreeMap<String, (u64, Duration)>,
    broken: Vec<String>,
    broken_count: u64,
    connection_errors: BTreeMap<String, u64>,
    writer_errors: u64,
}

/// What is known of a target.
#[derive(Clone, Copy, Default)]
struct Target {
    /// The query of its entry began after this.
    young: Option<Instant>,
    /// The newest version it has shown.
    version: u64,
}

/// What was known when a request was sent.
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) by_the_clock: SystemTime,
    pub(crate) young: Option<Instant>,
    pub(crate) version: u64,
}

impl Ledger {
    pub(crate) fn new(plan: &Plan, versions: Versions) -> Self {
        let promises = plan.endpoints().iter().map(|endpoint| {
            let path = endpoint.path.as_str().to_owned();
            (path, Promise::of(endpoint))
        });
        Self {
            begun: Instant::now(),
            promises: promises.collect(),
            versions,
            seen: Mutex::default(),
        }
    }

    /// The latest moment after which the query of the target's entry is known to have begun.
    pub(crate) fn youngest(&self, target: &str) -> Option<Instant> {
        self.seen().targets.get(target)?.young
    }

    /// The newest version the target has shown.
    pub(crate) fn seen_version(&self, target: &str) -> u64 {
        let seen = self.seen();
        seen.targets.get(target).map_or(0, |target| target.version)
    }

    /// Records an answer, and the promise that it breaks.
    pub(crate) fn record(&self, target: &str, asked: &Asked, answer: &Answer) {
        let came = Instant::now();
        let endpoint = endpoint_of(target);
        let Some(promise) = self.promises.get(&endpoint) else {
            return;
        };
        let outdated = answer
            .version()
            .filter(|_| answer.status == 200)
            .map(|version| (version, self.versions.outdated(version, asked.at)));
        let complaint = if answer.status == 200 {
            promise.complaint(asked, answer, outdated)
        } else {
            promise.absence(asked, answer, came)
        };
        let mut seen = self.seen();
        if let Some(complaint) = complaint {
            let at = (came - self.begun).as_secs_f64();
            let fault = seen.fault;
            seen.broken_count += 1;
            if seen.broken.len() < REPORTED_MAX {
                let complaint = format!("{target} at {at:.1} s (fault: {fault}): {complaint}");
                seen.broken.push(complaint);
            }
        }
        let found = if answer.status == 200 {
            found(&answer.cache_status).to_owned()
        } else {
            answer.code()
        };
        let key = (endpoint.clone(), answer.status, found);
        *seen.answers.entry(key).or_default() += 1;
        if let (Some(age), Some((version, outdated))) = (answer.age, outdated) {
            let oldest = seen.oldest.entry(endpoint).or_default();
            *oldest = (oldest.0.max(age), oldest.1.max(outdated));
            let known = seen.targets.entry(target.to_owned()).or_default();
            // The header has whole seconds, rounded down.
            let young = asked.at.checked_sub(Duration::from_secs(age + 1));
            known.young = known.young.max(young);
            known.version = known.version.max(version);
        }
    }

    /// Records which fault begins now.
    pub(crate) fn note_fault(&self, fault: &'static str) {
        self.seen().fault = fault;
    }

    /// Records a connection to Larder that was refused or lost, or an answer that did not arrive.
    pub(crate) fn connection_failed(&self, error: &std::io::Error) {
        let mut seen = self.seen();
        *seen.connection_errors.entry(error.to_string()).or_default() += 1;
    }

    pub(crate) fn writer_failed(&self, _: &tokio_postgres::Error) {
        self.seen().writer_errors += 1;
    }

    /// The broken promises, and how many more there are.
    pub(crate) fn broken(&self) -> Vec<String> {
        let seen = self.seen();
        let mut broken = seen.broken.clone();
        let reported = broken.len() as u64;
        if seen.broken_count > reported {
            broken.push(format!("… and {} more", seen.broken_count - reported));
        }
        for (error, count) in &seen.connection_errors {
            broken.push(format!("{count} connections failed: {error}"));
        }
        broken
    }

    pub(crate) fn report(&self) -> String {
        let seen = self.seen();
        let mut text = format!(
            "{:<14} {:>6} {:<10} {:>9}\n",
            "endpoint", "status", "found", "answers"
        );
        // Writing to a String does not fail.
        for ((endpoint, status, found), count) in &seen.answers {
            let _ = writeln!(text, "{endpoint:<14} {status:>6} {found:<10} {count:>9}");
        }
        let _ = writeln!(
            text,
            "\n{:<14} {:>9} {:>12} {:>12}",
            "endpoint", "limit s", "greatest Age", "data behind s"
        );
        for (endpoint, (age, outdated)) in &seen.oldest {
            let limit = self.promises[endpoint].at_most.as_secs_f64();
            let outdated = outdated.as_secs_f64();
            let _ = writeln!(
                text,
                "{endpoint:<14} {limit:>9.2} {age:>12} {outdated:>12.2}"
            );
        }
        let _ = write!(
            text,
            "\nversions written: {}; writes that failed: {}",
            self.versions.newest(),
            seen.writer_errors
        );
        text
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Promise {
    fn of(endpoint: &Endpoint) -> Self {
        let policy = endpoint.freshness;
        let lifetime = |until_refresh| policy.lifetime(Some(until_refresh), endpoint.timeout);
        Self {
            at_most: lifetime(endpoint.refresh.every.unwrap_or_default()).limit(),
            at_least: lifetime(Duration::ZERO).limit(),
            is_resident: endpoint.is_resident(),
            ages: endpoint.refresh.probe.is_none(),
        }
    }

    /// What is wrong with an answer.
    fn complaint(
        &self,
        asked: &Asked,
        answer: &Answer,
        outdated: Option<(u64, Duration)>,
    ) -> Option<String> {
        let limit = self.at_most;
        let Some((version, outdated)) = outdated else {
            return Some("an answer without a version".to_owned());
        };
        let rows = answer.rows()?;
        if rows.iter().any(|row| row["version"] != version) || ![1, 1_000].contains(&rows.len()) {
            return Some("a mixture of versions, or an incomplete answer".to_owned());
        }
        if answer
            .age
            .is_none_or(|age| Duration::from_secs(age) > limit)
        {
            return Some(format!("Age {:?}, beyond {limit:?}", answer.age));
        }
        if outdated > limit {
            return Some(format!(
                "data that changed {outdated:?} ago, beyond {limit:?}"
            ));
        }
        let at = rows[0]["at"]
            .as_f64()
            .and_then(|at| Duration::try_from_secs_f64(at).ok());
        let loaded = at.map(|at| SystemTime::UNIX_EPOCH + at);
        let age = loaded.and_then(|loaded| asked.by_the_clock.duration_since(loaded).ok());
        if let Some(age) = age.filter(|age| self.ages && *age > limit) {
            return Some(format!("data of {age:?} ago, beyond {limit:?}"));
        }
        (version < asked.version).then(|| {
            let before = asked.version;
            format!("version {version}, after {before} had been shown")
        })
    }

    /// What is wrong with an error.
    fn absence(&self, asked: &Asked, answer: &Answer, came: Instant) -> Option<String> {
        let status = answer.status;
        if !matches!(status, 502..=504) {
            return Some(format!("a {status}"));
        }
        if status == 503 && !answer.has_retry_after {
            return Some("a 503 without Retry-After".to_owned());
        }
        let young = asked.young.filter(|_| self.is_resident)?;
        (came < young + self.at_least).then(|| {
            let age = came - young;
            format!("a {status}, though its answer was no older than {age:?}")
        })
    }
}

fn endpoint_of(target: &str) -> String {
    match target[1..].split_once('/') {
        Some((name, _)) => format!("/{name}/{{n}}"),
        None => target.to_owned(),
    }
}

/// The cache status of an answer, as in the metrics' `cache` label.
fn found(cache_status: &str) -> &'static str {
    let says = |word| cache_status.split(';').any(|part| part.trim() == word);
    if says("detail=stale") {
        "stale"
    } else if says("hit") {
        "hit"
    } else if says("collapsed") {
        "coalesced"
    } else if says("fwd=miss") {
        "miss"
    } else {
        "none"
    }
}
