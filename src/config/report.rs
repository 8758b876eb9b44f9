//! The mistakes found in a configuration, each with its place and a way out, rendered as rustc does.

use std::fmt;
use std::sync::Arc;

use annotate_snippets::{
    AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str,
};

use super::source::{Source, Span};

/// One mistake: what is wrong, where, and what to do about it.
#[derive(Debug, Clone)]
pub struct Mistake {
    message: String,
    /// The first is the mistake's own place; the others explain it.
    places: Vec<(Span, String)>,
    file: Option<String>,
    note: Option<String>,
    help: Option<String>,
}

impl Mistake {
    /// A mistake without a place.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            places: Vec::new(),
            file: None,
            note: None,
            help: None,
        }
    }

    /// Adds a place: first the mistake's own, then those that explain it. The label is shown next to the
    /// underlined text and may be empty.
    #[must_use]
    pub fn at(mut self, span: &Span, label: impl Into<String>) -> Self {
        self.places.push((span.clone(), label.into()));
        self
    }

    /// Names the file, for a mistake without a place.
    #[must_use]
    pub fn in_file(mut self, name: impl Into<String>) -> Self {
        self.file = Some(name.into());
        self
    }

    /// Adds more about the cause.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Adds the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What is wrong, in a sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The mistake's own place, if it has one.
    pub fn span(&self) -> Option<&Span> {
        self.places.first().map(|(span, _)| span)
    }

    /// The way out.
    pub fn advice(&self) -> Option<&str> {
        self.help.as_deref()
    }

    fn group(&self) -> Group<'_> {
        let mut group = Group::with_title(Level::ERROR.primary_title(self.message.as_str()));
        let mut shown: Vec<&Arc<Source>> = Vec::new();
        for (index, (span, _)) in self.places.iter().enumerate() {
            if !shown
                .iter()
                .any(|source| Arc::ptr_eq(source, span.source()))
            {
                shown.push(span.source());
                group = group.element(self.snippet(index));
            }
        }
        if let Some(file) = self.file.as_deref().filter(|_| self.places.is_empty()) {
            group = group.element(Origin::path(file));
        }
        if let Some(note) = &self.note {
            group = group.element(Level::NOTE.message(normalize_untrusted_str(note)));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
        }
        group
    }

    /// The lines that contain the places in the same source as the place at `first`. The renderer gets only
    /// these, so that the cost of a report does not depend on the size of the file.
    fn snippet(&self, first: usize) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
        let source = self.places[first].0.source();
        let places = || {
            self.places
                .iter()
                .enumerate()
                .filter(|(_, (span, _))| Arc::ptr_eq(span.source(), source))
                .map(|(index, (span, label))| (index, span.range(), label.as_str()))
        };
        let first_line = places()
            .map(|(_, range, _)| source.line_at(range.start))
            .min()
            .unwrap_or(0);
        let last_line = places()
            .map(|(_, range, _)| source.line_at(range.end))
            .max()
            .unwrap_or(0);
        let window = source.lines(first_line, last_line);
        Snippet::source(&source.text()[window.clone()])
            .path(source.name())
            .line_start(first_line + 1)
            .annotations(places().map(|(index, range, label)| {
                let kind = if index == 0 {
                    AnnotationKind::Primary
                } else {
                    AnnotationKind::Context
                };
                let range = range.start - window.start..range.end.min(window.end) - window.start;
                kind.span(range).label((!label.is_empty()).then_some(label))
            }))
    }
}

/// All mistakes found, in the order of their places.
#[derive(Debug, Clone, Default)]
pub struct Report {
    mistakes: Vec<Mistake>,
}

impl Report {
    /// An empty report.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a mistake.
    pub fn push(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// Appends the mistakes of `other`.
    pub fn append(&mut self, mut other: Self) {
        self.mistakes.append(&mut other.mistakes);
    }

    /// The number of mistakes.
    pub fn len(&self) -> usize {
        self.mistakes.len()
    }

    /// The mistakes in one line, each as file, line and message.
    pub fn in_one_line(&self) -> String {
        const NAMED_MAX: usize = 3;
        let words = |mistake: &Mistake| match mistake.span() {
            Some(span) => format!(
                "{}:{}: {}",
                span.source().name(),
                span.line(),
                mistake.message
            ),
            None => mistake.message.clone(),
        };
        let named = self.mistakes.iter().take(NAMED_MAX).map(words);
        let mut line = named.collect::<Vec<_>>().join("; ");
        if self.mistakes.len() > NAMED_MAX {
            line.push_str(&format!("; and {} more", self.mistakes.len() - NAMED_MAX));
        }
        line
    }

    /// Whether there are no mistakes.
    pub fn is_empty(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// The mistakes.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// Sorts the mistakes of each file by line; files stay in the order of their first mistake.
    pub(crate) fn sorted(mut self) -> Self {
        let mut sources: Vec<*const Source> = Vec::new();
        self.mistakes.sort_by_cached_key(|mistake| {
            let Some(span) = mistake.span() else {
                return (0, 0);
            };
            let pointer = Arc::as_ptr(span.source());
            let file = sources
                .iter()
                .position(|known| *known == pointer)
                .unwrap_or_else(|| {
                    sources.push(pointer);
                    sources.len() - 1
                });
            (file, span.range().start)
        });
        self
    }

    /// The report with ANSI colours, for a terminal.
    pub fn coloured(&self) -> String {
        self.render(&Renderer::styled())
    }

    /// Every mistake, and a last line that counts them.
    fn render(&self, renderer: &Renderer) -> String {
        let mut text = String::new();
        for mistake in &self.mistakes {
            text.push_str(&renderer.render(&[mistake.group()]));
            text.push_str("\n\n");
        }
        let count = match self.mistakes.len() {
            1 => "1 mistake".to_owned(),
            many => format!("{many} mistakes"),
        };
        text.push_str(&renderer.render(&[Group::with_title(Level::ERROR.primary_title(count))]));
        text.push('\n');
        text
    }
}

impl From<Mistake> for Report {
    fn from(mistake: Mistake) -> Self {
        Self {
            mistakes: vec![mistake],
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

impl std::error::Error for Report {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::source::Language;
    use super::*;

    proptest! {
        #[test]
        fn any_place_in_any_text_can_be_shown(
            text in "[a-z\\n\\r\\t äß\u{1F600}\u{7}]{0,60}", a in 0usize..70, b in 0usize..70, c in 0usize..70,
        ) {
            let source = Arc::new(Source::new("x", text, Language::Toml));
            let mistake = Mistake::new("wrong")
                .at(&Span::new(&source, a.min(b)..a.max(b)), "here")
                .at(&Span::new(&source, c..c), "");
            let _ = Report::from(mistake).coloured();
        }
    }
}
