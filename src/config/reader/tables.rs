//! Tables inside tables: one, an array of them, and tables whose keys are names that the operator chose.

use toml::de::{DeTable, DeValue};

use super::Reader;
use crate::config::field::{Field, NamedLists, NamedTexts, WrongParams};
use crate::config::source::{At, Span};

impl<'e, 'd> Reader<'_, 'e, 'd> {
    /// A table that `read` reads.
    pub(in crate::config) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Reader<'_, 'e, 'd>) -> T,
    ) -> Field<T> {
        let Some((span, value)) = self.take(key) else {
            return Field::Absent;
        };
        let name = if self.name.is_empty() {
            format!("[{key}]")
        } else {
            format!("`{key}`")
        };
        let Some(table) = self.as_table(key, &span, value, "a table", None) else {
            return Field::Wrong;
        };
        let read = self.read_table(table, name, span.clone(), read);
        Field::Given(At::new(read, span))
    }

    /// A word, or a table that `read` reads.
    pub(in crate::config) fn word_or_table<T>(
        &mut self,
        key: &'static str,
        word: impl FnOnce(String) -> T,
        read: impl FnOnce(&mut Reader<'_, 'e, 'd>) -> T,
    ) -> Field<T> {
        let Some((span, value)) = self.take(key) else {
            return Field::Absent;
        };
        if let DeValue::String(text) = value {
            let text = self.substituted(&text, span);
            return Field::from_option(text.map(|text| At::new(word(text.value), text.span)));
        }
        let Some(table) = self.as_table(key, &span, value, "a word or a table", None) else {
            return Field::Wrong;
        };
        let read = self.read_table(table, format!("`{key}`"), span.clone(), read);
        Field::Given(At::new(read, span))
    }

    /// A table of scalars, whose keys are names that the operator chose.
    pub(in crate::config) fn texts(&mut self, key: &'static str) -> Field<NamedTexts> {
        let Some((span, value)) = self.take(key) else {
            return Field::Absent;
        };
        let help = format!("for example {key} = {{ tenant = \"acme\" }}");
        let Some(table) = self.as_table(key, &span, value, "a table", Some(&help)) else {
            return Field::Wrong;
        };
        Field::from_option(self.named_texts(table).map(|texts| At::new(texts, span)))
    }

    /// A table of arrays of scalars, whose keys are names that the operator chose. In the order of the file.
    pub(in crate::config) fn named_lists(&mut self, key: &'static str) -> Field<NamedLists> {
        let Some((span, value)) = self.take(key) else {
            return Field::Absent;
        };
        let help = format!("for example {key} = {{ \"request.jwt.claims\" = [\"sub\"] }}");
        let Some(table) = self.as_table(key, &span, value, "a table", Some(&help)) else {
            return Field::Wrong;
        };
        let count = table.len();
        let mut lists = Vec::with_capacity(count);
        for (name, value) in table {
            let name_span = Span::new(&self.context.source, name.span());
            let value_span = Span::new(&self.context.source, value.span());
            let name = At::new(name.into_inner().into_owned(), name_span);
            if let Field::Given(list) =
                self.scalar_list(&name.value, value_span, value.into_inner())
            {
                lists.push((name, list));
            }
        }
        lists.sort_by_key(|(name, _)| name.span.range().start);
        Field::from_option((lists.len() == count).then(|| At::new(lists, span)))
    }

    /// Every table of an array of tables. `None` for a value of another kind.
    pub(in crate::config) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Reader<'_, 'e, 'd>) -> T,
    ) -> Option<Vec<T>> {
        let Some((span, value)) = self.take(key) else {
            return Some(Vec::new());
        };
        let name = match self.name.trim_matches(['[', ']']) {
            "" => format!("[[{key}]]"),
            parent => format!("[[{parent}.{key}]]"),
        };
        let help = Some(format!("start each one with a line `{name}`"));
        let DeValue::Array(array) = value else {
            self.wrong::<()>(key, &span, &value, "an array of tables", help.as_deref());
            return None;
        };
        let mut tables = Vec::with_capacity(array.len());
        for item in array {
            let span = Span::new(&self.context.source, item.span());
            let kind = "an array of tables";
            if let Some(table) = self.as_table(key, &span, item.into_inner(), kind, help.as_deref())
            {
                tables.push(self.read_table(table, name.clone(), span, &mut read));
            }
        }
        Some(tables)
    }

    /// A table of tables, whose keys are names that the operator chose; and which of them are not tables.
    pub(in crate::config) fn named_tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(At<String>, &mut Reader<'_, 'e, 'd>) -> T,
    ) -> (Vec<T>, Option<WrongParams>) {
        let Some((span, value)) = self.take(key) else {
            return (Vec::new(), None);
        };
        let DeValue::Table(table) = value else {
            self.wrong::<()>(key, &span, &value, "a table", None);
            return (Vec::new(), Some(WrongParams::All));
        };
        let mut wrong = Vec::new();
        let mut tables = Vec::with_capacity(table.len());
        for (name, value) in table {
            let name_span = Span::new(&self.context.source, name.span());
            let name = At::new(name.into_inner().into_owned(), name_span);
            let span = Span::new(&self.context.source, value.span());
            let full_name = format!("{key}.{}", name.value);
            let help = format!("for example `{full_name} = {{ optional = true }}`");
            let table = self.as_table(
                &full_name,
                &span,
                value.into_inner(),
                "a table",
                Some(&help),
            );
            let Some(table) = table else {
                wrong.push(name.value);
                continue;
            };
            let full_name = format!("`{full_name}`");
            tables.push(self.read_table(table, full_name, span, |reader| read(name, reader)));
        }
        let wrong = (!wrong.is_empty()).then_some(WrongParams::Named(wrong));
        (tables, wrong)
    }

    /// An array of tables of scalars, whose keys are names that the operator chose.
    pub(in crate::config) fn named_scalars(
        &mut self,
        key: &'static str,
    ) -> Field<Vec<At<NamedTexts>>> {
        let Some((span, value)) = self.take(key) else {
            return Field::Absent;
        };
        let kind = "an array of tables";
        let help = Some("for example [{ country = \"USA\", year = 2004 }]");
        let DeValue::Array(array) = value else {
            return self.wrong(key, &span, &value, kind, help);
        };
        let count = array.len();
        let mut tables = Vec::with_capacity(count);
        for item in array {
            let span = Span::new(&self.context.source, item.span());
            if let Some(table) = self.as_table(key, &span, item.into_inner(), kind, help)
                && let Some(texts) = self.named_texts(table)
            {
                tables.push(At::new(texts, span));
            }
        }
        if tables.len() == count {
            Field::Given(At::new(tables, span))
        } else {
            Field::Wrong
        }
    }

    /// In the order of the file.
    fn named_texts(&mut self, table: DeTable<'d>) -> Option<NamedTexts> {
        let count = table.len();
        let mut texts = Vec::with_capacity(count);
        for (name, value) in table {
            let name_span = Span::new(&self.context.source, name.span());
            let value_span = Span::new(&self.context.source, value.span());
            let name = At::new(name.into_inner().into_owned(), name_span);
            if let Some(text) = self.scalar_text(&name.value, value_span, value.into_inner()) {
                texts.push((name, text));
            }
        }
        texts.sort_by_key(|(name, _)| name.span.range().start);
        (texts.len() == count).then_some(texts)
    }

    fn as_table(
        &mut self,
        key: &str,
        span: &Span,
        value: DeValue<'d>,
        kind: &str,
        help: Option<&str>,
    ) -> Option<DeTable<'d>> {
        let DeValue::Table(table) = value else {
            self.wrong::<()>(key, span, &value, kind, help);
            return None;
        };
        Some(table)
    }

    fn read_table<T>(
        &mut self,
        table: DeTable<'d>,
        name: String,
        span: Span,
        read: impl FnOnce(&mut Reader<'_, 'e, 'd>) -> T,
    ) -> T {
        let mut reader = Reader {
            context: &mut *self.context,
            left: table,
            name,
            span,
            known: Vec::new(),
        };
        let read = read(&mut reader);
        reader.finish();
        read
    }
}
