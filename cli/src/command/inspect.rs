//! `kiln inspect`: all that is known of an image, as JSON.

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Show images in full, as JSON
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `json` prints one object a line instead of an indented list
    #[arg(long, value_enum)]
    format: Option<InspectFormat>,
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// The one format there is besides the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum InspectFormat {
    /// One object a line
    Json,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let _ = (args, config);
    Ok(Exit::Done)
}
