//! `kiln history`: how an image came to be, newest step first.

use std::io::{self, Write};

use jiff::Timestamp;
use kiln_cache::Store;
use kiln_executor::images::StoredImage;
use kiln_image::History;
use serde::Serialize;

use crate::args::ListFormat;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::render::shown;
use crate::session::Session;
use crate::stored;
use crate::table::{Table, write_json_lines};

/// Commands are shortened to this many characters.
const COMMAND_WIDTH: usize = 45;

/// Show the steps an image was made by
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: ListFormat,
    /// Name or id of an image
    image: String,
}

/// A line of the list, with Docker's names for its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    comment: String,
    created_at: String,
    created_by: String,
    created_since: String,
    #[serde(rename = "ID")]
    id: String,
    size: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open(config)?;
    let image = stored::find(&session.services()?, &args.image)?;
    let rows = rows(args, &session.store, &image);
    let mut out = io::stdout().lock();
    match (args.quiet, args.format) {
        (true, _) => rows
            .iter()
            .try_for_each(|row| writeln!(out, "{}", row.id))?,
        (_, ListFormat::Json) => write_json_lines(rows, &mut out)?,
        (_, ListFormat::Table) => table(rows).write(&mut out)?,
    }
    Ok(Exit::Done)
}

/// One row for each entry, newest first; only the newest has an id.
fn rows(args: &Args, store: &Store, image: &StoredImage) -> Vec<Row> {
    let config = &image.config;
    let sizes: Vec<u64> = config
        .diff_ids()
        .iter()
        .map(|layer| stored::layer_size(store, layer))
        .collect();
    let history = config.history.as_deref().unwrap_or_default();
    let mut rows: Vec<_> = with_sizes(history, &sizes)
        .map(|(entry, size)| row(entry, size, args.no_trunc))
        .collect();
    rows.reverse();
    if let Some(newest) = rows.first_mut() {
        newest.id = stored::id(image.record.config, args.no_trunc);
    }
    rows
}

/// Each entry with the size of the layer it made; those that made none have none.
fn with_sizes<'h>(
    history: &'h [History],
    sizes: &'h [u64],
) -> impl Iterator<Item = (&'h History, u64)> {
    let mut sizes = sizes.iter();
    history.iter().map(move |entry| match entry.empty_layer {
        true => (entry, 0),
        false => (entry, sizes.next().copied().unwrap_or(0)),
    })
}

fn row(entry: &History, size: u64, full: bool) -> Row {
    let created = stored::moment(entry.created.as_deref());
    Row {
        comment: entry.comment.clone(),
        created_at: entry.created.clone().unwrap_or_default(),
        created_by: if full {
            entry.created_by.clone()
        } else {
            shortened(&entry.created_by)
        },
        created_since: created
            .map_or_else(|| "N/A".to_owned(), |at| human::age(at, Timestamp::now())),
        id: "<missing>".to_owned(),
        size: human::size(size),
    }
}

/// At most [`COMMAND_WIDTH`] characters in one line.
fn shortened(command: &str) -> String {
    let line = command.replace(['\n', '\t'], " ");
    match line.chars().count() > COMMAND_WIDTH {
        true => line.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect(),
        false => line,
    }
}

fn table(rows: Vec<Row>) -> Table {
    let mut table = Table::new(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    for row in rows {
        table.row([
            row.id,
            row.created_since,
            shown(&row.created_by),
            row.size,
            row.comment,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_go_to_the_entries_that_made_layers() {
        let entry = |empty_layer| History {
            empty_layer,
            ..History::default()
        };
        let history = [entry(false), entry(true), entry(false), entry(false)];
        let sizes: Vec<_> = with_sizes(&history, &[10, 20])
            .map(|(_, size)| size)
            .collect();
        assert_eq!(sizes, [10, 0, 20, 0]);
    }

    #[test]
    fn long_commands_are_shortened() {
        assert_eq!(shortened("RUN true"), "RUN true");
        assert_eq!(shortened(&"x".repeat(46)), "x".repeat(44) + "…");
        assert_eq!(shortened("RUN a\n\tb"), "RUN a  b");
    }
}
