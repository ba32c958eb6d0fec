//! Columns under their titles, as wide as they need to be.

use super::words::clean;

/// Rows of text under titles; numbers stand to the right.
#[derive(Debug)]
pub(crate) struct Table {
    titles: Vec<&'static str>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns; a title that begins with `>` sets its column to the right.
    pub(crate) fn new(titles: &[&'static str]) -> Self {
        Self {
            titles: titles.iter().map(|title| title.trim_start_matches('>')).collect(),
            right: titles.iter().map(|title| title.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, one cell for each column.
    pub(crate) fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        assert_eq!(COLUMNS, self.titles.len(), "one cell for each column");
        self.rows.push(cells.iter().map(|cell| clean(cell)).collect());
    }

    /// The table as whole lines; `nothing` if it has no rows.
    pub(crate) fn show(&self, nothing: &str) -> String {
        if self.rows.is_empty() {
            return format!("{nothing}\n");
        }
        let titles: Vec<String> = self.titles.iter().map(|title| (*title).to_owned()).collect();
        std::iter::once(&titles).chain(&self.rows).map(|row| self.line(row)).collect()
    }

    fn line(&self, row: &[String]) -> String {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let gap = " ".repeat(self.width(column) - cell.chars().count());
            if self.right[column] { format!("{gap}{cell}") } else { format!("{cell}{gap}") }
        });
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(self.titles[column].chars().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", ">SIZE"]);
        table.row(["scan".to_owned(), "1.5 MiB".to_owned()]);
        table.row(["é\n".to_owned(), "2 B".to_owned()]);
        assert_eq!(table.show(""), "NAME       SIZE\nscan    1.5 MiB\né\\u{a}      2 B\n");
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new(&["NAME"]).show("Nothing here."), "Nothing here.\n");
    }
}
