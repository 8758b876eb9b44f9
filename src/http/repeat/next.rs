//! What a connection says next: where the head of a request ends.

/// The bytes of a head whose end is looked for.
pub(super) const PARTIAL_MAX: usize = 8 * 1024;

/// What bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A whole head of so many bytes.
    Head(usize),
    /// What may become one. hyper gets it as it comes: it may refuse it before it is whole.
    Partial,
    /// Neither.
    Other,
}

impl Next {
    /// Of heads alone, where hyper ends them: at the first empty line, whether or not lines end with a
    /// carriage return.
    pub(super) fn of(bytes: &[u8]) -> Self {
        // Of these there is no content, as a rule; where there is, the service says so.
        const BEGINNINGS: [&[u8]; 3] = [b"GET ", b"HEAD ", b"OPTIONS "];
        let begins = |beginning: &&[u8]| {
            let length = beginning.len().min(bytes.len());
            beginning[..length] == bytes[..length]
        };
        if !BEGINNINGS.iter().any(begins) {
            return Self::Other;
        }
        let within = &bytes[..bytes.len().min(PARTIAL_MAX)];
        for end in memchr::memchr_iter(b'\n', within) {
            match &bytes[end + 1..] {
                [b'\n', ..] => return Self::Head(end + 2),
                [b'\r', b'\n', ..] => return Self::Head(end + 3),
                _ => {}
            }
        }
        if bytes.len() < PARTIAL_MAX {
            Self::Partial
        } else {
            Self::Other
        }
    }
}
