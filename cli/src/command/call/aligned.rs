//! Columns as Go's `text/tabwriter` aligns them, because buildx prints with it: every cell but a row's last is filled with blanks,
//! even where nothing follows.

/// Rows of one length; `padding` blanks stand after the widest cell of a column.
pub(super) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]], padding: usize) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0) + padding
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < COLUMNS {
                let blanks = widths[column] - cell.chars().count();
                text.extend(std::iter::repeat_n(' ', blanks));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::aligned;

    #[test]
    fn the_last_cell_alone_is_not_filled() {
        let rows = [["A", "NAME"], ["long", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows, 2), "A     NAME\nlong  \n");
    }
}
