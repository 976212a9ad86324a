//! Tables in Docker's shape: a heading in capitals, columns at least ten wide, three spaces between them.

use std::fmt;
use std::io::{self, Write};

const MINIMUM_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Rows under a heading. The last column is never padded, so lines carry no trailing blanks.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this heading and no rows yet.
    pub(crate) fn new(heading: &[&str]) -> Self {
        Self {
            rows: vec![heading.iter().map(|&cell| cell.to_owned()).collect()],
        }
    }

    /// A table of lines that have a tab between two columns.
    pub(crate) fn of_lines(lines: &[String]) -> Self {
        let lines = lines.iter().flat_map(|line| line.split('\n'));
        let cells = |line: &str| line.split('\t').map(str::to_owned).collect();
        Self {
            rows: lines.map(cells).collect(),
        }
    }

    /// Adds a row of as many cells as the heading has.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Writes heading and rows, one line each.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{self}")
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..columns)
            .map(|column| (widest(column) + PADDING).max(MINIMUM_WIDTH))
            .collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_under_the_heading() {
        let mut table = Table::new(&["REPOSITORY", "TAG", "SIZE"]);
        table.row([
            "localhost/hello-world".to_owned(),
            "latest".to_owned(),
            "1kB".to_owned(),
        ]);
        let mut out = Vec::new();
        assert!(table.write(&mut out).is_ok());
        let expected =
            "REPOSITORY              TAG       SIZE\nlocalhost/hello-world   latest    1kB\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
