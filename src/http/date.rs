//! `Date` (RFC 9110, 6.6.1). hyper sets it, from a value that each thread renews when the wall clock has
//! passed it: after the clock was set back, that value stands still in the future. Until the clock has caught
//! up, Larder sets the field itself.

use std::cell::{Cell, RefCell};
use std::time::SystemTime;

use httpdate::HttpDate;
use warp::http::HeaderValue;

/// A value, and the second since the epoch that it names.
struct Dated {
    second: u64,
    value: HeaderValue,
}

thread_local! {
    static DATED: RefCell<Option<Dated>> = const { RefCell::new(None) };
    /// The latest moment that the wall clock showed on this thread.
    static LATEST: Cell<SystemTime> = const { Cell::new(SystemTime::UNIX_EPOCH) };
}

/// The value of `now`, where hyper has seen a later moment.
pub(super) fn after_set_back(now: SystemTime) -> Option<HeaderValue> {
    LATEST.with(|latest| {
        if now >= latest.get() {
            latest.set(now);
            return None;
        }
        Some(value(now))
    })
}

/// The value of `now`.
fn value(now: SystemTime) -> HeaderValue {
    with_value(now, HeaderValue::clone)
}

/// Writes the line of `now`.
pub(super) fn write(now: SystemTime, out: &mut Vec<u8>) {
    with_value(now, |value| {
        for part in [b"date: ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    });
}

fn with_value<R>(now: SystemTime, look: impl FnOnce(&HeaderValue) -> R) -> R {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH);
    let second = since_epoch.unwrap_or_default().as_secs();
    DATED.with_borrow_mut(|dated| {
        let dated = match dated {
            Some(dated) if dated.second == second => dated,
            _ => {
                let value = HeaderValue::try_from(HttpDate::from(now).to_string());
                let value = value.expect("a date is visible ASCII");
                dated.insert(Dated { second, value })
            }
        };
        look(&dated.value)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_left_to_hyper_unless_the_clock_was_set_back() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(after_set_back(at(100)), None);
        assert_eq!(after_set_back(at(101)), None);
        let back = after_set_back(at(40)).unwrap();
        assert_eq!(back, "Thu, 01 Jan 1970 00:00:40 GMT");
        assert!(after_set_back(at(100)).is_some());
        assert_eq!(after_set_back(at(101)), None, "the clock has caught up");
    }

    #[test]
    fn it_is_that_of_the_second_whichever_way_the_clock_goes() {
        // RFC 9110, 5.6.7
        let then = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_250);
        let before = then - Duration::from_millis(251);
        for (now, expected) in [
            (then, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (before, "Sun, 06 Nov 1994 08:49:36 GMT"),
            (
                then + Duration::from_millis(749),
                "Sun, 06 Nov 1994 08:49:37 GMT",
            ),
            (
                then + Duration::from_millis(750),
                "Sun, 06 Nov 1994 08:49:38 GMT",
            ),
            (SystemTime::UNIX_EPOCH, "Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            assert_eq!(value(now), expected);
            let mut line = Vec::new();
            write(now, &mut line);
            assert_eq!(line, format!("date: {expected}\r\n").as_bytes());
        }
    }
}
