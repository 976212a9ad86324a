//! `kiln cache rm`: remove some things by id.

use std::io::{self, Write};

use kiln_cache::{Detail, Entry, EntryKind, Limits, Policy};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Remove results of steps, cache mounts and git objects by the ids that `kiln cache ls` shows
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids, or beginnings of them that mean one thing
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open_with_files(config, None)?;
    let failed = |error| Failure::from_store(&error);
    let store = &session.store;
    let held = store.lock_shared();
    let inventory = held.and_then(|_held| store.inventory(Detail::Sizes));
    let entries = inventory.map_err(failed)?.entries;
    let wanted = args
        .ids
        .iter()
        .map(|id| find(&entries, id))
        .collect::<Result<Vec<_>, _>>()?;
    let takes = |entry: &Entry| wanted.contains(&entry.id.as_str());
    let policy = Policy {
        takes: &takes,
        limits: Limits::default(),
        memory_since: None,
    };
    let plan = store
        .collect(&policy, Detail::Sizes)
        .map_err(failed)?
        .ok_or_else(super::in_use)?;
    writeln!(io::stdout(), "Removed {}", super::told(&plan.freed))?;
    Ok(Exit::Done)
}

/// The whole id of what `start` means.
fn find<'e>(entries: &'e [Entry], start: &str) -> Result<&'e str, Failure> {
    let start = start.to_ascii_lowercase();
    let mut found = entries.iter().filter(|entry| entry.id.starts_with(&start));
    let missing = || {
        Failure::new(
            Exit::Failed,
            "cache-entry-not-found",
            format!("nothing in the cache has the id `{start}`"),
        )
        .help("`kiln cache ls` shows what there is")
    };
    let entry = found.next().ok_or_else(missing)?;
    if found.any(|other| other.id != entry.id) {
        return Err(Failure::usage(format!("several ids begin with `{start}`"))
            .help("write more of it; `kiln cache ls --no-trunc` shows all"));
    }
    match entry {
        Entry { in_use: true, .. } => Err(Failure::environment(format!(
            "`{start}` is in use, so nothing was removed"
        ))),
        Entry {
            kind: EntryKind::Image,
            ..
        } => {
            Err(Failure::usage(format!("`{start}` is an image")).help("`kiln rmi` removes images"))
        }
        Entry {
            kind: EntryKind::Container,
            ..
        } => Err(Failure::usage(format!("`{start}` is a container"))
            .help("`kiln rm` removes containers")),
        entry => Ok(&entry.id),
    }
}
