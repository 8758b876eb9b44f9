//! Keeps the keys of an issuer up to date for as long as the server runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until};

use super::fetch::{FetchError, fetch};
use super::issuer::{Change, Issuer};
use crate::backoff::{Backoff, Jitter};
use crate::observe::{Event, Observer};
use crate::plan::{JwksUrl, JwtKeys};

/// Keys are fetched again after the time that the issuer says, within these limits.
const FETCH_AT_MOST_EVERY: Duration = Duration::from_mins(1);
const FETCH_AT_LEAST_EVERY: Duration = Duration::from_hours(24);

/// If the issuer says nothing.
const FETCH_EVERY: Duration = Duration::from_mins(10);

/// How long keys stay in use while newer ones cannot be fetched.
const KEEP_FOR: Duration = Duration::from_hours(24);

/// After an attempt that failed.
const RETRY: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(30),
    jitter: Jitter::Half,
};

/// How often a file is checked, with one call of `stat`.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Keeps the keys up to date, for ever.
pub(super) async fn follow(issuer: Arc<Issuer>, observer: Observer) {
    let reports = Reports {
        issuer: &issuer,
        observer: &observer,
        failing: None,
    };
    match &issuer.settings.keys {
        JwtKeys::Url(url) => follow_url(&issuer, url, reports).await,
        JwtKeys::File(path) => follow_file(&issuer, &path.value, reports).await,
        JwtKeys::Secret(_) => std::future::pending().await,
    }
}

/// Fetches the keys, and returns how long they are fresh.
pub(super) async fn load(issuer: &Issuer, url: &JwksUrl) -> Result<(Change, Duration), FetchError> {
    let attempt = issuer.attempt(async {
        let fetched = fetch(url).await?;
        let change = issuer.replace(issuer.parse(&fetched.json)?);
        Ok::<_, FetchError>((change, fetched.max_age))
    });
    let (change, max_age) = attempt.await?;
    let max_age = max_age.unwrap_or(FETCH_EVERY);
    Ok((
        change,
        max_age.clamp(FETCH_AT_MOST_EVERY, FETCH_AT_LEAST_EVERY),
    ))
}

async fn follow_url(issuer: &Issuer, url: &JwksUrl, mut reports: Reports<'_>) {
    let mut failures = 0;
    // Keys that an earlier run of this task left are kept as long as any.
    let mut usable_until = Instant::now() + KEEP_FOR;
    loop {
        let next = match load(issuer, url).await {
            Ok((change, max_age)) => {
                failures = 0;
                usable_until = Instant::now() + max_age + KEEP_FOR;
                reports.loaded(change, Some(max_age + KEEP_FOR));
                max_age
            }
            Err(error) => {
                reports.failed(error.to_string());
                failures += 1;
                RETRY.wait(failures - 1)
            }
        };
        let next = Instant::now() + next;
        loop {
            tokio::select! {
                () = issuer.demanded() => break,
                () = sleep_until(next) => break,
                () = sleep_until(usable_until), if issuer.current().is_some() => issuer.forget(),
            }
        }
    }
}

/// Reads the file whenever it is replaced. A watch on its folder would miss some of the ways in which files are
/// replaced.
async fn follow_file(issuer: &Arc<Issuer>, path: &Path, mut reports: Reports<'_>) {
    let mut ticks = tokio::time::interval(CHECK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut known = None;
    loop {
        ticks.tick().await;
        let (reader, file) = (Arc::clone(issuer), path.to_owned());
        // Disks can be slow, and can be on a network.
        let check = move || {
            let seen = State::of(&file);
            let read = (known != Some(seen)).then(|| reader.read(&file));
            (seen, read)
        };
        match tokio::task::spawn_blocking(check).await {
            Ok((seen, Some(Ok(keys)))) => {
                known = Some(seen);
                reports.loaded(issuer.replace(keys), None);
            }
            // It is read at each check: it may be half written, or file descriptors may be lacking.
            Ok((_, Some(Err(error)))) => {
                known = None;
                reports.failed(error.to_string());
            }
            Ok((_, None)) => {}
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_ends) => return,
            },
        }
    }
}

/// What tells whether a file was replaced; `None` if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State(Option<[i128; 5]>);

impl State {
    fn of(path: &Path) -> Self {
        let of = fs::metadata(path).ok();
        // A symbolic link may point elsewhere now.
        Self(of.map(|of| {
            let (device, inode, length) = (of.dev().into(), of.ino().into(), of.size().into());
            [
                device,
                inode,
                length,
                of.ctime().into(),
                of.ctime_nsec().into(),
            ]
        }))
    }
}

/// What has been reported of an issuer.
struct Reports<'r> {
    issuer: &'r Issuer,
    observer: &'r Observer,
    /// The last cause, until an attempt succeeds.
    failing: Option<String>,
}

impl Reports<'_> {
    /// Keys that may be used for this long unless they are replaced.
    fn loaded(&mut self, change: Change, usable_for: Option<Duration>) {
        let (issuer, at) = (self.issuer.id, SystemTime::now());
        if self.failing.take().is_some() {
            self.observer.emit(&Event::IssuerKeysRecovered { issuer });
        }
        self.observer.emit(&Event::IssuerKeysLoaded {
            issuer,
            is_change: change == Change::Changed,
            at,
            usable_until: usable_for.and_then(|time| at.checked_add(time)),
        });
    }

    fn failed(&mut self, cause: String) {
        if self.failing.as_ref() != Some(&cause) {
            self.failing = Some(cause.clone());
            let issuer = self.issuer.id;
            self.observer
                .emit(&Event::IssuerKeysFailing { issuer, cause });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::sleep;

    use super::*;
    use crate::access::tokens::issuer::FETCH_TIMEOUT;
    use crate::access::tokens::tests;
    use crate::plan::{Algorithm, ClientId, IssuerId};

    /// An issuer whose keys are published at this address.
    async fn issuer() -> (TcpListener, JwksUrl, Arc<Issuer>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let url = JwksUrl::parse(&url).unwrap();
        let settings = tests::issuer(&[Algorithm::Es256], JwtKeys::Url(url.clone()));
        let issuer = Issuer::new(IssuerId::new(0), ClientId::new(0), &settings);
        (listener, url, Arc::new(issuer.unwrap()))
    }

    /// Answers one request with a key.
    async fn publish(listener: &TcpListener, cache_control: &str) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let number = "A".repeat(43);
        let key = json!({ "kty": "EC", "crv": "P-256", "x": number, "y": number });
        let body = json!({ "keys": [key] }).to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nCache-Control: {cache_control}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn keys_are_fetched_every_minute_at_most_and_every_day_at_least() {
        let (listener, url, issuer) = issuer().await;
        for (cache_control, seconds) in [
            ("public", 600),
            ("max-age=0", 60),
            ("no-store", 60),
            ("max-age=59", 60),
            ("max-age=61", 61),
            ("max-age=86399", 86_399),
            ("max-age=86401", 86_400),
            ("max-age=18446744073709551615", 86_400),
        ] {
            let (loaded, ()) = tokio::join!(load(&issuer, &url), publish(&listener, cache_control));
            let (_, next) = loaded.unwrap();
            assert_eq!(next, Duration::from_secs(seconds), "{cache_control}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_says_nothing_is_given_up() {
        let (_listener, url, issuer) = issuer().await;
        let began = Instant::now();
        let failed = load(&issuer, &url).await;
        assert!(matches!(failed, Err(FetchError::TooSlow)), "{failed:?}");
        assert!(began.elapsed() < FETCH_TIMEOUT + Duration::from_secs(1));
    }

    #[tokio::test]
    async fn old_keys_are_used_for_a_day_while_there_are_no_newer_ones() {
        let (listener, url, issuer) = issuer().await;
        let (loaded, ()) = tokio::join!(load(&issuer, &url), publish(&listener, "public"));
        assert!(loaded.is_ok());
        // From now on it answers nothing.
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        tokio::time::pause();
        tokio::spawn(follow(Arc::clone(&issuer), Observer::new(Vec::new())));
        let margin = Duration::from_secs(1);
        sleep(KEEP_FOR - margin).await;
        assert!(issuer.current().is_some());
        sleep(2 * margin).await;
        assert!(issuer.current().is_none());
    }
}
