//! Walks a parsed TOML table key by key and reports whatever does not fit: unknown keys, wrong kinds
//! of values, variables that are not set. Reading a key is what makes it known, so there is no second
//! list of keys to keep.

mod tables;

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::env::{self, Reason};
use super::files;
use super::report::{Mistake, Report};
use super::schema::Field;
use super::secret::Secret;
use super::source::{At, Language, Source, Span};
use super::suggest;

const DURATION_HELP: &str =
    "a duration is a string such as \"250ms\", \"10s\", \"5m\" or \"1h30m\"";
const SIZE_HELP: &str = "a size is a string such as \"64KiB\", \"16MiB\" or \"1GiB\"";

/// What every table of one file is read with.
pub(super) struct Desk<'e> {
    pub(super) source: Arc<Source>,
    /// Where relative file names begin.
    pub(super) folder: &'e Path,
    pub(super) env: &'e dyn Fn(&str) -> Option<String>,
    pub(super) report: Report,
    /// Files that were read: endpoints may share one. `None` for one that could not be.
    pub(super) files: HashMap<PathBuf, Option<Arc<Source>>>,
    #[cfg(test)]
    pub(super) accepted: std::collections::BTreeSet<(String, &'static str)>,
}

/// One table being read.
pub(super) struct Reader<'r, 'e, 'd> {
    desk: &'r mut Desk<'e>,
    /// What has not been read yet.
    left: DeTable<'d>,
    /// As mistakes call it, as in `[server]`.
    name: String,
    span: Span,
    known: Vec<&'static str>,
}

impl<'r, 'e, 'd> Reader<'r, 'e, 'd> {
    /// Reads the whole file.
    pub(super) fn root(desk: &'r mut Desk<'e>, table: DeTable<'d>) -> Self {
        let span = Span::new(&desk.source, 0..0);
        Self {
            desk,
            left: table,
            name: String::new(),
            span,
            known: Vec::new(),
        }
    }

    /// The table's header, or the table itself where it is written inline.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Reports every key that was not read.
    pub(super) fn finish(self) {
        for key in self.left.keys() {
            let span = Span::new(&self.desk.source, key.span());
            let place = if self.name.is_empty() {
                String::new()
            } else {
                format!(" in {}", self.name)
            };
            // As it is shown: whoever takes a URL for a key has its secrets struck out there.
            let written = span.text().trim_matches(['"', '\'']);
            let mistake = Mistake::new(format!("unknown key `{written}`{place}"));
            let mistake = match suggest::nearest(key.get_ref(), self.known.iter().copied()) {
                Some(known) => mistake
                    .at(&span, "not a key of Larder")
                    .help(format!("did you mean `{known}`?")),
                None => mistake.at(&span, "not a key of Larder").help(format!(
                    "the keys here are {}",
                    suggest::list(self.known.iter().copied())
                )),
            };
            self.desk.report.push(mistake);
        }
    }

    /// Whether keys are left that nobody has asked for. To be asked after the last known key.
    pub(super) fn has_strangers(&self) -> bool {
        !self.left.is_empty()
    }

    /// The value of `key`, unless it is absent and a key that nobody knows seems to be meant for it:
    /// that is reported, and the absence need not be. To be asked after the last known key.
    pub(super) fn unless_misspelled<T>(&self, key: &str, value: Field<T>) -> Field<T> {
        if value.is_absent() && self.is_misspelled(key) {
            Field::Wrong
        } else {
            value
        }
    }

    /// Whether a key that nobody knows seems to be meant for `key`.
    pub(super) fn is_misspelled(&self, key: &str) -> bool {
        let meant = |left: &str| suggest::nearest(left, self.known.iter().copied());
        self.left
            .keys()
            .any(|left| meant(left.get_ref()) == Some(key))
    }

    /// Text, with variables replaced.
    pub(super) fn string(&mut self, key: &'static str) -> Field<String> {
        self.text(key, "a string", None)
    }

    /// Text that stands for a duration.
    pub(super) fn duration(&mut self, key: &'static str) -> Field<String> {
        self.text(key, "a duration", Some(DURATION_HELP))
    }

    /// Text that stands for a number of bytes.
    pub(super) fn size(&mut self, key: &'static str) -> Field<String> {
        self.text(key, "a size", Some(SIZE_HELP))
    }

    fn text(&mut self, key: &'static str, kind: &str, help: Option<&str>) -> Field<String> {
        let Some((span, value)) = self.take(key) else {
            return Field::Absent;
        };
        let DeValue::String(text) = value else {
            return self.wrong(key, &span, &value, kind, help);
        };
        Field::from_option(self.substituted(&text, span))
    }

    /// Text in which `${` means nothing.
    pub(super) fn verbatim(&mut self, key: &'static str) -> Field<String> {
        let Some((span, value)) = self.take(key) else {
            return Field::Absent;
        };
        let DeValue::String(text) = value else {
            return self.wrong(key, &span, &value, "a string", None);
        };
        Field::Given(At::new(text.into_owned(), span))
    }

    /// Text that is never shown.
    pub(super) fn secret(&mut self, key: &'static str) -> Field<Secret> {
        match self.string(key) {
            Field::Absent => Field::Absent,
            Field::Wrong => Field::Wrong,
            Field::Given(text) => Field::Given(At::new(Secret::new(text.value), text.span)),
        }
    }

    /// A whole number that is not negative.
    pub(super) fn count(&mut self, key: &'static str) -> Field<u64> {
        let Some((span, value)) = self.take(key) else {
            return Field::Absent;
        };
        let kind = "a whole number";
        let DeValue::Integer(integer) = &value else {
            return self.wrong(key, &span, &value, kind, None);
        };
        if let Some(count) = whole(integer).and_then(|n| u64::try_from(n).ok()) {
            return Field::Given(At::new(count, span));
        }
        let label = if integer.as_str().starts_with('-') {
            "negative"
        } else {
            "too large"
        };
        self.desk
            .report
            .push(Mistake::new(format!("`{key}` is {label}")).at(&span, label));
        Field::Wrong
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str) -> Field<bool> {
        let Some((span, value)) = self.take(key) else {
            return Field::Absent;
        };
        let DeValue::Boolean(is) = value else {
            return self.wrong(key, &span, &value, "`true` or `false`", None);
        };
        Field::Given(At::new(is, span))
    }

    /// The text of a string, number, boolean, date or time.
    pub(super) fn scalar(&mut self, key: &'static str) -> Field<String> {
        let Some((span, value)) = self.take(key) else {
            return Field::Absent;
        };
        Field::from_option(self.scalar_text(key, span, value))
    }

    /// The texts of an array of such values.
    pub(super) fn scalars(&mut self, key: &'static str) -> Field<Vec<At<String>>> {
        let Some((span, value)) = self.take(key) else {
            return Field::Absent;
        };
        let DeValue::Array(array) = value else {
            return self.wrong(key, &span, &value, "an array", None);
        };
        let count = array.len();
        let texts: Vec<_> = array
            .into_iter()
            .filter_map(|item| {
                let span = Span::new(&self.desk.source, item.span());
                self.scalar_text(key, span, item.into_inner())
            })
            .collect();
        if texts.len() == count {
            Field::Given(At::new(texts, span))
        } else {
            Field::Wrong
        }
    }

    /// The path of a file that is read later; relative to the folder the configuration is in.
    pub(super) fn path(&mut self, key: &'static str) -> Field<PathBuf> {
        match self.string(key) {
            Field::Absent => Field::Absent,
            Field::Wrong => Field::Wrong,
            Field::Given(name) => {
                Field::Given(At::new(self.desk.folder.join(&name.value), name.span))
            }
        }
    }

    /// What a file holds, and where its name is written.
    pub(super) fn file(&mut self, key: &'static str) -> (Field<String>, Option<Span>) {
        let name = match self.string(key) {
            Field::Absent => return (Field::Absent, None),
            Field::Wrong => return (Field::Wrong, None),
            Field::Given(name) => name,
        };
        let path = self.desk.folder.join(&name.value);
        let known = self.desk.files.get(&path).cloned();
        let source = known.unwrap_or_else(|| {
            let read = files::read_regular(&path, files::SQL_BYTES_MAX);
            let read = read.map_err(|why| {
                let help = "the name is relative to the folder config.toml is in";
                self.desk.report.push(
                    Mistake::new(format!("`{key}` can not be read"))
                        .at(&name.span, why.reason)
                        .help(why.help.unwrap_or(help)),
                );
            });
            let source = read
                .ok()
                .map(|text| Arc::new(Source::new(path.display().to_string(), text, Language::Sql)));
            self.desk.files.insert(path, source.clone());
            source
        });
        let text = source.map(|source| {
            At::new(
                source.text().to_owned(),
                Span::new(&source, 0..source.text().len()),
            )
        });
        (Field::from_option(text), Some(name.span))
    }

    fn take(&mut self, key: &'static str) -> Option<(Span, DeValue<'d>)> {
        self.known.push(key);
        #[cfg(test)]
        self.desk.accepted.insert((self.name.clone(), key));
        let value: Spanned<DeValue<'d>> = self.left.remove(key)?;
        Some((
            Span::new(&self.desk.source, value.span()),
            value.into_inner(),
        ))
    }

    fn wrong<T>(
        &mut self,
        key: &str,
        span: &Span,
        value: &DeValue<'_>,
        kind: &str,
        help: Option<&str>,
    ) -> Field<T> {
        let mistake = Mistake::new(format!("`{key}` must be {kind}")).at(span, found(value));
        self.desk.report.push(match help {
            Some(help) => mistake.help(help),
            None => mistake,
        });
        Field::Wrong
    }

    fn scalar_text(&mut self, key: &str, span: Span, value: DeValue<'d>) -> Option<At<String>> {
        let text = match value {
            DeValue::String(text) => return self.substituted(&text, span),
            DeValue::Integer(integer) => match whole(&integer) {
                Some(number) => number.to_string(),
                None => {
                    let mistake = Mistake::new(format!("`{key}` is too large"));
                    let help = "write it as a string: \"123\"";
                    self.desk
                        .report
                        .push(mistake.at(&span, "too large").help(help));
                    return None;
                }
            },
            DeValue::Float(float) => float.as_str().trim_start_matches('+').to_owned(),
            DeValue::Boolean(is) => is.to_string(),
            DeValue::Datetime(datetime) => datetime.to_string(),
            DeValue::Array(_) | DeValue::Table(_) => {
                let kind = "a string, a number, a boolean, a date or a time";
                self.wrong::<()>(key, &span, &value, kind, None);
                return None;
            }
        };
        Some(At::new(text, span))
    }

    fn substituted(&mut self, text: &str, span: Span) -> Option<At<String>> {
        let bad = match env::substitute(text, self.desk.env) {
            Ok(replaced) => return Some(At::new(replaced.into_owned(), span)),
            Err(bad) => bad,
        };
        for reference in bad {
            let place = reference_span(&span, reference.range);
            self.desk.report.push(match reference.reason {
                Reason::Unset(name) => {
                    Mistake::new(format!("the environment variable `{name}` is not set"))
                        .at(&place, "no such variable, and no default")
                        .help(format!("set it, or give a default: ${{{name}:-value}}"))
                }
                Reason::Malformed => Mistake::new("this is no reference to a variable")
                    .at(&place, "`${` begins one")
                    .help("write ${NAME} or ${NAME:-default}; $${ stands for a literal ${"),
            });
        }
        None
    }
}

/// The place of a reference, or of the whole value where secrets were struck out around it: then
/// escapes can no longer be counted.
fn reference_span(value: &Span, range: Range<usize>) -> Span {
    let part = value.within(range);
    if part.text().starts_with("${") {
        part
    } else {
        value.clone()
    }
}

/// Every integer that TOML guarantees, and those beyond that still fit.
fn whole(integer: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
