//! `Date` (RFC 9110, 6.6.1) of answers that hyper does not write: made once a second on each thread. Of a
//! clock that is set, and of a machine that wakes, it knows at the end of that second.

use std::cell::RefCell;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use httpdate::HttpDate;
use tokio::time::Instant;

/// A line, and from when on it is not true any more.
struct Line {
    text: Vec<u8>,
    until: Instant,
}

thread_local! {
    static LINE: RefCell<Option<Line>> = const { RefCell::new(None) };
}

/// Writes the line of `now`, which is the current moment.
pub(super) fn write(now: Instant, out: &mut Vec<u8>) {
    LINE.with_borrow_mut(|line| {
        let line = match line {
            Some(line) if now < line.until => line,
            _ => line.insert(Line::of(now, SystemTime::now())),
        };
        out.extend_from_slice(&line.text);
    });
}

impl Line {
    fn of(now: Instant, date: SystemTime) -> Self {
        let since_epoch = date.duration_since(SystemTime::UNIX_EPOCH);
        let of_second = since_epoch.map_or(0, |since| since.subsec_nanos());
        let mut text = Vec::with_capacity(40);
        write!(text, "date: {}\r\n", HttpDate::from(date)).expect("memory takes what is written");
        Self {
            text,
            until: now + (Duration::from_secs(1) - Duration::from_nanos(of_second.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_true_to_the_end_of_its_second() {
        let now = Instant::now();
        let date = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_250);
        let line = Line::of(now, date);
        // RFC 9110, 5.6.7
        assert_eq!(line.text, b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        assert_eq!(line.until - now, Duration::from_millis(750));
    }
}
