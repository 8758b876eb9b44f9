//! How much of Postgres's error messages may be shown. A message can contain any part of an argument, in
//! any form: whole, cut, folded, or computed with. So messages are not searched for arguments. If a query
//! had arguments, its message is replaced by text that cannot contain one.

use super::refusal::Refusal;
use super::sqlstate::{INTERRUPTS, condition};
use crate::plan::Arguments;

/// The opening quotation marks of the languages that Postgres is translated to.
const QUOTES: [char; 10] = ['"', '\'', '„', '“', '”', '«', '»', '‘', '「', '『'];

/// What is kept of an error message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disclosure {
    /// Everything: the arguments, if any, come from the operator.
    Full,
    /// Everything but the values that Postgres quotes when a conversion fails (class 22). There were no
    /// arguments, so those values come from a table.
    Unquoted,
    /// The name of the condition and of the function that raised it, both from Postgres's source code.
    Withheld,
}

impl Disclosure {
    /// What is kept for a query that a client sent these arguments for.
    pub(super) fn for_client(arguments: &Arguments) -> Self {
        if arguments.iter().any(|argument| argument.is_some()) {
            Self::Withheld
        } else {
            Self::Unquoted
        }
    }

    /// Removes what may not be shown.
    pub(super) fn apply(self, refusal: Refusal) -> Refusal {
        if refusal.routine.as_deref() == Some(INTERRUPTS) {
            return refusal;
        }
        match self {
            Self::Full => refusal,
            Self::Unquoted => unquoted(refusal),
            Self::Withheld => withheld(refusal),
        }
    }
}

fn unquoted(mut refusal: Refusal) -> Refusal {
    if refusal.code.starts_with("22")
        && let Some((before, _)) = refusal.message.split_once(QUOTES)
    {
        refusal.message = format!("{before}\"...\"");
        refusal.detail = None;
    }
    refusal
}

/// The code and the names of tables, columns and constraints are withheld too: PL/pgSQL's RAISE takes each
/// of them from an expression.
fn withheld(mut refusal: Refusal) -> Refusal {
    let known = condition(&refusal.code);
    let condition = known.unwrap_or("an error with a SQLSTATE that Postgres does not define");
    // Always the name of a C function, even if SQL raised the error.
    let is_name = |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let routine = refusal.routine.as_deref().filter(is_name);
    let routine = routine.map_or(String::new(), |routine| format!(", raised by {routine}"));
    refusal.message = format!(
        "{condition}{routine}; its message may contain arguments, and is only in Postgres's log"
    );
    refusal.detail = None;
    refusal
}

#[cfg(test)]
mod tests {
    use super::super::RepositoryError;
    use super::*;

    fn refusal(code: &str, message: &str) -> Refusal {
        Refusal {
            code: code.to_owned(),
            message: message.to_owned(),
            detail: Some("Key (id)=(5) is not present".to_owned()),
            routine: Some("exec_stmt_raise".to_owned()),
            position: None,
        }
    }

    #[test]
    fn quoted_values_are_removed_in_any_language() {
        for message in [
            "invalid: \"Smith\"",
            "invalid: »Smith«",
            "invalid: „Smith“",
            "invalid: « Smith »",
            "invalid: 「Smith」",
        ] {
            let kept = Disclosure::Unquoted.apply(refusal("22P02", message));
            assert_eq!(kept.message, "invalid: \"...\"");
            assert_eq!(kept.detail, None);
        }
        let kept = Disclosure::Unquoted.apply(refusal("42P01", "relation \"t\" does not exist"));
        assert_eq!(kept.message, "relation \"t\" does not exist");
    }

    #[test]
    fn no_message_of_a_function_is_kept_when_there_are_arguments() {
        let kept = Disclosure::Withheld.apply(refusal("P0001", "no such customer: Smith"));
        let text = format!("{kept:?}");
        assert!(
            kept.message
                .starts_with("raise exception, raised by exec_stmt_raise; ")
        );
        assert!(!text.contains("Smith") && !text.contains("(5)"), "{text}");
        let kept = Disclosure::Withheld.apply(refusal("SMITH", "Smith"));
        for shown in [
            RepositoryError::Busy {
                refusal: kept.clone(),
            },
            RepositoryError::Failed {
                refusal: kept.clone(),
            },
            RepositoryError::Refused { refusal: kept },
        ] {
            let shown = shown.to_string();
            assert!(!shown.to_lowercase().contains("smith"), "{shown}");
        }
    }
}
