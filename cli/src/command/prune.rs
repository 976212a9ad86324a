//! `kiln prune`: give back the space of what nothing refers to.

use std::io::Write;
use std::time::SystemTime;

use kiln_cache::Policy;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::session::Session;

/// Remove images without a name, and layers that nothing refers to
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove the build cache too: the next build does every step again
    #[arg(short, long)]
    all: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open_with_files(config, None)?;
    let policy = Policy {
        records_used_since: args.all.then(SystemTime::now),
        untagged_images: true,
    };
    let freed = session
        .store
        .collect(&policy)
        .map_err(|error| Failure::from_store(&error))?
        .ok_or_else(|| {
            Failure::environment("the store is in use by another kiln, so nothing was removed")
                .help("try again when its build has ended")
        })?;
    writeln!(
        std::io::stdout(),
        "Removed {} images, {} cache records, {} layers, {} blobs\nReclaimed {}",
        freed.images,
        freed.records,
        freed.layers,
        freed.blobs,
        human::size(freed.bytes)
    )?;
    Ok(Exit::Done)
}
