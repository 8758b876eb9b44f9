//! Values of header fields, written one behind the other into one allocation: an answer has half a
//! dozen that are made for it alone.

use std::fmt::Write as _;
use std::time::SystemTime;

use bytes::BytesMut;
use httpdate::HttpDate;
use warp::http::HeaderValue;

/// Values that are being written. All of ours are visible ASCII.
pub(super) struct Lines {
    bytes: BytesMut,
}

impl Lines {
    /// Room for so many bytes, of all values together; more is found when it is needed.
    pub(super) fn with_room(bytes: usize) -> Self {
        let bytes = BytesMut::with_capacity(bytes);
        Self { bytes }
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.text(itoa::Buffer::new().format(number))
    }

    pub(super) fn date(&mut self, date: SystemTime) -> &mut Self {
        write!(self.bytes, "{}", HttpDate::from(date)).expect("memory takes what is written");
        self
    }

    /// Ends a value; the next one begins.
    pub(super) fn end(&mut self) -> HeaderValue {
        let value = HeaderValue::from_maybe_shared(self.bytes.split().freeze());
        value.expect("it is visible ASCII")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn values_follow_one_another_also_beyond_their_room() {
        let mut lines = Lines::with_room(4);
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let values = [
            lines.text("max-age=").number(10).end(),
            lines.end(),
            lines.date(date).end(),
            lines.number(u64::MAX).end(),
        ];
        let expected = [
            "max-age=10",
            "",
            "Sun, 06 Nov 1994 08:49:37 GMT", // RFC 9110, 5.6.7
            "18446744073709551615",
        ];
        assert_eq!(values, expected);
    }
}
