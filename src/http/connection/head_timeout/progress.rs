//! Where the heads of requests begin and end in the bytes of a connection.

/// Where the bytes that were read end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// After a head.
    Complete,
    /// Within a head that had begun before, or within the first.
    Partial,
    /// Within a head that began in these bytes.
    Begun,
}

/// Follows the heads of HTTP/1.1. Each ends with an empty line and is followed by the next, because nothing
/// behind a body is taken for a request.
#[derive(Debug, Default)]
pub(super) struct H1Heads {
    /// The last bytes that were read.
    tail: [u8; 3],
}

impl H1Heads {
    pub(super) fn read(&mut self, read: &[u8]) -> Progress {
        let mut end = self.tail;
        match read.last_chunk() {
            Some(last) => end = *last,
            None => {
                end.rotate_left(read.len());
                end[3 - read.len()..].copy_from_slice(read);
            }
        }
        let before = std::mem::replace(&mut self.tail, end);
        if end == *b"\n\r\n" || end.ends_with(b"\n\n") {
            return Progress::Complete;
        }
        let all = [&before, read].concat();
        let mut lines = memchr::memchr_iter(b'\n', &all);
        let is_empty =
            |at: usize| all[at + 1..].starts_with(b"\n") || all[at + 1..].starts_with(b"\r\n");
        // Skips an empty line that ended before these bytes.
        if lines.any(|at| is_empty(at) && at + 2 >= before.len()) {
            Progress::Begun
        } else {
            Progress::Partial
        }
    }
}

/// Follows the frames of HTTP/2, which begin with a preface (RFC 9113, 3.4 and 4.1).
#[derive(Debug, Default)]
pub(super) struct H2Heads {
    /// How many bytes of the preface were read.
    preface: usize,
    header: [u8; Self::HEADER],
    /// How many bytes of the frame's header were read.
    header_read: usize,
    /// How many bytes of its payload were not.
    rest: usize,
    /// Whether the first frame, the client's settings, was read.
    is_settled: bool,
    /// Whether a head continues in the next frame.
    is_continued: bool,
}

impl H2Heads {
    const PREFACE: usize = 24;
    const HEADER: usize = 9;
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const CONTINUATION: u8 = 9;
    const END_HEADERS: u8 = 4;

    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Progress {
        let mut was_complete = false;
        while !bytes.is_empty() {
            if self.preface < Self::PREFACE {
                let length = bytes.len().min(Self::PREFACE - self.preface);
                self.preface += length;
                bytes = &bytes[length..];
                continue;
            }
            if self.header_read < Self::HEADER {
                self.header[self.header_read] = bytes[0];
                self.header_read += 1;
                bytes = &bytes[1..];
                if self.header_read == Self::HEADER {
                    self.begin_frame();
                }
            } else {
                let length = bytes.len().min(self.rest);
                self.rest -= length;
                bytes = &bytes[length..];
            }
            if self.header_read == Self::HEADER && self.rest == 0 {
                self.header_read = 0;
                self.is_settled = true;
                was_complete |= !self.is_continued;
            }
        }
        let is_head = match self.header_read {
            0 => self.is_continued,
            Self::HEADER => self.is_continued || self.header[3] != Self::DATA,
            _ => true,
        };
        if self.is_settled && !is_head {
            Progress::Complete
        } else if was_complete {
            Progress::Begun
        } else {
            Progress::Partial
        }
    }

    /// Interprets the header of a frame, which was read.
    fn begin_frame(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.rest = u32::from_be_bytes([0, high, middle, low]) as usize;
        if kind == Self::HEADERS || kind == Self::CONTINUATION {
            self.is_continued = flags & Self::END_HEADERS == 0;
        }
    }
}
