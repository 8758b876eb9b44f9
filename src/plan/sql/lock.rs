//! Finds `FOR UPDATE` and its like, which Postgres prepares and a read-only session then refuses.

use std::ops::Range;

use super::is_query_word;

/// Follows the tokens of a statement and remembers where a locking clause began.
#[derive(Debug)]
pub(super) struct LockFinder {
    /// For the statement and every parenthesis still open: whether it holds a query. `None` until its
    /// first token has been seen.
    groups: Vec<Option<bool>>,
    /// The bytes from a `FOR` on, while only words of a locking clause have followed.
    begun: Option<Range<usize>>,
    /// `a.for` is a column.
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

    /// Takes the next token that is not blank; says the place of the locking clause it completes.
    pub(super) fn next(&mut self, token: &str, at: &Range<usize>) -> Option<Range<usize>> {
        let is = |word: &str| token.eq_ignore_ascii_case(word);
        let after_dot = std::mem::replace(&mut self.after_dot, token == ".");
        // `substring(x FOR share)` is a call, and only a query takes locks.
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
