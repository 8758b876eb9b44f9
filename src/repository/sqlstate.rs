//! SQLSTATEs: the codes of Postgres's errors.

/// Every SQLSTATE that Postgres defines, with the name of its condition: `src/backend/utils/errcodes.txt`
/// of Postgres 15.
const CONDITIONS: &str = include_str!("conditions.txt");

/// The function in which Postgres ends a query or a session on request or at a limit. Its messages contain
/// no values.
pub(super) const INTERRUPTS: &str = "ProcessInterrupts";

/// Whether Postgres defines this SQLSTATE.
pub(super) fn is_defined(code: &str) -> bool {
    condition(code).is_some()
}

/// The name of a SQLSTATE's condition.
pub(super) fn condition(code: &str) -> Option<&'static str> {
    let mut known = CONDITIONS.lines().filter_map(|line| line.split_once(' '));
    known.find_map(|(it, name)| (it == code).then_some(name))
}

#[cfg(test)]
mod tests {
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
}
