//! Which representation a request asks for: `Accept` and `Accept-Encoding`, RFC 9110, 12.4 and 12.5.
//!
//! Fields are read element by element, and what does not follow the grammar is passed over: a client
//! is given what it can be understood to ask for.

use warp::http::HeaderValue;

use crate::encode::Coding;
use crate::plan::Format;

/// A quality value in thousandths (RFC 9110, 12.4.2).
type Quality = u16;

const MOST: Quality = 1000;

/// The format that suits the client best; `None` when none does.
pub(super) fn format<'a>(accept: impl Iterator<Item = &'a HeaderValue>) -> Option<Format> {
    // For each format the quality of the range that names it most closely.
    let mut best = [(0_u8, 0 as Quality); Format::ALL.len()];
    let mut is_empty = true;
    for (range, quality) in elements(accept) {
        is_empty = false;
        for (format, best) in Format::ALL.into_iter().zip(&mut best) {
            let closeness = closeness(range, format.media_type());
            if closeness > best.0 {
                *best = (closeness, quality);
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

/// How closely a media range names a type: 0 when it does not.
fn closeness(range: &[u8], media_type: &str) -> u8 {
    let kind = media_type.split('/').next().unwrap_or_default();
    if range.eq_ignore_ascii_case(media_type.as_bytes()) {
        3
    } else if range
        .strip_suffix(b"/*")
        .is_some_and(|range| range.eq_ignore_ascii_case(kind.as_bytes()))
    {
        2
    } else {
        u8::from(range == b"*/*")
    }
}

/// The codings that suit a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Codings {
    /// The one that suits best.
    pub(super) best: Coding,
    /// Whether none at all would do as well.
    pub(super) identity: bool,
}

/// The codings that suit the client; `None` when none does, not even none at all.
pub(super) fn codings<'a>(
    accept_encoding: impl Iterator<Item = &'a HeaderValue>,
) -> Option<Codings> {
    let mut named: [Option<Quality>; Coding::ALL.len()] = Default::default();
    let mut others = None;
    for (name, quality) in elements(accept_encoding) {
        if name == b"*" {
            others = Some(quality);
            continue;
        }
        let is_it = |coding: &Coding| name.eq_ignore_ascii_case(spelt(*coding));
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
            // Unless it is refused it will do, but anything that was asked for does better.
            (Coding::Identity, Some(0)) => 0,
            (Coding::Identity, _) => 1,
            (_, others) => others.unwrap_or(0),
        };
        (coding, named.unwrap_or(unnamed))
    };
    let qualities = Coding::ALL.into_iter().zip(named).map(quality);
    let best = preferred(qualities.clone())?;
    let mut identity = qualities.filter(|(coding, _)| *coding == Coding::Identity);
    Some(Codings {
        best,
        identity: identity.any(|(_, quality)| quality > 0),
    })
}

fn spelt(coding: Coding) -> &'static [u8] {
    coding.name().unwrap_or("identity").as_bytes()
}

/// The first of those with the highest quality; none of zero.
fn preferred<T>(choices: impl Iterator<Item = (T, Quality)>) -> Option<T> {
    let choices = choices.filter(|(_, quality)| *quality > 0);
    let best = choices.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(choice, _)| choice)
}

/// The elements of a list with their qualities. Parameters other than `q` narrow a range down to
/// what is not served apart from it; they are passed over.
fn elements<'a>(
    fields: impl Iterator<Item = &'a HeaderValue>,
) -> impl Iterator<Item = (&'a [u8], Quality)> {
    let elements = fields.flat_map(|field| field.as_bytes().split(|b| *b == b','));
    elements.filter_map(|element| {
        let mut parts = element.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts.find_map(|part| match part {
            [b'q' | b'Q', b'=', weight @ ..] => Some(weight),
            _ => None,
        });
        Some((name, weight.map_or(Some(MOST), quality)?))
    })
}

/// `0`, `0.5`, `1.000`: one digit, and three behind the point at most.
fn quality(text: &[u8]) -> Option<Quality> {
    let (whole, decimals) = match text {
        [whole] => (whole, &b""[..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| Quality::from(byte - b'0'));
    let mut value = digit(whole).filter(|whole| *whole <= 1)?;
    for place in 0..3 {
        value = value * 10 + decimals.get(place).map_or(Some(0), digit)?;
    }
    (value <= MOST).then_some(value)
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
    fn the_format_with_the_highest_quality_is_taken_and_json_where_the_client_does_not_mind() {
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
            (&["text/csv;q=2, application/x-ndjson;q=0.5"], Some(Ndjson)),
        ] {
            assert_eq!(format(fields(accept).iter()), expected, "{accept:?}");
        }
    }

    #[test]
    fn the_coding_with_the_highest_quality_is_taken() {
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
        ] {
            let expected = Codings { best, identity };
            assert_eq!(codings(fields(accept).iter()), Some(expected), "{accept:?}");
        }
        for accept in ["identity;q=0", "*;q=0", "deflate, identity;q=0"] {
            assert_eq!(codings(fields(&[accept]).iter()), None, "{accept}");
        }
    }

    #[test]
    fn a_quality_has_three_digits_behind_its_point_at_most() {
        for (text, expected) in [
            ("1", 1000),
            ("0", 0),
            ("0.", 0),
            ("0.5", 500),
            ("1.000", 1000),
            ("0.123", 123),
        ] {
            assert_eq!(quality(text.as_bytes()), Some(expected), "{text}");
        }
        for text in ["", "2", "1.001", "0.1234", ".5", "0,5", "-1", "1.0.0"] {
            assert_eq!(quality(text.as_bytes()), None, "{text}");
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
