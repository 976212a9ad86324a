//! How lists are printed: `--format table`, `json`, a template, or `table` with a template, the same for every command.
//!
//! A row is one value with Docker's names for its fields. As JSON it is one object a line; a template sees the same fields; the table shows
//! some of them as people read them.

use std::io;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::table::Table;
use crate::template::Template;

/// What `--format` asks for.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// One object a line.
    Json,
    /// A line of the user's own for each row.
    Template(Template),
    /// The same in columns, cut at tabs, with a heading.
    TableOf(Template),
}

/// For `--help`.
pub(crate) const FORMAT_HELP: &str = "How to print: `table`, `json`, a template such as `{{.ID}}` with the fields of `json`, or `table` and a template with `\\t` between columns";

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A shell hands on `\t` as it is typed.
        let unescaped = |text: &str| text.replace("\\t", "\t").replace("\\n", "\n");
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            _ if !text.contains("{{") => {
                Err("it is `table`, `json`, or a template such as `{{.ID}}`".to_owned())
            }
            _ => match text.strip_prefix("table ") {
                Some(columns) => unescaped(columns.trim()).parse().map(Self::TableOf),
                None => unescaped(text).parse().map(Self::Template),
            },
        }
    }
}

/// A column of a table: its heading, the field it has in JSON, and what it shows of a row.
pub(crate) struct Column<R> {
    heading: &'static str,
    field: &'static str,
    cell: fn(&R) -> String,
}

impl<R> Column<R> {
    /// A column with all its parts.
    pub(crate) const fn new(
        heading: &'static str,
        field: &'static str,
        cell: fn(&R) -> String,
    ) -> Self {
        Self {
            heading,
            field,
            cell,
        }
    }
}

/// Prints rows as asked. The columns are those of the plain table; their headings stand above a user's columns too.
pub(crate) fn print<R: Serialize>(
    format: &Format,
    columns: &[Column<R>],
    rows: impl IntoIterator<Item = R>,
    out: &mut dyn io::Write,
) -> Result<(), Failure> {
    match format {
        Format::Table => {
            let headings: Vec<_> = columns.iter().map(|column| column.heading).collect();
            let mut table = Table::new(&headings);
            for row in rows {
                table.row(columns.iter().map(|column| (column.cell)(&row)));
            }
            table.write(out)?;
        }
        Format::Json => {
            for row in rows {
                writeln!(out, "{}", value(&row)?)?;
            }
        }
        Format::Template(template) => {
            for row in rows {
                writeln!(out, "{}", fill(template, &value(&row)?)?)?;
            }
        }
        Format::TableOf(template) => {
            let heading = template.fill_headings(&headings(template, columns));
            let mut lines = vec![heading.map_err(unfillable)?];
            for row in rows {
                lines.push(fill(template, &value(&row)?)?);
            }
            Table::of_lines(&lines).write(out)?;
        }
    }
    Ok(())
}

/// What a template gives for a value, or why it can't be filled in.
pub(crate) fn fill(template: &Template, value: &Value) -> Result<String, Failure> {
    template.fill(value).map_err(unfillable)
}

fn unfillable(why: String) -> Failure {
    Failure::usage(format!(
        "the template of `--format` can't be filled in: {why}"
    ))
}

fn value(row: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(row).map_err(|error| io::Error::from(error).into())
}

/// A heading for each field that the template speaks of: the plain table's, or the field's name in capitals.
fn headings<R>(template: &Template, columns: &[Column<R>]) -> Value {
    let heading = |field: &str| {
        let known = columns.iter().find(|column| column.field == field);
        known.map_or_else(|| in_capitals(field), |column| column.heading.to_owned())
    };
    let fields = template.fields().into_iter();
    fields
        .map(|field| (field.to_owned(), heading(field).into()))
        .collect::<Map<_, _>>()
        .into()
}

/// `CreatedAt` as `CREATED AT`.
fn in_capitals(field: &str) -> String {
    let mut heading = String::new();
    let mut before = ' ';
    for c in field.chars() {
        if c.is_uppercase() && before.is_lowercase() {
            heading.push(' ');
        }
        heading.extend(c.to_uppercase());
        before = c;
    }
    heading
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Row {
        #[serde(rename = "ID")]
        id: &'static str,
        created_since: &'static str,
        size: u64,
    }

    const COLUMNS: [Column<Row>; 2] = [
        Column::new("IMAGE ID", "ID", |row| row.id.to_owned()),
        Column::new("CREATED", "CreatedSince", |row| {
            row.created_since.to_owned()
        }),
    ];

    fn printed(format: &str) -> String {
        let rows = [("a", "now", 1), ("long-identifier", "then", 20)];
        let rows = rows.map(|(id, created_since, size)| Row {
            id,
            created_since,
            size,
        });
        let mut out = Vec::new();
        print(&format.parse().unwrap(), &COLUMNS, rows, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_list_has_four_forms() {
        let cases = [
            (
                "table",
                "IMAGE ID          CREATED\na                 now\nlong-identifier   then\n",
            ),
            (
                "json",
                "{\"ID\":\"a\",\"CreatedSince\":\"now\",\"Size\":1}\n{\"ID\":\"long-identifier\",\"CreatedSince\":\"then\",\"Size\":20}\n",
            ),
            ("{{.ID}}\\t{{.Size}}", "a\t1\nlong-identifier\t20\n"),
            (
                "table {{.ID}}\\t{{upper .CreatedSince}}\\t{{.Size}}",
                "IMAGE ID          CREATED   SIZE\na                 NOW       1\nlong-identifier   THEN      20\n",
            ),
        ];
        for (format, expected) in cases {
            assert_eq!(printed(format), expected, "{format}");
        }
    }

    #[test]
    fn what_is_no_format_is_told() {
        for text in ["yaml", "", "table {{.ID", "{{nope}}"] {
            assert!(text.parse::<Format>().is_err(), "{text}");
        }
        let format = "{{.Nope}}".parse().unwrap();
        let rows = [Row {
            id: "a",
            created_since: "now",
            size: 1,
        }];
        let failure = print(&format, &COLUMNS, rows, &mut Vec::new()).unwrap_err();
        assert_eq!(failure.exit, crate::exit::Exit::Usage);
    }

    #[test]
    fn fields_without_a_column_have_headings() {
        for (field, expected) in [
            ("CreatedAt", "CREATED AT"),
            ("ID", "ID"),
            ("InUse", "IN USE"),
        ] {
            assert_eq!(in_capitals(field), expected);
        }
    }
}
