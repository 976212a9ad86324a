//! `kiln push`: an image from the store to a registry.

use kiln_image::Reference;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Push an image to the registry its name says
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print only the manifest digest
    #[arg(short, long)]
    quiet: bool,
    /// NAME[:TAG]
    #[arg(value_name = "NAME")]
    image: Reference,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let _ = (args, config);
    Ok(Exit::Done)
}
