//! How much of what Postgres says about a query may be shown. A message may hold any part of an
//! argument, in any language, form or disguise: whole, cut, folded, computed with. So no message is
//! searched for arguments; where there are arguments, it is replaced by what cannot hold one.

use super::error::Refusal;
use crate::plan::Arguments;

/// Every SQLSTATE that Postgres defines, with the name of its condition: `src/backend/utils/errcodes.txt`
/// of Postgres 15.
const CONDITIONS: &str = include_str!("conditions.txt");

/// Where Postgres ends a query or a session because it was told to, or a limit was passed: what it says
/// there holds no value.
pub(super) const INTERRUPTS: &str = "ProcessInterrupts";

/// Opens what a message quotes, in the languages that Postgres has been translated to.
const QUOTES: [char; 10] = ['"', '\'', '„', '“', '”', '«', '»', '‘', '「', '『'];

/// What is kept of Postgres's words about a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// All: there was no argument, or it was the operator's own.
    Kept,
    /// All but the values that Postgres quotes when it cannot convert one (class 22): nobody sent an
    /// argument, but they are from a table.
    Unquoted,
    /// The name of the condition and the function that raised it, both of Postgres's source.
    Withheld,
}

impl Words {
    /// What is kept when a query was sent with these arguments on behalf of a client.
    pub(super) fn beside(arguments: &Arguments) -> Self {
        if arguments.iter().any(|argument| argument.is_some()) {
            Self::Withheld
        } else {
            Self::Unquoted
        }
    }

    /// The error with what is kept.
    pub(super) fn of(self, refusal: Refusal) -> Refusal {
        if refusal.routine.as_deref() == Some(INTERRUPTS) {
            return refusal;
        }
        match self {
            Self::Kept => refusal,
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

/// Neither the code nor the names of tables, columns and constraints are shown as they are: PL/pgSQL's RAISE
/// takes each of them from an expression.
fn withheld(mut refusal: Refusal) -> Refusal {
    let known = condition(&refusal.code);
    let condition = known.unwrap_or("an error with a SQLSTATE that Postgres does not define");
    // It is the name of a function in C, whoever raised the error.
    let is_name = |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let routine = refusal.routine.as_deref().filter(is_name);
    let routine = routine.map_or(String::new(), |routine| format!(", raised by {routine}"));
    refusal.message = format!(
        "{condition}{routine}; its message may hold arguments, and is in Postgres's log alone"
    );
    refusal.detail = None;
    refusal
}

/// Whether Postgres itself defines this SQLSTATE.
pub(super) fn is_defined(code: &str) -> bool {
    condition(code).is_some()
}

fn condition(code: &str) -> Option<&'static str> {
    let mut known = CONDITIONS.lines().filter_map(|line| line.split_once(' '));
    known.find_map(|(it, name)| (it == code).then_some(name))
}

#[cfg(test)]
mod tests {
    use super::super::RepositoryError;
    use super::*;

    #[test]
    fn every_condition_has_a_code_and_a_name() {
        let mut codes = Vec::new();
        for line in CONDITIONS.lines() {
            let (code, name) = line.split_once(' ').unwrap();
            assert!(code.len() == 5 && code.bytes().all(|b| b.is_ascii_alphanumeric()));
            assert!(!name.is_empty() && name.bytes().all(|b| b == b' ' || b.is_ascii_lowercase()));
            codes.push(code);
        }
        assert!(codes.is_sorted_by(|one, next| one < next));
        assert_eq!(condition("22012"), Some("division by zero"));
        assert_eq!(condition("2201"), None);
    }

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
    fn what_a_message_quotes_is_left_out_in_any_language() {
        for message in [
            "invalid: \"Smith\"",
            "invalid: »Smith«",
            "invalid: „Smith“",
            "invalid: « Smith »",
            "invalid: 「Smith」",
        ] {
            let kept = Words::Unquoted.of(refusal("22P02", message));
            assert_eq!(kept.message, "invalid: \"...\"");
            assert_eq!(kept.detail, None);
        }
        let kept = Words::Unquoted.of(refusal("42P01", "relation \"t\" does not exist"));
        assert_eq!(kept.message, "relation \"t\" does not exist");
    }

    #[test]
    fn nothing_that_a_function_may_say_is_kept_beside_arguments() {
        let kept = Words::Withheld.of(refusal("P0001", "no such customer: Smith"));
        let text = format!("{kept:?}");
        assert!(
            kept.message
                .starts_with("raise exception, raised by exec_stmt_raise; ")
        );
        assert!(!text.contains("Smith") && !text.contains("(5)"), "{text}");
        let kept = Words::Withheld.of(refusal("SMITH", "Smith"));
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
