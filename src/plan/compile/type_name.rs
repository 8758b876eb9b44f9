//! Whether a text is the name of a type. It becomes part of SQL, so nothing else may pass: no operator, no
//! comment, no second expression.

/// Three quoted identifiers of 63 bytes, the longest that Postgres keeps.
const LONGEST: usize = 200;

/// `bigint`, `numeric(10, 2)`, `timestamp(3) with time zone`, `text[]`, `app."Order state"`.
pub(super) fn is_type_name(text: &str) -> bool {
    if text.len() > LONGEST {
        return false;
    }
    let Some(mut rest) = after_identifier(text) else {
        return false;
    };
    while let Some(first) = rest.chars().next() {
        let after = match first {
            '.' => after_identifier(&rest[1..]),
            ' ' => match rest.trim_start_matches(' ') {
                word if word.starts_with(['(', '[']) => Some(word),
                word => after_identifier(word),
            },
            '(' => after_modifiers(&rest[1..]),
            '[' => rest[1..]
                .trim_start_matches(|c: char| c.is_ascii_digit())
                .strip_prefix(']'),
            _ => None,
        };
        let Some(after) = after else { return false };
        rest = after;
    }
    true
}

fn after_identifier(text: &str) -> Option<&str> {
    if let Some(quoted) = text.strip_prefix('"') {
        let end = quoted.find('"').filter(|end| *end > 0)?;
        return Some(&quoted[end + 1..]).filter(|rest| !rest.starts_with('"'));
    }
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
    let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(starts)
        .then(|| text.trim_start_matches(goes_on))
}

/// `10)` or `10, 2)`
fn after_modifiers(text: &str) -> Option<&str> {
    let (inside, rest) = text.split_once(')')?;
    let are_numbers = inside.split(',').all(|number| {
        let number = number.trim_matches(' ');
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    });
    are_numbers.then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_type_names_are_accepted() {
        for name in [
            "bigint",
            "double precision",
            "numeric(10, 2)",
            "character varying(20)",
            "timestamp(3) with time zone",
            "text[]",
            "int[3][]",
            "varchar(3) []",
            "app.state",
            "\"tk-bitio/Sales\".\"Order state\"",
        ] {
            assert!(is_type_name(name), "{name}");
        }
        for name in [
            "",
            " ",
            "1int",
            "int;",
            "int--",
            "int/**/",
            "int) or (1=1",
            "int::text",
            "numeric()",
            "numeric(a)",
            "numeric(1",
            "text[",
            "text[a]",
            "a.",
            ".a",
            "\"\"",
            "\"a\"\"b\"",
            "\"a",
            "int ",
            "int  ,text",
            "$1",
            "a'b",
        ] {
            assert!(!is_type_name(name), "{name}");
        }
    }
}
