//! `kiln tag`: one more name for an image.

use kiln_executor::images;
use kiln_image::Reference;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::stored;

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
    if args.target.digest().is_some() {
        return Err(Failure::usage("a new name cannot have a digest"));
    }
    let session = Session::open(config)?;
    let services = session.services()?;
    let image = stored::find(&services, &args.source)?;
    images::tag(&services, &image, &args.target).map_err(Failure::from_engine)?;
    Ok(Exit::Done)
}
