//! `kiln context ls`: what is sent, what is largest in it, and which line of the ignore file hid or kept each path. It lists
//! the folder and opens no file.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;

use kiln_executor::{ContextEntry, EntryKind, inventory};
use kiln_image::ImagePath;
use serde::Serialize;

use crate::command::plan::printable;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{self, FORMAT_HELP, Format};
use crate::human;
use crate::input;
use crate::table::Table;

/// List what a folder sends as build context
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The Dockerfile, whose own ignore file counts before that of the context
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Show what is left out too, and which line of the ignore file hid or kept each path
    #[arg(long)]
    why: bool,
    /// Show only the N largest folders and the N largest files
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    #[arg(long, default_value = "table", value_name = "FORMAT", help = FORMAT_HELP)]
    format: Format,
    /// The folder
    #[arg(value_name = "CONTEXT", default_value = ".")]
    context: PathBuf,
}

/// A path, as it is printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    path: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Bytes; of a folder, of all that is sent from it.
    size: u64,
    /// Files that are sent from a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
    sent: bool,
    /// The line of the ignore file that decides, and what it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<String>,
    #[serde(skip)]
    why: String,
}

/// What is sent from one folder.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    files: u64,
    size: u64,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let folder = input::context_folder(&args.context, args.file.as_deref())?;
    let entries = inventory(&folder).map_err(Failure::from_engine)?;
    let totals = totals(&entries);
    let mut rows: Vec<Row> = entries
        .iter()
        .filter(|entry| args.why || entry.sent)
        .map(|entry| row(entry, &totals))
        .collect();
    let parts = match args.top {
        None => vec![("PATH", rows)],
        Some(top) => {
            rows.retain(|row| row.sent);
            let (folders, others) = rows.into_iter().partition(|row| row.files.is_some());
            vec![
                ("FOLDER", largest(folders, top)),
                ("FILE", largest(others, top)),
            ]
        }
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    match &args.format {
        format @ (Format::Json | Format::Template(_) | Format::TableOf(_)) => {
            let rows = parts.into_iter().flat_map(|(_, rows)| rows);
            format::print(format, &[], rows, &mut out)?;
        }
        Format::Table => {
            write_tables(&parts, args.why, &mut out)?;
            let total = totals.get(&ImagePath::root()).copied().unwrap_or_default();
            let hidden = entries.iter().filter(|entry| !entry.sent).count();
            let summary = summary(total, hidden, folder.ignore_name.as_deref());
            writeln!(out, "{summary}")?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// Headings and what is below them.
type Part = (&'static str, Vec<Row>);

fn write_tables(parts: &[Part], why: bool, out: &mut dyn Write) -> io::Result<()> {
    for (heading, rows) in parts {
        table(heading, rows, why).write(out)?;
        writeln!(out)?;
    }
    Ok(())
}

/// What is sent from each folder, by its path; of the whole context by the root's.
fn totals(entries: &[ContextEntry]) -> HashMap<ImagePath, Total> {
    let mut totals: HashMap<ImagePath, Total> = HashMap::new();
    let sent = |entry: &&ContextEntry| entry.sent && entry.kind != EntryKind::Directory;
    for entry in entries.iter().filter(sent) {
        for folder in entry.path.ancestors().chain([ImagePath::root()]) {
            let total = totals.entry(folder).or_default();
            total.files += 1;
            total.size += entry.size;
        }
    }
    totals
}

fn row(entry: &ContextEntry, totals: &HashMap<ImagePath, Total>) -> Row {
    let is_folder = entry.kind == EntryKind::Directory;
    let total = match is_folder {
        true => totals.get(&entry.path).copied().unwrap_or_default(),
        false => Total {
            files: 0,
            size: entry.size,
        },
    };
    Row {
        path: match is_folder {
            true => format!("{}/", entry.path),
            false => entry.path.to_string(),
        },
        kind: match entry.kind {
            EntryKind::File => "file",
            EntryKind::Directory => "directory",
            EntryKind::Symlink => "symlink",
            EntryKind::Special => "special",
        },
        size: total.size,
        files: (is_folder && entry.sent).then_some(total.files),
        sent: entry.sent,
        line: entry.rule.as_ref().map(|rule| rule.line),
        pattern: entry.rule.as_ref().map(|rule| rule.pattern.clone()),
        why: why(entry),
    }
}

fn why(entry: &ContextEntry) -> String {
    let Some(rule) = &entry.rule else {
        return "no line is about it".to_owned();
    };
    let what = match (entry.sent, rule.exception) {
        (true, true) => "kept by",
        (true, false) => "kept for what is in it, in spite of",
        (false, _) => "left out by",
    };
    format!("{what} line {}: {}", rule.line, rule.pattern)
}

/// The first `top` of them by size, equal ones by path.
fn largest(mut rows: Vec<Row>, top: usize) -> Vec<Row> {
    rows.sort_by(|a, b| (Reverse(a.size), &a.path).cmp(&(Reverse(b.size), &b.path)));
    rows.truncate(top);
    rows
}

fn table(heading: &str, rows: &[Row], why: bool) -> Table {
    let heading: Vec<&str> = ["SIZE", "FILES", heading]
        .into_iter()
        .chain(why.then_some("WHY"))
        .collect();
    let mut table = Table::new(&heading);
    for row in rows {
        let is_unknown = !row.sent && row.kind == "directory";
        let size = match is_unknown {
            true => "-".to_owned(),
            false => human::size(row.size),
        };
        let files = row
            .files
            .map_or_else(String::new, |files| files.to_string());
        let cells = [size, files, printable(&row.path)];
        table.row(cells.into_iter().chain(why.then(|| printable(&row.why))));
    }
    table
}

fn summary(total: Total, hidden: usize, ignore_name: Option<&str>) -> String {
    let files = match total.files {
        1 => "1 file".to_owned(),
        files => format!("{files} files"),
    };
    let hidden = match (hidden, ignore_name) {
        (0, _) | (_, None) => String::new(),
        (1, Some(name)) => format!("; 1 path left out by `{name}`"),
        (hidden, Some(name)) => format!("; {hidden} paths left out by `{name}`"),
    };
    format!("{files}, {}{hidden}", human::size(total.size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first() {
        let row = |path: &str, size| Row {
            path: path.to_owned(),
            kind: "file",
            size,
            files: None,
            sent: true,
            line: None,
            pattern: None,
            why: String::new(),
        };
        let rows = vec![row("a", 1), row("c", 5), row("b", 5)];
        let paths = |rows: Vec<Row>| rows.into_iter().map(|row| row.path).collect::<Vec<_>>();
        assert_eq!(paths(largest(rows.clone(), 2)), ["b", "c"]);
        assert_eq!(paths(largest(rows, 9)), ["b", "c", "a"]);
    }
}
