//! `kiln cache du`: how much space each kind of thing takes, every byte counted once.

use std::io;

use kiln_cache::{Detail, EntryKind, Inventory};
use serde::Serialize;

use super::Filter;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{self, Column, FORMAT_HELP, Format};
use crate::human;
use crate::session::Session;

/// Show how much space is taken; what several things share is counted once, with images that have a name first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long, default_value = "table", value_name = "FORMAT", help = FORMAT_HELP)]
    format: Format,
    /// As for `kiln cache ls`; the rest is not counted
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "Type")]
    kind: &'static str,
    count: usize,
    /// Bytes.
    size: u64,
    /// Bytes.
    reclaimable: u64,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open_with_files(config, None)?;
    let store = &session.store;
    let held = store.lock_shared();
    let inventory = held
        .and_then(|_held| store.inventory(Detail::Descriptions))
        .map_err(|error| Failure::from_store(&error))?;
    let rows = rows(inventory, &args.filters);
    let mut out = io::stdout().lock();
    format::print(&args.format, &COLUMNS, rows, &mut out)?;
    Ok(Exit::Done)
}

fn rows(mut inventory: Inventory, filters: &[Filter]) -> Vec<Row> {
    let books = inventory.books;
    inventory
        .entries
        .retain(|entry| Filter::all_take(filters, entry));
    let kinds = inventory.by_kind().into_iter();
    let mut rows: Vec<Row> = kinds
        .map(|(kind, count, size, reclaimable)| Row {
            kind: name(kind),
            count,
            size,
            reclaimable,
        })
        .collect();
    if filters.is_empty() {
        rows.push(Row {
            kind: "records and history",
            count: 1,
            size: books,
            reclaimable: 0,
        });
    }
    let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum();
    let total = Row {
        kind: "total",
        count: rows.iter().map(|row| row.count).sum(),
        size: sum(|row| row.size),
        reclaimable: sum(|row| row.reclaimable),
    };
    rows.push(total);
    rows
}

fn name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Image => "images",
        EntryKind::Container => "containers",
        EntryKind::Step => "steps",
        EntryKind::CacheMount => "cache mounts",
        EntryKind::Repository => "git objects",
        EntryKind::Stray => "unreferenced",
    }
}

const COLUMNS: [Column<Row>; 4] = [
    Column::new("TYPE", "Type", |row| row.kind.to_owned()),
    Column::new("COUNT", "Count", |row| row.count.to_string()),
    Column::new("SIZE", "Size", |row| human::size(row.size)),
    Column::new("RECLAIMABLE", "Reclaimable", |row| {
        human::size(row.reclaimable)
    }),
];
