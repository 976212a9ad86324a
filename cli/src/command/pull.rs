//! `kiln pull`: an image from a registry into the store.

use kiln_image::{Platform, Reference};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Pull an image from a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which platform of the image [default: this machine's]
    #[arg(long)]
    platform: Option<Platform>,
    /// Print only the image id
    #[arg(short, long)]
    quiet: bool,
    /// NAME[:TAG|@DIGEST]
    #[arg(value_name = "NAME")]
    image: Reference,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let _ = (args, config);
    Ok(Exit::Done)
}
