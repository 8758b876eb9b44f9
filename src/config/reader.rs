//! Reads a parsed TOML table key by key and reports what does not fit: unknown keys, values of the wrong
//! kind, and variables that are not set. Reading a key makes it known, so no second list of keys exists.

mod tables; // tables inside tables

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::env::{self, Reason};
use super::field::Field;
use super::files::{self, FileHash};
use super::report::{Mistake, Report};
use super::secret::Secret;
use super::source::{At, Language, Source, Span};
use super::suggest;

const DURATION_HELP: &str =
    "a duration is a string such as \"250ms\", \"10s\", \"5m\" or \"1h30m\"";
const SIZE_HELP: &str = "a size is a string such as \"64KiB\", \"16MiB\" or \"1GiB\"";

/// What the readers of all tables in one file share.
pub(super) struct ReadContext<'e> {
    pub(super) source: Arc<Source>,
    /// The folder that relative file names start from.
    pub(super) folder: &'e Path,
    pub(super) env: &'e dyn Fn(&str) -> Option<String>,
    pub(super) report: Report,
    /// The files read so far, because endpoints may share one; `None` for a file that cannot be read.
    pub(super) files: HashMap<PathBuf, Option<Arc<Source>>>,
    /// What was in them.
    pub(super) hashes: HashMap<PathBuf, FileHash>,
    #[cfg(test)]
    pub(super) accepted: std::collections::BTreeSet<(String, &'static str)>,
}

/// One table being read.
pub(super) struct Reader<'r, 'e, 'd> {
    context: &'r mut ReadContext<'e>,
    /// The keys that have not been read yet.
    left: DeTable<'d>,
    /// The name in mistakes, such as `[server]`.
    name: String,
    span: Span,
    known: Vec<&'static str>,
}

impl<'r, 'e, 'd> Reader<'r, 'e, 'd> {
    /// Reads the whole file.
    pub(super) fn root(context: &'r mut ReadContext<'e>, table: DeTable<'d>) -> Self {
        let span = Span::new(&context.source, 0..0);
        Self {
            context,
            left: table,
            name: String::new(),
            span,
            known: Vec::new(),
        }
    }

    /// The table's header, or the table itself if it is inline.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Reports every key that was not read.
    pub(super) fn finish(self) {
        for key in self.left.keys() {
            let span = Span::new(&self.context.source, key.span());
            let place = if self.name.is_empty() {
                String::new()
            } else {
                format!(" in {}", self.name)
            };
            // From the redacted text, in case somebody wrote a URL with a password as a key.
            let written = span.text().trim_matches(['"', '\'']);
            let mistake = Mistake::new(format!("unknown key `{written}`{place}"));
            let mistake = match suggest::nearest(key.get_ref(), self.known.iter().copied()) {
                Some(known) => mistake
                    .at(&span, "no such key")
                    .help(format!("did you mean `{known}`?")),
                None => mistake.at(&span, "no such key").help(format!(
                    "the keys here are {}",
                    suggest::list(self.known.iter().copied())
                )),
            };
            self.context.report.push(mistake);
        }
    }

    /// Whether the table has unknown keys. Call this after the last known key has been read.
    pub(super) fn has_unknown_keys(&self) -> bool {
        !self.left.is_empty()
    }

    /// `value`, or [`Field::Wrong`] if `key` is absent and an unknown key looks like a misspelling of it: the
    /// unknown key is reported, so the absence need not be. Call this after the last known key has been read.
    pub(super) fn unless_misspelled<T>(&self, key: &str, value: Field<T>) -> Field<T> {
        if value.is_absent() && self.is_misspelled(key) {
            Field::Wrong
        } else {
            value
        }
    }

    /// Whether an unknown key looks like a misspelling of `key`.
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

    /// The text of a duration.
    pub(super) fn duration(&mut self, key: &'static str) -> Field<String> {
        self.text(key, "a duration", Some(DURATION_HELP))
    }

    /// The text of a size in bytes.
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

    /// Text that must never be shown.
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
        self.context
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
        match self.take(key) {
            Some((span, value)) => self.scalar_list(key, span, value),
            None => Field::Absent,
        }
    }

    fn scalar_list(&mut self, key: &str, span: Span, value: DeValue<'d>) -> Field<Vec<At<String>>> {
        let DeValue::Array(array) = value else {
            return self.wrong(key, &span, &value, "an array", None);
        };
        let count = array.len();
        let texts: Vec<_> = array
            .into_iter()
            .filter_map(|item| {
                let span = Span::new(&self.context.source, item.span());
                self.scalar_text(key, span, item.into_inner())
            })
            .collect();
        if texts.len() == count {
            Field::Given(At::new(texts, span))
        } else {
            Field::Wrong
        }
    }

    /// The path of a file that is read later, relative to the configuration's folder.
    pub(super) fn path(&mut self, key: &'static str) -> Field<PathBuf> {
        match self.string(key) {
            Field::Absent => Field::Absent,
            Field::Wrong => Field::Wrong,
            Field::Given(name) => {
                Field::Given(At::new(self.context.folder.join(&name.value), name.span))
            }
        }
    }

    /// The text of a file, and where its name is written.
    pub(super) fn file(&mut self, key: &'static str) -> (Field<String>, Option<Span>) {
        let name = match self.string(key) {
            Field::Absent => return (Field::Absent, None),
            Field::Wrong => return (Field::Wrong, None),
            Field::Given(name) => name,
        };
        let path = self.context.folder.join(&name.value);
        let known = self.context.files.get(&path).cloned();
        let source = known.unwrap_or_else(|| {
            let read = files::read_regular(&path, files::SQL_BYTES_MAX);
            let hash = read
                .as_ref()
                .ok()
                .and_then(|text| files::hash(text.as_bytes()));
            self.context.hashes.insert(path.clone(), hash);
            let read = read.map_err(|why| {
                let help = "the name is relative to the folder that config.toml is in";
                self.context.report.push(
                    Mistake::new(format!("the file of `{key}` cannot be read"))
                        .at(&name.span, why.reason)
                        .help(why.help.unwrap_or(help)),
                );
            });
            let source = read
                .ok()
                .map(|text| Arc::new(Source::new(path.display().to_string(), text, Language::Sql)));
            self.context.files.insert(path, source.clone());
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
        self.context.accepted.insert((self.name.clone(), key));
        let value: Spanned<DeValue<'d>> = self.left.remove(key)?;
        Some((
            Span::new(&self.context.source, value.span()),
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
        self.context.report.push(match help {
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
                    self.context
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
        let bad = match env::substitute(text, self.context.env) {
            Ok(replaced) => return Some(At::new(replaced.into_owned(), span)),
            Err(bad) => bad,
        };
        for reference in bad {
            let place = reference_span(&span, reference.range);
            self.context.report.push(match reference.reason {
                Reason::Unset(name) => {
                    Mistake::new(format!("the environment variable `{name}` is not set"))
                        .at(&place, "no such variable, and no default")
                        .help(format!("set it, or give a default: ${{{name}:-value}}"))
                }
                Reason::Malformed => Mistake::new("this is not a reference to a variable")
                    .at(&place, "`${` starts a reference")
                    .help("write ${NAME} or ${NAME:-default}; $${ stands for a literal ${"),
            });
        }
        None
    }
}

/// The place of a reference; or of the whole value if secrets around the reference were redacted, since
/// escapes can no longer be counted then.
fn reference_span(value: &Span, range: Range<usize>) -> Span {
    let part = value.within(range);
    if part.text().starts_with("${") {
        part
    } else {
        value.clone()
    }
}

/// An integer, including those beyond the 64 bits that TOML guarantees.
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
