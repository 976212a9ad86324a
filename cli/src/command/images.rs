//! `kiln images`: what is in the store.

use std::io::{self, Write};

use globset::{GlobBuilder, GlobMatcher};
use jiff::Timestamp;
use kiln_cache::Store;
use kiln_executor::images::StoredImage;
use kiln_image::Reference;
use serde::Serialize;

use crate::args::ListFormat;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::session::Session;
use crate::stored;
use crate::table::{Table, write_json_lines};

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
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: ListFormat,
    /// Only images of this name, with or without a tag; `*`, `?`, `[ab]` and `{a,b}` as in a shell
    #[arg(value_name = "REPOSITORY[:TAG]")]
    filter: Option<String>,
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
    repository: String,
    size: String,
    tag: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let filter = Filter::new(args.filter.as_deref())?;
    let session = Session::open(config)?;
    let mut images = stored::all(&session.services()?)?;
    images.retain(|image| filter.takes(image.reference.as_ref()));
    images.sort_by_key(|image| std::cmp::Reverse(image.record.created_at));
    let rows: Vec<_> = images
        .iter()
        .map(|image| row(args, &session.store, image))
        .collect();
    let mut out = io::stdout().lock();
    match (args.quiet, args.format) {
        (true, _) => write_ids(&rows, &mut out)?,
        (_, ListFormat::Json) => write_json_lines(&rows, &mut out)?,
        (_, ListFormat::Table) => table(&rows, args.digests).write(&mut out)?,
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
        repository: name.map_or_else(none, repository),
        size: human::size(stored::size(store, image.config.diff_ids())),
        tag: name
            .and_then(Reference::tag)
            .map_or_else(none, str::to_owned),
    }
}

/// Which names are listed.
#[derive(Debug)]
enum Filter {
    Everything,
    /// A shell pattern that the whole familiar name must match, with its tag or without; `*` stops at `/`.
    Names(GlobMatcher),
}

impl Filter {
    fn new(asked: Option<&str>) -> Result<Self, Failure> {
        let Some(pattern) = asked else {
            return Ok(Self::Everything);
        };
        // A name spelled out in full is the same name.
        let familiar = pattern
            .strip_prefix("docker.io/library/")
            .or_else(|| pattern.strip_prefix("docker.io/"));
        let glob = GlobBuilder::new(familiar.unwrap_or(pattern))
            .literal_separator(true)
            .build();
        glob.map(|glob| Self::Names(glob.compile_matcher()))
            .map_err(|error| Failure::usage(format!("`{pattern}` is no pattern: {}", error.kind())))
    }

    fn takes(&self, name: Option<&Reference>) -> bool {
        match (self, name) {
            (Self::Everything, _) => true,
            (Self::Names(_), None) => false,
            (Self::Names(pattern), Some(name)) => {
                pattern.is_match(name.familiar()) || pattern.is_match(repository(name))
            }
        }
    }
}

/// The name people write, without its tag.
fn repository(name: &Reference) -> String {
    let familiar = name.familiar();
    let familiar = familiar.split('@').next().unwrap_or_default();
    let tag = name.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    familiar.strip_suffix(&tag).unwrap_or(familiar).to_owned()
}

fn write_ids(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    let mut ids: Vec<_> = rows.iter().map(|row| &row.id).collect();
    ids.dedup();
    ids.iter().try_for_each(|id| writeln!(out, "{id}"))
}

fn table(rows: &[Row], digests: bool) -> Table {
    let digest_heading = digests.then_some("DIGEST");
    let heading: Vec<_> = ["REPOSITORY", "TAG"]
        .into_iter()
        .chain(digest_heading)
        .chain(["IMAGE ID", "CREATED", "SIZE"])
        .collect();
    let mut table = Table::new(&heading);
    for row in rows.iter().cloned() {
        let digest = digests.then_some(row.digest);
        table.row([row.repository, row.tag].into_iter().chain(digest).chain([
            row.id,
            row.created_since,
            row.size,
        ]));
    }
    table
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
    fn the_filter_is_a_pattern_over_names() {
        let name: Reference = "127.0.0.1:5000/team/app:1.2".parse().unwrap();
        let cases = [
            (None, true),
            (Some("127.0.0.1:5000/team/app"), true),
            (Some("127.0.0.1:5000/team/app:1.2"), true),
            (Some("127.0.0.1:5000/team/app:1.3"), false),
            (Some("*/team/app"), true),
            (Some("*/*/a*:1.?"), true),
            (Some("*/app"), false),
            (Some("app"), false),
        ];
        for (filter, expected) in cases {
            assert_eq!(
                Filter::new(filter).unwrap().takes(Some(&name)),
                expected,
                "{filter:?}"
            );
        }
        let alpine: Reference = "alpine".parse().unwrap();
        assert!(
            Filter::new(Some("docker.io/library/alpine"))
                .unwrap()
                .takes(Some(&alpine))
        );
        assert!(!Filter::new(Some("alpine")).unwrap().takes(None));
        assert_eq!(Filter::new(Some("[")).unwrap_err().exit, Exit::Usage);
    }

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
