//! `Date` (RFC 9110, 6.6.1) while the wall clock is behind. hyper sets the field, from a value that each
//! thread renews once the wall clock has passed it: after the clock was set back, that value stands
//! still in the future. Until the clock has caught up, Larder sets the field itself.

use std::cell::Cell;
use std::time::SystemTime;

use warp::http::HeaderValue;

thread_local! {
    /// The latest moment that the wall clock showed on this thread.
    static LATEST: Cell<SystemTime> = const { Cell::new(SystemTime::UNIX_EPOCH) };
}

/// The value for `now`, if hyper has seen a later moment.
pub(in crate::http) fn after_set_back(now: SystemTime) -> Option<HeaderValue> {
    LATEST.with(|latest| {
        if now >= latest.get() {
            latest.set(now);
            return None;
        }
        HeaderValue::try_from(httpdate::fmt_http_date(now)).ok()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn hyper_sets_the_date_unless_the_clock_was_set_back() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(after_set_back(at(100)), None);
        assert_eq!(after_set_back(at(101)), None);
        let back = after_set_back(at(40)).unwrap();
        assert_eq!(back, "Thu, 01 Jan 1970 00:00:40 GMT");
        assert!(after_set_back(at(100)).is_some());
        assert_eq!(after_set_back(at(101)), None, "the clock has caught up");
    }
}
