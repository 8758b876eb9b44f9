//! Tables inside tables: one, an array of them, and those whose keys are the operator's own names.

use toml::de::{DeTable, DeValue};

use super::Reader;
use crate::config::schema::{Field, WrongParams};
use crate::config::source::{At, Span};

impl<'e, 'd> Reader<'_, 'e, 'd> {
    /// A table, read by `read`.
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

    /// Every table of an array of tables, read by `read`. `None` for a value of another kind.
    pub(in crate::config) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Reader<'_, 'e, 'd>) -> T,
    ) -> Option<Vec<T>> {
        let Some((span, value)) = self.take(key) else {
            return Some(Vec::new());
        };
        let help = Some(format!("begin each one with a line `[[{key}]]`"));
        let DeValue::Array(array) = value else {
            self.wrong::<()>(key, &span, &value, "an array of tables", help.as_deref());
            return None;
        };
        let mut tables = Vec::with_capacity(array.len());
        for item in array {
            let span = Span::new(&self.desk.source, item.span());
            let kind = "an array of tables";
            if let Some(table) = self.as_table(key, &span, item.into_inner(), kind, help.as_deref())
            {
                tables.push(self.read_table(table, format!("[[{key}]]"), span, &mut read));
            }
        }
        Some(tables)
    }

    /// A table whose keys are the operator's own names, each of them a table read by `read`;
    /// and what is no table.
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
            let name_span = Span::new(&self.desk.source, name.span());
            let name = At::new(name.into_inner().into_owned(), name_span);
            let span = Span::new(&self.desk.source, value.span());
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
            desk: &mut *self.desk,
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
