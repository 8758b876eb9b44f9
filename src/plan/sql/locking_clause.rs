//! Finds `FOR UPDATE` and the like, which Postgres prepares but a read-only session rejects.

use std::ops::Range;

use super::scan::is_query_word;

/// Scans the tokens of a statement for a locking clause.
#[derive(Debug)]
pub(super) struct LockFinder {
    /// Whether the statement, and each open parenthesis in it, contains a query; `None` before its first
    /// token.
    groups: Vec<Option<bool>>,
    /// The bytes from a `FOR` on, as long as only words of a locking clause follow.
    begun: Option<Range<usize>>,
    /// Whether the last token was a dot: `a.for` is a column.
    after_dot: bool,
}

impl LockFinder {
    pub(super) fn new() -> Self {
        Self {
            groups: vec![None],
            begun: None,
            after_dot: false,
        }
    }

    /// Takes the next token that is not blank, and returns the locking clause that it completes.
    pub(super) fn next(&mut self, token: &str, at: &Range<usize>) -> Option<Range<usize>> {
        let is = |word: &str| token.eq_ignore_ascii_case(word);
        let after_dot = std::mem::replace(&mut self.after_dot, token == ".");
        // `substring(x FOR share)` is a call; only a query takes locks.
        if let Some(group @ None) = self.groups.last_mut() {
            *group = Some(is_query_word(token) || token == "(");
        }
        match token {
            "(" => self.groups.push(None),
            ")" if self.groups.len() > 1 => {
                self.groups.pop();
            }
            _ => {}
        }
        if is("for") && !after_dot {
            self.begun = (self.groups.last() == Some(&Some(true))).then(|| at.clone());
            return None;
        }
        let begun = self.begun.take()?;
        let clause = begun.start..at.end;
        if is("update") || is("share") {
            return Some(clause);
        }
        // FOR NO KEY UPDATE, FOR KEY SHARE
        if is("no") || is("key") {
            self.begun = Some(clause);
        }
        None
    }
}
