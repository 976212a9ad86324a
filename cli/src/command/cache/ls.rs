//! `kiln cache ls`: everything that takes space, one line each.

use std::io::{self, Write};

use jiff::Timestamp;
use kiln_cache::{Detail, Entry};
use serde::Serialize;

use super::Filter;
use crate::args::ListFormat;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::session::Session;
use crate::table::{Table, write_json_lines};

/// List what takes space: results of steps, images, cache mounts, git objects; the last used first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten ids and descriptions
    #[arg(long)]
    no_trunc: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: ListFormat,
    /// Only what is so: type=step|image|cache-mount|git|unreferenced, id=START, description=PATTERN, until=DURATION (unused for so
    /// long), inuse=BOOL, shared=BOOL, named=BOOL; may be repeated
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Type")]
    kind: &'static str,
    description: &'a str,
    /// Bytes.
    size: u64,
    /// Bytes.
    shared: u64,
    created_at: Option<Timestamp>,
    last_used_at: Timestamp,
    in_use: bool,
    named: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open_with_files(config, None)?;
    let store = &session.store;
    let held = store.lock_shared();
    let inventory = held.and_then(|_held| store.inventory(Detail::Descriptions));
    let mut entries = inventory
        .map_err(|error| Failure::from_store(&error))?
        .entries;
    entries.retain(|entry| Filter::all_take(&args.filters, entry));
    entries.sort_by_key(|entry| (std::cmp::Reverse(entry.last_used), entry.id.clone()));
    let mut out = io::stdout().lock();
    match (args.quiet, args.format) {
        (true, _) => {
            for entry in &entries {
                writeln!(out, "{}", super::id(entry, args.no_trunc))?;
            }
        }
        (_, ListFormat::Json) => write_json_lines(entries.iter().map(row), &mut out)?,
        (_, ListFormat::Table) => table(&entries, args.no_trunc).write(&mut out)?,
    }
    Ok(Exit::Done)
}

fn row(entry: &Entry) -> Row<'_> {
    Row {
        id: &entry.id,
        kind: entry.kind.name(),
        description: &entry.description,
        size: entry.size,
        shared: entry.shared,
        created_at: entry.created,
        last_used_at: super::last_used(entry),
        in_use: entry.in_use,
        named: entry.named,
    }
}

fn table(entries: &[Entry], whole: bool) -> Table {
    let now = Timestamp::now();
    let mut table = Table::new(&[
        "ID",
        "TYPE",
        "SIZE",
        "SHARED",
        "CREATED",
        "LAST USED",
        "IN USE",
        "DESCRIPTION",
    ]);
    for entry in entries {
        let created = entry.created.map(|created| human::age(created, now));
        table.row([
            super::id(entry, whole),
            entry.kind.name().to_owned(),
            human::size(entry.size),
            human::size(entry.shared),
            created.unwrap_or_default(),
            human::age(super::last_used(entry), now),
            entry.in_use.to_string(),
            super::shortened(&entry.description, whole),
        ]);
    }
    table
}
