//! Text in columns, for a terminal.

use std::fmt;

use crate::log::escaped;

/// Rows of cells; a cell may have several lines.
#[derive(Debug)]
pub(super) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<Vec<String>>>,
}

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        Self {
            head: head.iter().map(|name| (*name).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with a cell for each column. A line of a cell stays one, whatever it holds.
    pub(super) fn row(&mut self, cells: Vec<Vec<String>>) {
        let lines =
            |cell: Vec<String>| cell.iter().map(|line| escaped(line).into_owned()).collect();
        self.rows.push(cells.into_iter().map(lines).collect());
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.head.iter().map(|name| name.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                let longest = cell.iter().map(|line| line.chars().count()).max();
                *width = (*width).max(longest.unwrap_or_default());
            }
        }
        widths
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        write_line(f, &widths, |column| Some(&self.head[column]))?;
        let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        write_line(f, &widths, |column| Some(&rules[column]))?;
        for row in &self.rows {
            let height = row.iter().map(Vec::len).max().unwrap_or_default();
            for line in 0..height {
                write_line(f, &widths, |column| row[column].get(line))?;
            }
        }
        Ok(())
    }
}

fn write_line<'a>(
    f: &mut fmt::Formatter<'_>,
    widths: &[usize],
    cell: impl Fn(usize) -> Option<&'a String>,
) -> fmt::Result {
    let mut line = String::new();
    for (column, width) in widths.iter().enumerate() {
        let text = cell(column).map_or("", String::as_str);
        line.push_str(&format!("{text:<width$}  "));
    }
    writeln!(f, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_line() {
        let mut table = Table::new(&["a", "long name"]);
        table.row(vec![
            vec!["1".to_owned(), "two".to_owned()],
            vec!["x\r\nerror".to_owned()],
        ]);
        assert_eq!(
            table.to_string(),
            "a    long name\n---  ----------\n1    x\\r\\nerror\ntwo\n"
        );
    }
}
