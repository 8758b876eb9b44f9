//! Values of header fields, written one after the other into one allocation: a response has half a dozen
//! that are made for it alone.

use std::fmt::Write as _;
use std::time::SystemTime;

use bytes::BytesMut;
use httpdate::HttpDate;
use warp::http::HeaderValue;

/// Writes values. All of them are visible ASCII.
pub(super) struct HeaderWriter {
    bytes: BytesMut,
}

impl HeaderWriter {
    /// Reserves `bytes` for all values together. More are allocated if they are needed.
    pub(super) fn with_capacity(bytes: usize) -> Self {
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
        write!(self.bytes, "{}", HttpDate::from(date)).expect("writing to memory cannot fail");
        self
    }

    /// Ends a value, and begins the next one.
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
    fn values_follow_one_another_beyond_the_reserved_capacity() {
        let mut writer = HeaderWriter::with_capacity(4);
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let values = [
            writer.text("max-age=").number(10).end(),
            writer.end(),
            writer.date(date).end(),
            writer.number(u64::MAX).end(),
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
