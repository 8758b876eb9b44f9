//! Which representation a request asks for: `Accept` and `Accept-Encoding`, RFC 9110, 12.4 and 12.5.
//!
//! Fields are read element by element. An element that does not follow the grammar is skipped, or read as
//! what clients mean by it. Only a client that names nothing but other formats gets a 406.

use warp::http::HeaderValue;

use crate::encode::Coding;
use crate::plan::Format;

/// A quality value in thousandths (RFC 9110, 12.4.2).
type Quality = u16;

const MOST: Quality = 1000;

/// The format that the client prefers; `None` if it accepts none.
pub(in crate::http) fn format<'a>(accept: impl Iterator<Item = &'a HeaderValue>) -> Option<Format> {
    // For each format, the quality of the range that matches it most specifically.
    let mut best = [(0_u8, 0 as Quality); Format::ALL.len()];
    let mut is_empty = true;
    for (range, quality) in elements(accept) {
        // Java's `HttpURLConnection` sends this for `*/*`.
        let range = if range == b"*" { b"*/*" } else { range };
        if !range.contains(&b'/') {
            continue;
        }
        is_empty = false;
        for (format, best) in Format::ALL.into_iter().zip(&mut best) {
            let specificity = specificity(range, format.media_type());
            if specificity > best.0 {
                *best = (specificity, quality);
            }
        }
    }
    if is_empty {
        return Some(Format::Json);
    }
    preferred(
        Format::ALL
            .into_iter()
            .zip(best.map(|(_, quality)| quality)),
    )
}

/// How specifically a media range matches a type: 0 if it does not.
fn specificity(range: &[u8], media_type: &str) -> u8 {
    let media_type = media_type.as_bytes();
    if range.eq_ignore_ascii_case(media_type) {
        return 3;
    }
    let Some(kind) = range.strip_suffix(b"/*") else {
        return 0;
    };
    let is_kind = media_type
        .split_at_checked(kind.len())
        .is_some_and(|(start, rest)| start.eq_ignore_ascii_case(kind) && rest.starts_with(b"/"));
    if is_kind { 2 } else { u8::from(kind == b"*") }
}

/// The codings that a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Codings {
    /// The preferred one.
    pub(in crate::http) best: Coding,
    /// Whether no coding is acceptable too.
    pub(in crate::http) identity: bool,
}

/// The codings that the client accepts. If it refuses all of them, the response is not coded: RFC 9110,
/// 12.5.3, does not ask for a refusal, and intermediaries decode what clients cannot.
pub(in crate::http) fn codings<'a>(
    accept_encoding: impl Iterator<Item = &'a HeaderValue>,
) -> Codings {
    let mut named: [Option<Quality>; Coding::ALL.len()] = Default::default();
    let mut others = None;
    for (name, quality) in elements(accept_encoding) {
        if name == b"*" {
            others = Some(quality);
            continue;
        }
        let is_it = |coding: &Coding| name.eq_ignore_ascii_case(token(*coding));
        // RFC 9110, 8.4.1.3: an old name of gzip.
        let old = name.eq_ignore_ascii_case(b"x-gzip");
        let place = Coding::ALL
            .iter()
            .position(|coding| is_it(coding) || old && *coding == Coding::Gzip);
        if let Some(place) = place {
            named[place] = Some(quality);
        }
    }
    let quality = |(coding, named): (Coding, Option<Quality>)| {
        let unnamed = match (coding, others) {
            // Acceptable unless it is refused, but anything that is named is better.
            (Coding::Identity, Some(0)) => 0,
            (Coding::Identity, _) => 1,
            (_, others) => others.unwrap_or(0),
        };
        (coding, named.unwrap_or(unnamed))
    };
    let qualities = Coding::ALL.into_iter().zip(named).map(quality);
    let best = preferred(qualities.clone());
    let mut identity = qualities.filter(|(coding, _)| *coding == Coding::Identity);
    Codings {
        best: best.unwrap_or(Coding::Identity),
        identity: best.is_none() || identity.any(|(_, quality)| quality > 0),
    }
}

fn token(coding: Coding) -> &'static [u8] {
    coding.name().unwrap_or("identity").as_bytes()
}

/// The first of those with the highest quality, which is not 0.
fn preferred<T>(choices: impl Iterator<Item = (T, Quality)>) -> Option<T> {
    let choices = choices.filter(|(_, quality)| *quality > 0);
    let best = choices.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(choice, _)| choice)
}

/// The elements of a list with their qualities. Parameters other than `q` are skipped: they narrow a range
/// down to something that is not served separately.
fn elements<'a>(
    fields: impl Iterator<Item = &'a HeaderValue>,
) -> impl Iterator<Item = (&'a [u8], Quality)> {
    let elements = fields.flat_map(|field| unquoted(field.as_bytes(), b','));
    elements.filter_map(|element| {
        let mut parts = unquoted(element, b';').map(<[u8]>::trim_ascii);
        let name = parts.next().filter(|name| !name.is_empty())?;
        Some((name, parts.find_map(weight).map_or(MOST, quality)))
    })
}

/// Splits at the separators outside quoted strings (RFC 9110, 5.6.4). A quoted string that is not closed
/// extends to the end.
fn unquoted(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            _ => {}
        }
        *byte == separator && !is_quoted
    })
}

/// The value of `q`, if this parameter is it. White space around its `=` is invalid, but some clients send
/// it.
fn weight(parameter: &[u8]) -> Option<&[u8]> {
    let [b'q' | b'Q', rest @ ..] = parameter else {
        return None;
    };
    let value = rest.trim_ascii_start().strip_prefix(b"=")?;
    Some(value.trim_ascii())
}

/// Reads a quality such as `0`, `0.5` or `1.000`, as Apache does: the digit before the point may be missing,
/// decimals after the third are ignored, and text that is not a quality counts as 1.
fn quality(text: &[u8]) -> Quality {
    let decimals = match text {
        [b'0'] => return 0,
        [b'0', b'.', decimals @ ..] | [b'.', decimals @ ..] => decimals,
        _ => return MOST,
    };
    if !decimals.iter().all(u8::is_ascii_digit) {
        return MOST;
    }
    let digit = |place| {
        decimals
            .get(place)
            .map_or(0, |byte| Quality::from(byte - b'0'))
    };
    (0..3).fold(0, |value, place| value * 10 + digit(place))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(lines: &[&'static str]) -> Vec<HeaderValue> {
        lines
            .iter()
            .map(|line| HeaderValue::from_static(line))
            .collect()
    }

    #[test]
    fn the_format_with_the_highest_quality_is_chosen_and_json_by_default() {
        use Format::{Csv, Json, Ndjson};
        for (accept, expected) in [
            (&[][..], Some(Json)),
            (&[""], Some(Json)),
            (&["*/*"], Some(Json)),
            (&["application/json"], Some(Json)),
            (&["application/x-ndjson"], Some(Ndjson)),
            (&["text/csv"], Some(Csv)),
            (&["TEXT/CSV;charset=utf-8"], Some(Csv)),
            (&["text/*"], Some(Csv)),
            (&["application/*"], Some(Json)),
            (&["text/csv, application/json"], Some(Json)),
            (&["text/csv, application/json;q=0.9"], Some(Csv)),
            (&["application/json;q=0.1", "text/csv;q=0.2"], Some(Csv)),
            (&["*/*;q=0.5, application/json;q=0"], Some(Ndjson)),
            (&["application/*;q=0, */*"], Some(Csv)),
            (
                &["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"],
                Some(Json),
            ),
            (&["text/html"], None),
            (&["application/json;q=0"], None),
            (&["*/*;q=0"], None),
            (&["text/csv;q=2, application/x-ndjson;q=0.5"], Some(Csv)),
            (&["*"], Some(Json)),
            (&["*;q=.2, text/csv;q=.3"], Some(Csv)),
            (
                &["text/csv ; Q = 0.1 , application/x-ndjson ;q= .2"],
                Some(Ndjson),
            ),
            (&["text/csv;q=1., application/json;q=0.999"], Some(Csv)),
            (&[",, text/csv ,"], Some(Csv)),
            (&[r#"text/html;title="a,b;q=0, */*", text/csv"#], Some(Csv)),
            (&[r#"text/csv;title="\",\\", application/json"#], Some(Json)),
            (&[r#"text/csv;title="a, application/json"#], Some(Csv)),
            (&["json"], Some(Json)),
            (&["*.*"], Some(Json)),
            (
                &["text/html;level=1, text/csv;header=present;q=0.1"],
                Some(Csv),
            ),
        ] {
            assert_eq!(format(fields(accept).iter()), expected, "{accept:?}");
        }
    }

    #[test]
    fn the_coding_with_the_highest_quality_is_chosen() {
        use Coding::{Brotli, Gzip, Identity, Zstd};
        for (accept, best, identity) in [
            (&[][..], Identity, true),
            (&[""], Identity, true),
            (&["gzip"], Gzip, true),
            (&["x-gzip"], Gzip, true),
            (&["gzip, deflate, br, zstd"], Zstd, true),
            (&["gzip, deflate, br"], Brotli, true),
            (&["gzip;q=1.0", "br;q=0.5"], Gzip, true),
            (&["deflate"], Identity, true),
            (&["*"], Zstd, true),
            (&["*;q=0.5, br;q=0"], Zstd, true),
            (&["identity, gzip;q=0.5"], Identity, true),
            (&["identity;q=0, GZIP"], Gzip, false),
            (&["gzip, *;q=0"], Gzip, false),
            (&["gzip;q=0.001"], Gzip, true),
            (&["br;q=.5, gzip;q=.4"], Brotli, true),
            (&["identity;q=1, *;q=0"], Identity, true),
            (&["gzip ; q=1.0 , *;q=.1"], Gzip, true),
            // Nothing is acceptable: the response is not coded.
            (&["identity;q=0"], Identity, true),
            (&["*;q=0"], Identity, true),
            (&["deflate, identity;q=0"], Identity, true),
        ] {
            let expected = Codings { best, identity };
            assert_eq!(codings(fields(accept).iter()), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_quality_is_read_leniently() {
        for (text, expected) in [
            ("1", 1000),
            ("0", 0),
            ("0.", 0),
            ("0.0", 0),
            ("0.5", 500),
            (".5", 500),
            (".", 0),
            ("1.", 1000),
            ("1.000", 1000),
            ("0.123", 123),
            ("0.1234", 123),
            ("0.10000000149011612", 100),
            ("", 1000),
            ("2", 1000),
            ("1.001", 1000),
            ("0,5", 1000),
            ("0.x", 1000),
            ("-1", 1000),
            ("1.0.0", 1000),
        ] {
            assert_eq!(quality(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_field_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(field) = HeaderValue::from_bytes(&bytes) {
                let fields = [field];
                let _ = (format(fields.iter()), codings(fields.iter()));
            }
        }
    }
}
