//! `kiln pull`: an image from a registry into the store.

use std::io::Write;

use kiln_executor::images;
use kiln_image::{Platform, Reference};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Pull an image from a registry, and print its id
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which platform of the image [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// NAME[:TAG|@DIGEST]
    #[arg(value_name = "NAME")]
    image: Reference,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let mode = config.progress(None, args.quiet)?;
    let session = Session::open_with_files(config, None)?;
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let (pulled, _) = session.watch(mode, |watched| {
        images::pull(&watched.services, &args.image, &platform, &watched.reporter)
            .map_err(Failure::from_engine)
    });
    writeln!(std::io::stdout(), "{}", pulled?.record.config)?;
    Ok(Exit::Done)
}
