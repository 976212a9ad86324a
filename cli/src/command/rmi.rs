//! `kiln rmi`: take names of images away.

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Remove image names; an image without a name is gone
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not mind images that are not there; remove all names of an id
    #[arg(short, long)]
    force: bool,
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let _ = (args, config);
    Ok(Exit::Done)
}
