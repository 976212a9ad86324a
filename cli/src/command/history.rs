//! `kiln history`: how an image came to be, newest step first.

mod waste;

use std::io::{self, Write};

use jiff::Timestamp;
use kiln_cache::Store;
use kiln_executor::images::StoredImage;
use kiln_image::{History, Platform};
use serde::Serialize;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{self, Column, FORMAT_HELP, Format};
use crate::human;
use crate::render::shown;
use crate::session::Session;
use crate::stored;
use crate::waste_report::shortened;

const YEAR_2000: Timestamp = Timestamp::constant(946_684_800, 0);

/// Show the steps an image was made by
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Sizes and dates for people; `--human=false` prints bytes and moments
    #[arg(
        short = 'H',
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    human: bool,
    /// Show for each layer what it has that no container sees, that is there twice, or that is a cache left behind
    #[arg(long, conflicts_with_all = ["quiet", "human"])]
    waste: bool,
    #[arg(long, default_value = "table", value_name = "FORMAT", help = FORMAT_HELP)]
    format: Format,
    /// Which platform of the image [default: this machine's, or else the first]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
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
    if args.waste {
        return waste::run(args, config);
    }
    let session = Session::open(config)?;
    let image = stored::find_for(&session.services()?, &args.image, args.platform.as_ref())?;
    let rows = rows(args, &session.store, &image);
    let mut out = io::stdout().lock();
    if args.quiet {
        rows.iter()
            .try_for_each(|row| writeln!(out, "{}", row.id))?;
        return Ok(Exit::Done);
    }
    format::print(&args.format, &columns(args.human), rows, &mut out)?;
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
        .map(|(entry, size)| row(args, entry, size))
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

fn row(args: &Args, entry: &History, size: u64) -> Row {
    let created = stored::moment(entry.created.as_deref());
    Row {
        comment: entry.comment.clone(),
        created_at: created.map_or_else(String::new, |at| {
            at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
        }),
        created_by: if args.no_trunc {
            entry.created_by.clone()
        } else {
            shortened(&entry.created_by)
        },
        // A date of long ago stands for none, as in builds that can be repeated: Docker doesn't show how long it is, either.
        created_since: created
            .filter(|at| *at > YEAR_2000)
            .map_or_else(|| "N/A".to_owned(), |at| human::age(at, Timestamp::now())),
        id: "<missing>".to_owned(),
        size: match args.human {
            true => human::size(size),
            false => size.to_string(),
        },
    }
}

fn columns(human: bool) -> [Column<Row>; 5] {
    [
        Column::new("IMAGE", "ID", |row| row.id.clone()),
        match human {
            true => Column::new("CREATED", "CreatedSince", |row| row.created_since.clone()),
            false => Column::new("CREATED AT", "CreatedAt", |row| row.created_at.clone()),
        },
        Column::new("CREATED BY", "CreatedBy", |row| shown(&row.created_by)),
        Column::new("SIZE", "Size", |row| row.size.clone()),
        Column::new("COMMENT", "Comment", |row| row.comment.clone()),
    ]
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
}
