//! `kiln builds rm`: forget builds.

use std::io::Write;

use super::{all, named, not_found};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Remove builds from the history
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    /// Remove all of them; those that are running stay
    #[arg(long, conflicts_with = "builds")]
    all: bool,
    /// Ids or the beginnings of them, or `^N` for the one N before the last
    #[arg(value_name = "BUILD")]
    builds: Vec<String>,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open(config)?;
    let entries = all(&session.store)?;
    let doomed = match args.all {
        true => entries,
        false => {
            let find = |text: &String| named(&entries, text).ok_or_else(|| not_found(Some(text)));
            args.builds.iter().map(find).collect::<Result<_, _>>()?
        }
    };
    let builds = session.store.builds();
    for entry in &doomed {
        if builds.is_running(entry) && !args.all {
            let message = format!("build `{}` is running", entry.id());
            return Err(Failure::new(Exit::Failed, "build-running", message));
        }
        let removed = builds.remove(entry);
        removed.map_err(|error| Failure::from_store(&error))?;
        writeln!(std::io::stdout(), "{}", entry.id())?;
    }
    Ok(Exit::Done)
}
