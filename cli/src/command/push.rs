//! `kiln push`: an image from the store to a registry.

use std::io::Write;

use kiln_executor::images;
use kiln_image::{Platform, Reference};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::stored;

/// Push an image to the registry its name says, and print it with its digest
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Of an image for several platforms, that for this one alone
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// NAME[:TAG]
    #[arg(value_name = "NAME")]
    image: Reference,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let mode = config.progress(None, args.quiet)?;
    let session = Session::open_with_files(config, None)?;
    let platform = args.platform.as_ref();
    stored::find_for(&session.services()?, &args.image.to_string(), platform)?;
    let (pushed, _) = session.watch(mode, |watched| {
        images::push(&watched.services, &args.image, platform, &watched.reporter)
            .map_err(Failure::from_engine)
    });
    writeln!(std::io::stdout(), "{}@{}", args.image.name(), pushed?)?;
    Ok(Exit::Done)
}
