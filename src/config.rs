//! The text of config.toml, with the place of every value. Nothing is interpreted here.

pub mod field; // a key's value as it was read
pub mod schema; // the sections with their keys

mod env; // `${NAME}` in values
mod files; // reads the files that the operator names, up to a size
mod literal; // maps a place in a string's value to where it is written
mod reader; // walks a table; reports unknown keys and wrong kinds of values
mod redact; // replaces secrets in everything that reports quote
pub mod report; // all mistakes at once, with line, snippet and help
pub mod secret; // text that does not print itself
pub mod source; // where something was written
pub(crate) mod suggest; // what an unknown name was meant to be

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, Error};

pub use field::Field;
pub use files::{FileHash, hash_of_file};
pub use report::{Mistake, Report};
pub use secret::Secret;
pub use source::{At, Source, Span};

use reader::{ReadContext, Reader};
use redact::Parsed;
use schema::{
    AccessSection, CacheSection, EndpointSection, PolicySection, RepositorySection, ServerSection,
};
use source::Language;

/// The contents of config.toml and of the files that it names.
#[derive(Debug)]
pub struct Config {
    /// `[server]`
    pub server: ServerSection,
    /// `[repository]`
    pub repository: RepositorySection,
    /// `[cache]`
    pub cache: CacheSection,
    /// `[access]`
    pub access: AccessSection,
    /// `[defaults]`
    pub defaults: PolicySection,
    /// Every `[[endpoint]]`, in the order of the file; `None` if `endpoint` is not an array of tables.
    pub endpoints: Option<Vec<EndpointSection>>,
    /// The file itself.
    pub source: Arc<Source>,
    /// What was read: the file itself, unless it was not read from one, and the files that it names.
    pub files: HashMap<PathBuf, FileHash>,
    /// Mistakes that need no knowledge of meaning, such as unknown keys. They are kept to be reported
    /// together with the plan's.
    pub(crate) mistakes: Report,
}

impl Config {
    /// Reads the file at `path`. File names in it are relative to its folder, and `env` looks up `${NAME}`.
    ///
    /// # Errors
    /// A report if the file cannot be read or is not TOML. Mistakes that leave the rest readable
    /// are kept, and [`crate::plan::Plan::compile`] reports them with its own.
    pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Report> {
        let name = path.display().to_string();
        let text = files::read(path, files::CONFIG_BYTES_MAX).map_err(|why| {
            Mistake::new(format!("the configuration cannot be read: {}", why.reason))
                .in_file(&name)
                .help(why.help.unwrap_or("name the file with -c"))
        })?;
        let hash = files::hash(text.as_bytes());
        let mut config = Self::parse(&name, text, path.parent().unwrap_or(Path::new("")), env)?;
        config.files.insert(path.to_owned(), hash);
        Ok(config)
    }

    /// Reads `text`, which reports call `name`. File names in it are relative to `folder`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        name: &str,
        text: String,
        folder: &Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Report> {
        if text.len() as u64 > files::CONFIG_BYTES_MAX {
            let mistake = Mistake::new("the configuration is larger than 16 MiB").in_file(name);
            return Err(mistake.into());
        }
        // It may hold secrets, so only a redacted copy outlives this function.
        let text = files::plain(text);
        let (document, errors) = DeTable::parse_recoverable(&text);
        let document = document.into_inner();
        // Of all errors, only a duplicate key leaves the rest of the document readable.
        let is_readable = errors
            .iter()
            .all(|error| error.message() == "duplicate key");
        let parsed = if errors.is_empty() {
            Parsed::Complete(&document)
        } else if is_readable {
            Parsed::Partial(&document)
        } else {
            Parsed::Invalid
        };
        let shown = redact::redact(&text, parsed);
        let source = Arc::new(Source::new(name, shown, Language::Toml));
        let report = syntax_report(&source, &errors, &document);
        if !is_readable {
            return Err(report.sorted());
        }
        let mut context = ReadContext {
            source,
            folder,
            env,
            report,
            files: HashMap::new(),
            hashes: HashMap::new(),
            #[cfg(test)]
            accepted: std::collections::BTreeSet::new(),
        };
        Ok(Self::read(&mut context, document))
    }

    fn read(context: &mut ReadContext<'_>, document: DeTable<'_>) -> Self {
        let source = Arc::clone(&context.source);
        let mut root = Reader::root(context, document);
        let server = root.table("server", ServerSection::read).or_default();
        let repository = root.table("repository", RepositorySection::read);
        let cache = root.table("cache", CacheSection::read).or_default();
        let access = root.table("access", AccessSection::read);
        let defaults = root.table("defaults", PolicySection::read).or_default();
        let endpoints = root.tables("endpoint", EndpointSection::read);
        let endpoints = endpoints.filter(|all| !all.is_empty() || !root.is_misspelled("endpoint"));
        let repository = match root.unless_misspelled("repository", repository) {
            // The URL may be in what could not be read.
            Field::Wrong => RepositorySection {
                url: Field::Wrong,
                ..RepositorySection::default()
            },
            read @ (Field::Given(_) | Field::Absent) => read.or_default(),
        };
        let access = match root.unless_misspelled("access", access) {
            Field::Wrong => AccessSection::unreadable(root.span()),
            read @ (Field::Given(_) | Field::Absent) => read.or_default(),
        };
        root.finish();
        let mistakes = std::mem::take(&mut context.report);
        Self {
            server,
            repository,
            cache,
            access,
            defaults,
            endpoints,
            source,
            files: std::mem::take(&mut context.hashes),
            mistakes,
        }
    }
}

fn syntax_report(source: &Arc<Source>, errors: &[Error], document: &DeTable<'_>) -> Report {
    let mut report = Report::new();
    let mut lines = HashSet::new();
    for error in errors {
        // After an error, the parser may report the same line again.
        let line = error.span().map(|span| source.line_at(span.start));
        if !lines.insert(line) {
            continue;
        }
        let mistake = Mistake::new(error.message());
        report.push(match error.span() {
            Some(span) if error.message() == "duplicate key" => {
                let first = header_before(source.text(), span.start)
                    .or_else(|| last_key_before(document, &span, source.text()));
                let mistake = mistake
                    .at(&Span::new(source, span), "this key is already set")
                    .help("remove one of them");
                match first {
                    Some(first) => mistake.at(&Span::new(source, first), "here"),
                    None => mistake,
                }
            }
            Some(span) => mistake.at(&Span::new(source, span), ""),
            None => mistake.in_file(source.name()),
        });
    }
    report
}

/// The earlier header of the table whose header is repeated at `second`, since the parser keeps only the
/// second one. `None` if there is no header at `second`.
fn header_before(text: &str, second: usize) -> Option<Range<usize>> {
    let header = |line: &str| {
        let end = line.find(']')?;
        line.starts_with('[').then_some(end + 1)
    };
    let line_start = text.get(..second)?.rfind('\n').map_or(0, |end| end + 1);
    let again = &text[line_start..];
    let again = &again[..header(again)?];
    let mut end = line_start;
    for line in text[..line_start].split_inclusive('\n').rev() {
        let start = end - line.len();
        end = start;
        if let Some(len) = header(line).filter(|len| &line[..*len] == again) {
            return Some(start..start + len);
        }
    }
    None
}

/// Where the key that is repeated at `second` was set: the last place before it with a key of the same name,
/// since only keys of its own table and of tables inside that can come in between.
fn last_key_before(table: &DeTable<'_>, second: &Range<usize>, text: &str) -> Option<Range<usize>> {
    let name = text.get(second.clone())?;
    let mut last: Option<Range<usize>> = None;
    let mut found = |span: Range<usize>| {
        if span.start < second.start && last.as_ref().is_none_or(|l| l.start < span.start) {
            last = Some(span);
        }
    };
    for (key, value) in table {
        if text.get(key.span()) == Some(name) {
            found(key.span());
        }
        let tables = value.get_ref().as_table().into_iter();
        let rows = value.get_ref().as_array().into_iter().flatten();
        let rows = rows.filter_map(|row| row.get_ref().as_table());
        for inner in tables.chain(rows) {
            if let Some(span) = last_key_before(inner, second, text) {
                found(span);
            }
        }
    }
    last
}

#[cfg(test)]
mod tests;
