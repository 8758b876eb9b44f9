//! Reads one value, and reports it if it is not valid for its key.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::suggest;
use crate::config::{At, Field, Mistake, Report};
use crate::plan::quantity;

/// A duration of at least `least`.
pub(super) fn duration(
    key: &str,
    field: &Field<String>,
    least: Duration,
    report: &mut Report,
) -> Option<At<Duration>> {
    let text = field.given()?;
    match quantity::duration(&text.value) {
        Ok(duration) if duration >= least => Some(At {
            value: duration,
            span: text.span.clone(),
        }),
        Ok(_) => {
            let mistake = Mistake::new(format!("`{key}` is too short"));
            report.push(mistake.at(
                &text.span,
                format!("must be at least {}ms", least.as_millis()),
            ));
            None
        }
        Err(reason) => {
            let mistake = Mistake::new(format!("`{key}` must be a duration"));
            let help = "for example \"250ms\", \"10s\", \"5m\" or \"1h30m\"";
            report.push(mistake.at(&text.span, reason).help(help));
            None
        }
    }
}

/// A number of bytes greater than zero.
pub(super) fn size(key: &str, field: &Field<String>, report: &mut Report) -> Option<At<u64>> {
    let text = field.given()?;
    let mistake = match quantity::size(&text.value) {
        Ok(0) => Mistake::new(format!("`{key}` is zero")).at(&text.span, "nothing would fit"),
        Ok(bytes) => {
            return Some(At {
                value: bytes,
                span: text.span.clone(),
            });
        }
        Err(reason) => Mistake::new(format!("`{key}` must be a size"))
            .at(&text.span, reason)
            .help("for example \"64KiB\", \"16MiB\" or \"1GiB\""),
    };
    report.push(mistake);
    None
}

/// A number in `allowed`.
pub(super) fn count(
    key: &str,
    field: &Field<u64>,
    allowed: RangeInclusive<u64>,
    report: &mut Report,
) -> Option<At<u64>> {
    let count = field.given()?;
    if allowed.contains(&count.value) {
        return Some(count.clone());
    }
    let range = format!("must be from {} to {}", allowed.start(), allowed.end());
    report.push(Mistake::new(format!("`{key}` is out of range")).at(&count.span, range));
    None
}

/// One of `words`.
pub(super) fn word<T: Copy>(
    key: &str,
    field: &Field<String>,
    words: &[(&str, T)],
    report: &mut Report,
) -> Option<At<T>> {
    let text = field.given()?;
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text.value) {
        return Some(At {
            value: *meaning,
            span: text.span.clone(),
        });
    }
    let known = || words.iter().map(|(word, _)| *word);
    let mistake = Mistake::new(format!("`{key}` must be one of {}", suggest::list(known())))
        .at(&text.span, "not one of these");
    report.push(match suggest::nearest(&text.value, known()) {
        Some(near) => mistake.help(format!("did you mean `{near}`?")),
        None => mistake,
    });
    None
}
