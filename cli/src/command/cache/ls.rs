//! `kiln cache ls`: everything that takes space, one line each.

use std::io::{self, Write};

use jiff::Timestamp;
use kiln_cache::{Detail, Entry};
use serde::Serialize;

use super::Filter;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{self, Column, FORMAT_HELP, Format};
use crate::human;
use crate::session::Session;

/// List what takes space: results of steps, images, cache mounts, git objects; the last used first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten ids and descriptions
    #[arg(long)]
    no_trunc: bool,
    #[arg(long, default_value = "table", value_name = "FORMAT", help = FORMAT_HELP)]
    format: Format,
    /// Only what is so: type=step|image|container|cache-mount|git|unreferenced, id=START, description=PATTERN, until=DURATION (unused for so
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
    #[serde(skip)]
    shown: Shown,
}

/// What the table has in other words.
#[derive(Debug)]
struct Shown {
    id: String,
    description: String,
    created_since: String,
    last_used_since: String,
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
    if args.quiet {
        for entry in &entries {
            writeln!(out, "{}", super::id(entry, args.no_trunc))?;
        }
        return Ok(Exit::Done);
    }
    let now = Timestamp::now();
    let rows = entries.iter().map(|entry| row(entry, args.no_trunc, now));
    format::print(&args.format, &columns(), rows, &mut out)?;
    Ok(Exit::Done)
}

fn row(entry: &Entry, whole: bool, now: Timestamp) -> Row<'_> {
    let created = entry.created.map(|created| human::age(created, now));
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
        shown: Shown {
            id: super::id(entry, whole),
            description: super::shortened(&entry.description, whole),
            created_since: created.unwrap_or_default(),
            last_used_since: human::age(super::last_used(entry), now),
        },
    }
}

fn columns<'a>() -> [Column<Row<'a>>; 8] {
    [
        Column::new("ID", "ID", |row| row.shown.id.clone()),
        Column::new("TYPE", "Type", |row| row.kind.to_owned()),
        Column::new("SIZE", "Size", |row| human::size(row.size)),
        Column::new("SHARED", "Shared", |row| human::size(row.shared)),
        Column::new("CREATED", "CreatedAt", |row| {
            row.shown.created_since.clone()
        }),
        Column::new("LAST USED", "LastUsedAt", |row| {
            row.shown.last_used_since.clone()
        }),
        Column::new("IN USE", "InUse", |row| row.in_use.to_string()),
        Column::new("DESCRIPTION", "Description", |row| {
            row.shown.description.clone()
        }),
    ]
}
