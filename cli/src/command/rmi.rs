//! `kiln rmi`: take names of images away.

use std::io::Write;

use kiln_executor::images;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::stored;

/// Remove names of images; an image without a name is gone
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not mind images that are not there
    #[arg(short, long)]
    force: bool,
    /// Names, or ids to remove with all their names
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open(config)?;
    let services = session.services()?;
    let mut out = std::io::stdout().lock();
    for text in &args.images {
        match stored::find(&services, text) {
            Err(failure) if args.force && failure.exit == Exit::Failed => continue,
            found => found?,
        };
        let removed = images::remove(&services, text).map_err(Failure::from_engine)?;
        for name in &removed.untagged {
            writeln!(out, "Untagged: {}", name.familiar())?;
        }
        for id in &removed.deleted {
            writeln!(out, "Deleted: {id}")?;
        }
    }
    Ok(Exit::Done)
}
