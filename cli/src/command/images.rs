//! `kiln images`: what is in the store.

pub(crate) mod filter;

use std::collections::HashSet;
use std::io::{self, Write};

use jiff::Timestamp;
use kiln_cache::Store;
use kiln_executor::images::StoredImage;
use kiln_image::{Platform, Reference};
use serde::Serialize;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{self, Column, FORMAT_HELP, Format};
use crate::human;
use crate::session::Session;
use crate::stored;
use filter::{Filter, Filters, Pattern};

/// List images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show only image ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// Show manifest digests
    #[arg(long)]
    digests: bool,
    #[arg(long, default_value = "table", value_name = "FORMAT", help = FORMAT_HELP)]
    format: Format,
    /// Show all images. There are no hidden ones: every image of the store is listed without it too
    #[arg(short, long)]
    all: bool,
    /// Only images that are so: dangling=BOOL (without a name), label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME, reference=PATTERN;
    /// may be repeated
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// Only images of this name, with or without a tag; `*`, `?`, `[ab]` and `{a,b}` as in a shell
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<Pattern>,
}

/// A line of the list, with Docker's names for its fields.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    created_at: String,
    created_since: String,
    digest: String,
    #[serde(rename = "ID")]
    id: String,
    platform: String,
    repository: String,
    size: String,
    tag: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open(config)?;
    let services = session.services()?;
    let filters = Filters::new(&args.filters, args.name.as_ref(), &services)?;
    let mut images = stored::all(&services)?;
    images.retain(|image| filters.takes(image));
    images.sort_by_key(|image| std::cmp::Reverse(image.record.created_at));
    // Where all are for this machine, that goes without saying.
    let host = Platform::host();
    let is_foreign = |image: &StoredImage| host.preference(&image.config.platform()).is_none();
    let platforms = images.iter().any(is_foreign);
    let rows = images.iter().map(|image| row(args, &session.store, image));
    let mut out = io::stdout().lock();
    match args.quiet {
        true => write_ids(rows, &mut out)?,
        false => format::print(
            &args.format,
            &columns(args.digests, platforms),
            rows,
            &mut out,
        )?,
    }
    Ok(Exit::Done)
}

fn row(args: &Args, store: &Store, image: &StoredImage) -> Row {
    let name = image.reference.as_ref();
    let created = stored::moment(image.config.created.as_deref());
    Row {
        created_at: created.map_or_else(unknown, in_full),
        created_since: created.map_or_else(unknown, |at| human::age(at, Timestamp::now())),
        digest: image
            .record
            .manifest
            .as_ref()
            .map_or_else(none, |manifest| manifest.digest.to_string()),
        id: stored::id(image.record.config, args.no_trunc),
        platform: image.config.platform().to_string(),
        repository: name.map_or_else(none, repository),
        size: human::size(stored::size(store, image.config.diff_ids())),
        tag: name
            .and_then(Reference::tag)
            .map_or_else(none, str::to_owned),
    }
}

/// The name people write, without its tag.
pub(super) fn repository(name: &Reference) -> String {
    let familiar = name.familiar();
    let familiar = familiar.split('@').next().unwrap_or_default();
    let tag = name.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    familiar.strip_suffix(&tag).unwrap_or(familiar).to_owned()
}

/// Each id once.
fn write_ids(rows: impl Iterator<Item = Row>, out: &mut dyn Write) -> io::Result<()> {
    let mut seen = HashSet::new();
    let mut ids = rows.map(|row| row.id).filter(|id| seen.insert(id.clone()));
    ids.try_for_each(|id| writeln!(out, "{id}"))
}

fn columns(digests: bool, platforms: bool) -> Vec<Column<Row>> {
    let mut columns: Vec<Column<Row>> = vec![
        Column::new("REPOSITORY", "Repository", |row| row.repository.clone()),
        Column::new("TAG", "Tag", |row| row.tag.clone()),
        Column::new("IMAGE ID", "ID", |row| row.id.clone()),
        Column::new("CREATED", "CreatedSince", |row| row.created_since.clone()),
        Column::new("SIZE", "Size", |row| row.size.clone()),
    ];
    if platforms {
        let platform = Column::new("PLATFORM", "Platform", |row: &Row| row.platform.clone());
        columns.insert(3, platform);
    }
    if digests {
        columns.insert(2, Column::new("DIGEST", "Digest", |row| row.digest.clone()));
    }
    columns
}

fn none() -> String {
    "<none>".to_owned()
}

fn unknown() -> String {
    "N/A".to_owned()
}

/// A moment as Docker writes it: `2026-11-21 12:00:00 +0000 UTC`.
fn in_full(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn repositories_have_no_tag() {
        let cases = [
            ("alpine:3", "alpine"),
            ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b"),
            ("ghcr.io/x/y", "ghcr.io/x/y"),
        ];
        for (name, expected) in cases {
            assert_eq!(repository(&name.parse().unwrap()), expected);
        }
    }

    #[test]
    fn moments_are_written_as_docker_does() {
        assert_eq!(
            in_full(Timestamp::UNIX_EPOCH),
            "1970-01-01 00:00:00 +0000 UTC"
        );
    }
}
