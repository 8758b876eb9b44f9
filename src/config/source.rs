//! Where something was written: a file's text and spans of it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::literal;

/// A file that an operator wrote, with its secrets redacted byte for byte.
pub struct Source {
    name: String,
    text: String,
    language: Language,
    line_starts: Vec<usize>,
}

/// The language of a [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// config.toml: a value may be quoted and escaped.
    Toml,
    /// A file of SQL: its text is the value.
    Sql,
}

impl Source {
    pub(crate) fn new(name: impl Into<String>, text: String, language: Language) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            name: name.into(),
            text,
            language,
            line_starts,
        }
    }

    /// The file's name, as the operator gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text, with its secrets redacted.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The line that contains `offset`, counted from 0.
    pub(crate) fn line_at(&self, offset: usize) -> usize {
        self.line_starts
            .partition_point(|start| *start <= offset)
            .saturating_sub(1)
    }

    /// The bytes of the lines `first..=last`, counted from 0, without the final line end.
    pub(crate) fn lines(&self, first: usize, last: usize) -> Range<usize> {
        let start = self
            .line_starts
            .get(first)
            .copied()
            .unwrap_or(self.text.len());
        let end = self
            .line_starts
            .get(last + 1)
            .map_or(self.text.len(), |next| next - 1);
        start..end.max(start)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.name)
    }
}

/// A range of a [`Source`].
#[derive(Clone)]
pub struct Span {
    source: Arc<Source>,
    start: usize,
    end: usize,
}

impl Span {
    /// The bytes `range` of `source`, clamped to its length and to whole characters.
    pub(crate) fn new(source: &Arc<Source>, range: Range<usize>) -> Self {
        let end = source.text.ceil_char_boundary(range.end);
        let start = source.text.floor_char_boundary(range.start).min(end);
        Self {
            source: Arc::clone(source),
            start,
            end,
        }
    }

    /// The file.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Its first line, counted from 1.
    pub fn line(&self) -> usize {
        self.source.line_at(self.start) + 1
    }

    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The text there.
    pub(crate) fn text(&self) -> &str {
        &self.source.text[self.range()]
    }

    /// The part of this span, a whole string, where the bytes `range` of its value are written; or this
    /// span if that cannot be determined.
    pub(crate) fn within(&self, range: Range<usize>) -> Self {
        let written = |value_offset| match self.source.language {
            Language::Sql => Some(value_offset..value_offset + 1),
            Language::Toml => literal::written_at(self.text(), value_offset),
        };
        let Some(first) = written(range.start) else {
            return self.clone();
        };
        // The end of the last byte, since the byte after it may be lines away, behind a continuation.
        let end = if range.is_empty() {
            first.start
        } else {
            written(range.end - 1).map_or(first.end, |last| last.end)
        };
        Self::new(
            &self.source,
            self.start + first.start..self.start + end.max(first.start),
        )
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source.name, self.line())
    }
}

/// A value and where it is written.
#[derive(Debug, Clone)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// The place of the value, without its key.
    pub span: Span,
}

impl<T> At<T> {
    pub(crate) fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_from_offsets() {
        let source = Source::new("x", "a\nbc\n\nd".to_owned(), Language::Sql);
        let lines: Vec<_> = (0..=source.text().len())
            .map(|at| source.line_at(at))
            .collect();
        assert_eq!(lines, [0, 0, 1, 1, 1, 2, 3, 3]);
        assert_eq!(&source.text()[source.lines(1, 1)], "bc");
        assert_eq!(&source.text()[source.lines(1, 3)], "bc\n\nd");
    }

    #[test]
    fn a_span_never_leaves_its_source_nor_splits_a_character() {
        let source = Arc::new(Source::new("x", "aä".to_owned(), Language::Sql));
        assert_eq!(Span::new(&source, 2..90).text(), "ä");
        assert_eq!(Span::new(&source, 80..90).text(), "");
    }
}
