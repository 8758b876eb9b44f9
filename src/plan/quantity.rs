//! Durations and sizes such as `"1h30m"` and `"16MiB"`.

use std::time::Duration;

/// Ten years. Sums of such durations never overflow.
const LONGEST: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);

/// Units from the longest to the shortest, the order in which they are written.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Parses whole numbers of `d`, `h`, `m`, `s`, `ms`, each unit at most once and the longest first.
///
/// # Errors
/// What is wrong with it, as a label for the text.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let mut millis = 0_u64;
    let mut units = UNITS.iter();
    let mut rest = text;
    if text.is_empty() {
        return Err("empty".to_owned());
    }
    while !rest.is_empty() {
        let (number, unit, after) = quantity(rest)?;
        let known = UNITS.iter().find(|(name, _)| *name == unit);
        let (_, factor) = known.ok_or_else(|| match unit {
            "" => "a unit is missing: ms, s, m, h or d".to_owned(),
            unit => format!("`{unit}` is not a unit of time: use ms, s, m, h or d"),
        })?;
        if !units.any(|(name, _)| *name == unit) {
            return Err("units go from the longest to the shortest, each once".to_owned());
        }
        millis = number
            .checked_mul(*factor)
            .and_then(|part| millis.checked_add(part))
            .ok_or("longer than 3650d")?;
        rest = after;
    }
    let duration = Duration::from_millis(millis);
    if duration > LONGEST {
        Err("longer than 3650d".to_owned())
    } else {
        Ok(duration)
    }
}

/// Parses a whole number with a binary or decimal unit, as a number of bytes.
///
/// # Errors
/// What is wrong with it, as a label for the text.
pub(super) fn size(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Err("empty".to_owned());
    }
    let (number, unit, rest) = quantity(text)?;
    if !rest.is_empty() {
        return Err(format!("nothing may follow `{unit}`"));
    }
    let factor: u64 = match unit {
        "B" => 1,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "" => return Err("a unit is missing: B, KiB, MiB or GiB".to_owned()),
        unit => {
            return Err(format!(
                "`{unit}` is not a unit of size: use B, KiB, MiB or GiB"
            ));
        }
    };
    number
        .checked_mul(factor)
        .ok_or_else(|| "too large".to_owned())
}

/// The number and the unit at the start of `text`, and what follows them.
fn quantity(text: &str) -> Result<(u64, &str, &str), String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    if digits == 0 {
        return Err("a whole number is missing".to_owned());
    }
    let number = text[..digits].parse().map_err(|_| "too large".to_owned())?;
    let after = &text[digits..];
    let unit = after
        .find(|c: char| !c.is_alphabetic())
        .unwrap_or(after.len());
    if after[unit..].starts_with(|c: char| !c.is_ascii_digit()) {
        return Err("only whole numbers and units, without spaces".to_owned());
    }
    Ok((number, &after[..unit], &after[unit..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1d1h1m1s1ms", 90_061_001),
            ("0s", 0),
            ("90m", 5_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "", "10", "s", "1.5s", "10 s", "-1s", "30m1h", "1s1s", "1y", "3651d", "1µs",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(duration("99999999999999999999s").is_err());
        assert!(duration("9999999999999999d").is_err());
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("16MiB", 16 << 20),
            ("1GiB", 1 << 30),
            ("5MB", 5_000_000),
            ("7B", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "16",
            "MiB",
            "1.5MiB",
            "16 MiB",
            "16mib",
            "1MiB1B",
            "99999999999GiB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,12}") {
            let _ = duration(&text);
            let _ = size(&text);
        }
    }
}
