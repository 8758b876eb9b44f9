//! `limit`: how much one caller may take.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::schema::LimitSection;
use crate::config::{Field, Mistake, Report};
use crate::plan::access::{Limit, Quota};
use crate::plan::quantity;

/// More than any server answers in a second.
const AMOUNT_MAX: u32 = 1_000_000_000;

/// Longer windows would admit a day's quota at once.
const WINDOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn limit(field: &Field<LimitSection>, report: &mut Report) -> Option<Limit> {
    let section = field.given()?;
    let limit = Limit {
        requests: quota("requests", &section.value.requests, report),
        loads: quota("loads", &section.value.loads, report),
    };
    if section.value.requests.is_absent() && section.value.loads.is_absent() {
        report.push(
            Mistake::new("`limit` limits nothing")
                .at(&section.span, "expected `requests`, `loads` or both")
                .help("for example limit = { requests = \"600/1m\", loads = \"5/1s\" }"),
        );
    }
    Some(limit)
}

fn quota(key: &str, field: &Field<String>, report: &mut Report) -> Option<Quota> {
    let text = field.given()?;
    let quota = parse(&text.value);
    if let Err(reason) = &quota {
        report.push(
            Mistake::new(format!("`{key}` must be a number, `/` and a span of time"))
                .at(&text.span, reason)
                .help("for example \"600/1m\" or \"5/1s\""),
        );
    }
    quota.ok()
}

fn parse(text: &str) -> Result<Quota, String> {
    let (amount, window) = text.split_once('/').ok_or("`/` is missing")?;
    let digits = amount.bytes().all(|byte| byte.is_ascii_digit());
    let amount: Option<NonZeroU32> = amount.parse().ok().filter(|_| digits);
    let amount = amount
        .filter(|amount| amount.get() <= AMOUNT_MAX)
        .ok_or_else(|| format!("the number must be from 1 to {AMOUNT_MAX}"))?;
    let window = quantity::duration(window)?;
    // `RateLimit-Policy` states it in seconds.
    if window.subsec_nanos() != 0 || window.is_zero() || window > WINDOW_MAX {
        return Err("the span must be whole seconds, from 1s to 1d".to_owned());
    }
    Ok(Quota { amount, window })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_read() {
        let read = |text| parse(text).map(|quota| (quota.amount.get(), quota.window.as_secs()));
        assert_eq!(read("600/1m"), Ok((600, 60)));
        assert_eq!(read("5/1s"), Ok((5, 1)));
        assert_eq!(read("1000000000/1d"), Ok((AMOUNT_MAX, 86_400)));
        for text in [
            "",
            "600",
            "/1m",
            "0/1s",
            "-1/1s",
            "+1/1s",
            "1.5/1s",
            " 1/1s",
            "5/",
            "5/0s",
            "5/500ms",
            "5/1500ms",
            "5/25h",
            "5/1",
            "1000000001/1s",
            "99999999999/1s",
            "5/1s/1s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
