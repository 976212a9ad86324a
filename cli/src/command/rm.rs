//! `kiln rm`: remove containers that ended.

use std::io::Write;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::stored;

/// Remove containers that ended; what they changed goes with the next collection
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not mind containers that are not there
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open(config)?;
    let services = session.services()?;
    let mut out = std::io::stdout().lock();
    let mut missing: Option<Failure> = None;
    for text in &args.containers {
        match stored::container(&services, text) {
            Err(failure) if args.force && failure.exit == Exit::Failed => {}
            Err(failure) => match &mut missing {
                Some(known) => known.reports.extend(failure.reports),
                None => missing = Some(failure),
            },
            Ok(container) => {
                let containers = session.store.containers();
                let removed = containers.remove(&container.id);
                removed.map_err(|error| Failure::from_store(&error))?;
                writeln!(out, "{text}")?;
            }
        }
    }
    missing.map_or(Ok(Exit::Done), Err)
}
