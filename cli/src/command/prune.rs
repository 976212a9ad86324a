//! `kiln prune`: give back the space of what nothing refers to.

use std::io::Write;
use std::time::{Duration, SystemTime};

use kiln_cache::{Detail, Entry, EntryKind, Limits, Policy};

use crate::command::cache::{self, Filter};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Remove images without a name, containers, and layers that nothing refers to
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove the build cache too, with its cache mounts: the next build does every step again
    #[arg(short, long)]
    all: bool,
    /// Don't ask first, which is not done without it either
    #[arg(short, long)]
    force: bool,
    /// As for `kiln cache ls`; all else stays
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open_with_files(config, None)?;
    let takes = |entry: &Entry| {
        let dangling = matches!(
            entry.kind,
            EntryKind::Image | EntryKind::Container | EntryKind::Stray
        );
        (args.all || dangling) && Filter::all_take(&args.filters, entry)
    };
    let everything = args.all && args.filters.is_empty();
    let policy = Policy {
        takes: &takes,
        limits: Limits::default(),
        memory_since: everything.then(|| SystemTime::now() + Duration::from_secs(1)),
    };
    let plan = session
        .store
        .collect(&policy, Detail::Descriptions)
        .map_err(|error| Failure::from_store(&error))?
        .ok_or_else(cache::in_use)?;
    writeln!(std::io::stdout(), "Removed {}", cache::told(&plan.freed))?;
    Ok(Exit::Done)
}
